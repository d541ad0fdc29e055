//! Compiles a model for the device, lets the host's scalar reference learn what the device will learn, and hands all of
//! it to the firmware: files, sizes, and what must come of them. Which model is in `build/sources`.

use std::fs;
use std::path::{Path, PathBuf};

use ingraft_adapter::Base;
use ingraft_tensor::bytes;
use ingraft_tensor::hash::blake3;

use cores::{device, machine};
use kernels::Adapters;
use learn::Codes;
use lesson::{Lesson, codes, stored};
use normality::Normal;

#[path = "build/aligned.rs"]
mod aligned;
#[path = "build/cores.rs"]
mod cores;
#[path = "build/kernels.rs"]
mod kernels;
#[path = "src/learn.rs"]
#[allow(dead_code, reason = "the firmware uses the rest")]
mod learn;
#[path = "build/lesson.rs"]
mod lesson;
#[path = "src/normal.rs"]
#[allow(dead_code, reason = "the firmware uses the rest")]
mod normal;
#[path = "build/normal.rs"]
mod normality;
#[path = "build/recorded.rs"]
mod recorded;
#[path = "build/sources/mod.rs"]
mod sources;

fn main() {
    let out = PathBuf::from(std::env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    let write = |name: &str, bytes: &[u8]| fs::write(out.join(name), bytes).expect("OUT_DIR is writable");
    write("memory.x", &fs::read(format!("boards/{}.x", machine())).expect("the board is described"));
    println!("cargo:rustc-link-search={}", out.display());
    if cfg!(feature = "defmt") {
        println!("cargo:rustc-link-arg-bins=-Tdefmt.x");
    }
    for path in ["boards", "build", "build.rs", "src/learn.rs", "src/normal.rs"] {
        println!("cargo:rerun-if-changed={path}");
    }
    for name in ["INGRAFT_DATA", "INGRAFT_FIRMWARE_MODEL"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let lesson = Lesson::new(sources::chosen(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")));
    write("base.plan", lesson.file.bytes());
    write("laboratory.adapter", lesson.laboratory.bytes());
    write("examples", &stored(&lesson.clips.examples));
    write("held_out", &stored(&lesson.clips.held_out));
    write("model.rs", constants(&lesson).as_bytes());
    if cfg!(feature = "anomaly") {
        let normal = Normal::new();
        write("anomaly.plan", normal.file.bytes());
        write("anomaly.adapter", normal.laboratory.bytes());
        write("anomaly.examples", bytes::of(&normal.examples));
        write("anomaly.clips", &stored(&normal.clips));
        write("anomaly.rs", anomaly(&normal).as_bytes());
    }
}

/// The constants of the firmware that hears what is out of order.
fn anomaly(normal: &Normal) -> String {
    let (plan, right) = (normal.plan(), normal.right());
    println!("cargo:warning=the autoencoder: right on held-out clips {right:?} of {}", normal.clips.len());
    format!(
        "/// Values of a window.\npub(crate) const WINDOW: usize = {};\n\
         /// Values of a clip.\nconst CLIP: usize = {};\n\
         /// What codes of windows stand for.\npub(crate) const CODES: Codes = {};\n\
         /// Above which error a clip is out of order with the laboratory's adapter.\npub(crate) const LIMIT: f32 = {:?};\n\
         /// Bytes that inference and training take, one after the other.\npub(crate) const MEMORY_BYTES: usize = {};\n\
         /// Bytes that the file of the factors takes, at most.\npub(crate) const ADAPTER_BYTES: usize = {};\n\
         /// What the host's reference makes of the same windows.\npub(crate) const EXPECTED: Expected = Expected {{ \
         base_output: {:?}, learned: {:?}, right: {right:?} }};\n\
         /// The rows that the plan runs, and no others.\nconst KERNELS: &[ingraft_kernel::Kernel] = {};\n",
        normality::WINDOW,
        normal.clips[0].1.len(),
        literal(codes(&plan)),
        normal.limit(),
        normal.memory(&device()),
        normality::ADAPTER_BYTES,
        blake3(bytes::of(&normal.base_output())),
        blake3(normal.learned.bytes()),
        kernels::list(&plan, &device(), Adapters { heads: false, any_term: true }),
    )
}

fn literal(codes: Codes) -> String {
    format!("Codes {{ scale: {:?}, zero_point: {} }}", codes.scale, codes.zero_point)
}

/// The firmware's constants.
fn constants(lesson: &Lesson) -> String {
    let (plan, model) = (lesson.plan(), &lesson.model);
    let (right, [laboratory, _]) = (lesson.right(), lesson.adapters());
    let (_, first) = lesson.clips.held_out.first().expect("there are clips");
    let ((base_class, base_output), (laboratory_class, _)) =
        (lesson.classify(first, &Base), lesson.classify(first, &laboratory));
    let (infer, memory) = lesson.memory(&device());
    let output =
        plan.outputs().next().and_then(|io| plan.tensor(io.tensor)).expect("the model has an output");
    println!(
        "cargo:warning={}: right on held-out clips {right:?} of {}",
        model.name,
        lesson.clips.held_out.len()
    );
    format!(
        "/// The model, and what it hears.\npub const NAME: &str = {:?};\n\
         /// Class names, one per line.\npub const LABELS: &str = {:?};\n\
         /// Classes of a head.\npub const CLASSES: usize = {};\n\
         /// Classes of the base.\npub const LOGITS: usize = {};\n\
         /// Values of a window.\npub const WINDOW: usize = {};\n\
         /// Values of a frame, of which a window has several.\npub const FRAME: usize = {};\n\
         /// What codes of clips stand for.\npub const CODES: Codes = {};\n\
         /// Clips to judge by.\npub const HELD_OUT_CLIPS: usize = {};\n\
         /// Features of all stored clips.\npub const FEATURE_VALUES: usize = {};\n\
         /// Bytes that inference takes.\npub const INFER_BYTES: usize = {infer};\n\
         /// Bytes that inference and training take, one after the other.\npub const MEMORY_BYTES: usize = {};\n\
         /// Bytes that the file of a head takes, at most.\npub const ADAPTER_BYTES: usize = {};\n\
         /// What the host's reference makes of the same clips.\npub const EXPECTED: Expected = Expected {{ base_class: \
         {base_class}, laboratory_class: {laboratory_class}, base_output: {:?}, learned: {:?}, right: {right:?} }};\n\
         /// The rows that the plan runs, and no others.\npub const KERNELS: &[ingraft_kernel::Kernel] = {};\n",
        model.name,
        model.labels.join("\n"),
        model.labels.len(),
        output.operand.shape.elements(),
        model.window(),
        model.frame,
        literal(codes(&plan)),
        lesson.clips.held_out.len(),
        lesson.feature_values(),
        memory,
        bytes::align_up(lesson.adapter_bytes()),
        blake3(&base_output),
        blake3(lesson.learned.bytes()),
        kernels::list(&plan, &device(), Adapters { heads: true, any_term: false }),
    )
}
