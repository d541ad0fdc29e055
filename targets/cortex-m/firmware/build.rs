//! Compiles a model for the device, lets the host's scalar reference learn what the device will learn, and hands all of
//! it to the firmware: files, sizes, and what must come of them.
//!
//! The model is MLPerf Tiny's keyword spotter with recorded words where the development data is there (`INGRAFT_DATA`, or
//! `../shared/data` beside the repository), else the built-in one with synthesized sounds; `INGRAFT_FIRMWARE_MODEL=built-in`
//! asks for the latter.

use std::fs;
use std::path::{Path, PathBuf};

use ingraft_adapter::{Adapter, Base, TermSource};
use ingraft_compile::{CompileOptions, compile};
use ingraft_exec::{MemoryNeeds, Session};
use ingraft_kernel::{Host, OpCode, Sites};
use ingraft_plan::{Phase, PlanView};
use ingraft_tensor::bytes;
use ingraft_tensor::hash::blake3;

use aligned::Aligned;
use cores::{device, machine};
use kernels::Adapters;
use learn::{Codes, Example, Room};
use sounds::Sounds;

#[path = "build/aligned.rs"]
mod aligned;
#[path = "build/cores.rs"]
mod cores;
#[path = "build/kernels.rs"]
mod kernels;
#[path = "src/learn.rs"]
#[allow(dead_code, reason = "the firmware uses the rest")]
mod learn;
#[path = "build/sounds.rs"]
mod sounds;

fn main() {
    let out = PathBuf::from(std::env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    let write = |name: &str, bytes: &[u8]| fs::write(out.join(name), bytes).expect("OUT_DIR is writable");
    write("memory.x", &fs::read(format!("boards/{}.x", machine())).expect("the board is described"));
    println!("cargo:rustc-link-search={}", out.display());
    for path in ["boards", "build", "build.rs", "src/learn.rs"] {
        println!("cargo:rerun-if-changed={path}");
    }
    for name in ["INGRAFT_DATA", "INGRAFT_FIRMWARE_MODEL"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let model = match data() {
        Some(folder) => sounds::words(&folder),
        None => sounds::motors(),
    };
    let mut options = CompileOptions { head_classes: model.labels.len() as u32, ..CompileOptions::default() };
    options.import.dims.insert("N".into(), 1);
    let file = compile(&model.onnx, &options).unwrap_or_else(|error| panic!("the model: {error}")).plan;
    let file = Aligned::new(&file);
    let plan = PlanView::new(file.bytes()).expect("a plan we wrote is valid");
    let codes = input_codes(&plan);
    let sounds = model.sounds(codes);
    let (laboratory, learned) =
        (learn_from(&plan, &model, &sounds.laboratory), learn_from(&plan, &model, &sounds.examples));
    write("base.plan", file.bytes());
    write("laboratory.adapter", laboratory.bytes());
    write("examples", &stored(&sounds.examples));
    write("held_out", &stored(&sounds.held_out));
    let constants = constants(&plan, &model, codes, [&laboratory, &learned], &sounds);
    write("model.rs", constants.as_bytes());
}

/// The development data, where it is and is wanted.
fn data() -> Option<PathBuf> {
    if std::env::var("INGRAFT_FIRMWARE_MODEL").is_ok_and(|model| model == "built-in") {
        return None;
    }
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared/data");
    let folder = std::env::var("INGRAFT_DATA").map_or(beside, PathBuf::from);
    folder.join(sounds::WORDS_MODEL).exists().then_some(folder)
}

/// What the codes of the model's input stand for: its first step quantizes.
fn input_codes(plan: &PlanView<'_>) -> Codes {
    let step = plan.step(Phase::Infer, 0).filter(|step| step.op == OpCode::Quantize).expect("a real input");
    let tensor = step.outputs.first().and_then(|tensor| plan.tensor(*tensor));
    let qparams = tensor.and_then(|tensor| tensor.qparams).expect("codes have parameters");
    Codes { scale: qparams.scale, zero_point: qparams.zero_point }
}

/// What the host's reference learns of `clips`.
fn learn_from(plan: &PlanView<'_>, model: &Sounds, clips: &[(usize, Vec<i8>)]) -> Aligned {
    let classes = model.labels.len();
    let bytes = learn::memory(plan, &Host::SCALAR, classes as u32).unwrap_or_else(|error| panic!("{error}"));
    let (mut memory, mut file) = (Aligned::zeroed(bytes), Aligned::zeroed(adapter_bytes(plan, classes)));
    let (mut input, mut features) = (vec![0.0; model.window()], vec![0.0; clips.len() * features(plan)]);
    let examples = clips.iter().map(|(class, codes)| Example { codes, class: *class });
    let room = Room { input: &mut input, features: &mut features };
    let labels = model.labels.join("\n");
    let learned = learn::learn(
        (*plan, &Host::SCALAR),
        examples,
        (input_codes(plan), &labels),
        memory.bytes_mut(),
        room,
        file.bytes_mut(),
    );
    Aligned::new(learned.unwrap_or_else(|error| panic!("the host learns: {error:?}")))
}

fn features(plan: &PlanView<'_>) -> usize {
    plan.head_features(ingraft_kernel::NO_SITE, 0).expect("the model has a last layer")
}

/// More than the file of a head takes.
fn adapter_bytes(plan: &PlanView<'_>, classes: usize) -> usize {
    1024 + 4 * (features(plan) + 1) * classes + 4 * plan.site_count()
}

/// Clips one behind the other, each a byte for its class and its codes.
fn stored(clips: &[(usize, Vec<i8>)]) -> Vec<u8> {
    clips
        .iter()
        .flat_map(|(class, codes)| [*class as u8].into_iter().chain(codes.iter().map(|code| *code as u8)))
        .collect()
}

/// What the base and an adapter make of a clip: the class, and the hash of the first output.
fn classify<S: TermSource>(plan: PlanView<'_>, codes: Codes, clip: &[i8], source: &S) -> (usize, [u8; 32]) {
    let needs = MemoryNeeds::new(&plan, Phase::Infer, &Host::SCALAR).expect("the reference runs every step");
    let (mut memory, mut input) = (Aligned::zeroed(needs.total()), vec![0.0; clip.len()]);
    let mut session =
        Session::bind(plan, Phase::Infer, &Host::SCALAR, memory.bytes_mut()).expect("memory suffices");
    codes.read(clip, &mut input);
    session.write_input(0, bytes::of(&input)).expect("the input has this length");
    session.run(source).expect("bound steps run");
    let output = session.output(0).expect("the model has an output");
    let mut logits: Vec<f32> = output.as_slice().map(<[f32]>::to_vec).expect("the output is real");
    let hash = blake3(output.bytes());
    if let Some(head) = source.head() {
        logits = vec![0.0; head.classes];
        session.read_logits(0, &mut logits).expect("the head has run");
    }
    let best = logits.iter().enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
    (best.expect("there are classes").0, hash)
}

/// The firmware's constants.
fn constants(
    plan: &PlanView<'_>,
    model: &Sounds,
    codes: Codes,
    adapters: [&Aligned; 2],
    sounds: &sounds::Clips,
) -> String {
    let [laboratory, learned] =
        adapters.map(|file| Adapter::attach(file.bytes(), plan).expect("it fits its base"));
    let right = [&laboratory, &learned].map(|adapter| {
        let hits =
            sounds.held_out.iter().filter(|(class, clip)| classify(*plan, codes, clip, adapter).0 == *class);
        hits.count() as u32
    });
    let (_, first) = sounds.held_out.first().expect("there are clips");
    let ((base_class, base_output), (laboratory_class, _)) =
        (classify(*plan, codes, first, &Base), classify(*plan, codes, first, &laboratory));
    let classes = model.labels.len();
    let infer =
        MemoryNeeds::new(plan, Phase::Infer, &device()).expect("every target runs every step").total();
    let train = learn::memory(plan, &device(), classes as u32).expect("the host trained it");
    let output =
        plan.outputs().next().and_then(|io| plan.tensor(io.tensor)).expect("the model has an output");
    println!("cargo:warning={}: right on held-out clips {right:?} of {}", model.name, sounds.held_out.len());
    format!(
        "/// The model, and what it hears.\npub const NAME: &str = {:?};\n\
         /// Class names, one per line.\npub const LABELS: &str = {:?};\n\
         /// Classes of a head.\npub const CLASSES: usize = {classes};\n\
         /// Classes of the base.\npub const LOGITS: usize = {};\n\
         /// Values of a window.\npub const WINDOW: usize = {};\n\
         /// Values of a frame, of which a window has several.\npub const FRAME: usize = {};\n\
         /// What codes of clips stand for.\npub const CODES: Codes = Codes {{ scale: {:?}, zero_point: {} }};\n\
         /// Clips to judge by.\npub const HELD_OUT_CLIPS: usize = {};\n\
         /// Features of all stored clips.\npub const FEATURE_VALUES: usize = {};\n\
         /// Bytes that inference takes.\npub const INFER_BYTES: usize = {infer};\n\
         /// Bytes that inference and training take, one after the other.\npub const MEMORY_BYTES: usize = {};\n\
         /// Bytes that the file of a head takes, at most.\npub const ADAPTER_BYTES: usize = {};\n\
         /// What the host's reference makes of the same clips.\npub const EXPECTED: Expected = Expected {{ base_class: \
         {base_class}, laboratory_class: {laboratory_class}, base_output: {base_output:?}, learned: {:?}, right: {right:?} }};\n\
         /// The rows that the plan runs, and no others.\npub const KERNELS: &[ingraft_kernel::Kernel] = {};\n",
        model.name,
        model.labels.join("\n"),
        output.operand.shape.elements(),
        model.window(),
        model.frame,
        codes.scale,
        codes.zero_point,
        sounds.held_out.len(),
        sounds.examples.len() * features(plan),
        infer.max(train),
        bytes::align_up(adapter_bytes(plan, classes)),
        blake3(learned_bytes(adapters)),
        kernels::list(plan, &device(), Adapters { heads: true, any_term: false }),
    )
}

fn learned_bytes([_, learned]: [&Aligned; 2]) -> &[u8] {
    learned.bytes()
}
