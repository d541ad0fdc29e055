//! MLPerf Tiny's keyword spotter, the recorded words of the development data, and the class that the host hears in each.

use std::path::Path;

use ingraft_compile::{CompileOptions, compile};
use ingraft_exec::{MemoryNeeds, Session};
use ingraft_kernel::Host;
use ingraft_plan::{Phase, PlanView};

use super::hear::hear;
use super::kernels::{Adapters, list};
use super::recorded::{CODES, FRAME, FRAMES, MODEL, Words, folder, read};
use super::{Aligned, device};

/// Values of a word.
const WINDOW: usize = FRAMES * FRAME;
/// What is written: the plan, codes of the words, the class of each, and the one that the host hears.
const FILES: [&str; 4] = ["keywords.plan", "keywords.codes", "keywords.classes", "keywords.heard"];

/// Writes plan, words, their classes and those that the host hears; gives constants for the firmware.
pub(crate) fn constants(write: &dyn Fn(&str, &[u8])) -> String {
    println!("cargo:rerun-if-env-changed=INGRAFT_DATA");
    let data = folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    if !data.join(MODEL).exists() {
        println!(
            "cargo:warning=keywords: no {MODEL} in INGRAFT_DATA; the device will hear nothing, and say so"
        );
        FILES.into_iter().for_each(|name| write(name, &[]));
        return rows(0, 0, "&[]");
    }
    let mut options = CompileOptions::default();
    options.import.dims.insert("N".into(), 1);
    let file =
        Aligned::new(&compile(&read(&data, MODEL), &options).expect("the keyword spotter compiles").plan);
    let plan = PlanView::new(file.bytes()).expect("a plan we wrote is valid");
    let words = Words::read(&data);
    let classes: Vec<u8> = words.classes.iter().map(|(class, _)| *class as u8).collect();
    let heard = heard(plan, &words.codes);
    let right = heard.iter().zip(&classes).filter(|(heard, class)| heard == class).count();
    let files: [&[u8]; 4] = [file.bytes(), &words.codes, &classes, &heard];
    FILES.into_iter().zip(files).for_each(|(name, bytes)| write(name, bytes));
    let needs = MemoryNeeds::new(&plan, Phase::Infer, &device()).expect("every target runs every step");
    rows(right, needs.total(), &list(&plan, &device(), Adapters { heads: false, any_term: false }))
}

/// The constants.
fn rows(right: usize, bytes: usize, kernels: &str) -> String {
    format!(
        "/// Values of a word.\nconst WINDOW: usize = {WINDOW};\n\
         /// What its codes stand for.\nconst CODES: Codes = Codes {{ scale: {:?}, zero_point: {} }};\n\
         /// Words of which the host hears the right class.\nconst RIGHT: usize = {right};\n\
         /// Bytes that a session needs.\nconst BYTES: usize = {bytes};\n\
         /// The rows that the plan runs, and no others.\nconst KERNELS: &[ingraft_kernel::Kernel] = {kernels};\n",
        CODES.scale, CODES.zero_point,
    )
}

/// The class that the host's reference hears in each word.
fn heard(plan: PlanView<'_>, codes: &[u8]) -> Vec<u8> {
    let needs = MemoryNeeds::new(&plan, Phase::Infer, &Host::SCALAR).expect("the reference runs every step");
    let mut memory = Aligned::zeroed(needs.total());
    let mut session =
        Session::bind(plan, Phase::Infer, &Host::SCALAR, memory.bytes_mut()).expect("memory suffices");
    let mut window = [0.0; WINDOW];
    let words = codes.chunks_exact(WINDOW);
    words.map(|word| hear(&mut session, CODES, word, &mut window).expect("bound steps run") as u8).collect()
}
