//! Compiles the built-in model for the device, runs and trains it once on the
//! host's scalar reference, and hands both to the firmware: files, and what the
//! device must get from them.

use std::fs;
use std::path::Path;

use ingraft_adapter::{Adapter, AdapterBuilder, AdapterFacts, Base, TermSource, TermSpec};
use ingraft_compile::lower::train::TrainFrom;
use ingraft_compile::{CompileOptions, compile};
use ingraft_exec::{MemoryNeeds, Session};
use ingraft_kernel::{Host, SiteDesc, SiteKind, Sites};
use ingraft_plan::{Phase, PlanView};
use ingraft_signal::Recipe;
use ingraft_tensor::bytes;

// What the conformance suite calls the facade, of which it needs these two.
extern crate self as ingraft;
pub(crate) use ingraft_kernel as kernel;
pub(crate) use ingraft_tensor as tensor;

use aligned::Aligned;
use cores::{device, machine};

#[path = "../../targets/cortex-m/firmware/build/aligned.rs"]
mod aligned;
#[path = "build/conformance.rs"]
mod conformance;
#[path = "../../targets/cortex-m/firmware/build/cores.rs"]
mod cores;
#[path = "build/count.rs"]
mod count;
#[path = "src/hear.rs"]
mod hear;
#[path = "../../targets/cortex-m/firmware/build/kernels.rs"]
mod kernels;
#[path = "build/keywords.rs"]
mod keywords;
#[path = "../../targets/cortex-m/firmware/src/learn.rs"]
#[allow(dead_code, reason = "the device uses the rest")]
mod learn;
#[path = "../../targets/cortex-m/firmware/build/recorded.rs"]
#[allow(dead_code, reason = "the firmware uses the rest")]
mod recorded;
#[path = "src/training.rs"]
mod training;

fn main() {
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let out = Path::new(&out);
    let write = |name: &str, bytes: &[u8]| fs::write(out.join(name), bytes).expect("OUT_DIR is writable");
    write("memory.x", &fs::read(format!("machines/{}.x", machine())).expect("the machine is described"));
    let infer = inference(&write);
    let (train, learned) = learning(&write);
    write("conformance.cases", &conformance::file());
    let mut constants = format!(
        "/// Bytes a session of [`PLAN`] needs.\npub const INFER_BYTES: usize = {infer};\n\
         /// Bytes the training run needs, at most.\npub const TRAIN_BYTES: usize = {train};\n\
         /// What the host's reference learns.\npub const LEARNED: crate::training::Learned = \
         crate::training::{learned:?};\n",
    );
    constants.push_str(&count::constants(&write));
    write("host.rs", constants.as_bytes());
    write("keywords.rs", keywords::constants(&write).as_bytes());
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rerun-if-changed=machines");
    println!("cargo:rerun-if-changed=src/hear.rs");
    println!("cargo:rerun-if-changed=src/training.rs");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=build");
    println!("cargo:rerun-if-changed=../../targets/cortex-m/firmware/build");
    println!("cargo:rerun-if-changed=../../targets/cortex-m/firmware/src/learn.rs");
    println!("cargo:rerun-if-changed=../support/cases.rs");
    println!("cargo:rerun-if-changed=../support/cases");
}

/// Writes the plan for inference, an adapter, an input and the outputs; gives the bytes a session needs.
fn inference(write: &dyn Fn(&str, &[u8])) -> usize {
    let plan_file = Aligned::new(&compiled(CompileOptions::default()));
    let plan = PlanView::new(plan_file.bytes()).expect("a plan we wrote is valid");
    let adapter_file = Aligned::new(&adapter(&plan));
    let adapter = Adapter::attach(adapter_file.bytes(), &plan).expect("it fits its base");
    let input = input(&plan);
    write("infer.plan", plan_file.bytes());
    write("site.adapter", adapter_file.bytes());
    write("input.f32", bytes::of(&input));
    write("base.out", &run(plan, bytes::of(&input), &Base));
    write("adapter.out", &run(plan, bytes::of(&input), &adapter));
    MemoryNeeds::new(&plan, Phase::Infer, &device()).expect("every target runs every step").total()
}

/// Writes the plan for training; gives the bytes the run needs and what it learns.
fn learning(write: &dyn Fn(&str, &[u8])) -> (usize, training::Learned) {
    let recipe = Recipe::preset("yamnet", &[96, 64]).expect("the model takes YAMNet's patches");
    let plan_file = Aligned::new(&compiled(CompileOptions {
        train_from: Some(TrainFrom::Late),
        recipe: recipe.to_words().to_vec(),
        head_classes: 4,
        ..CompileOptions::default()
    }));
    let plan = PlanView::new(plan_file.bytes()).expect("a plan we wrote is valid");
    let needed = |target| training::memory(&plan, target).unwrap_or_else(|failure| panic!("{failure}"));
    let mut memory = Aligned::zeroed(needed(&Host::SCALAR));
    let learned = training::train(plan, &Host::SCALAR, memory.bytes_mut());
    write("train.plan", plan_file.bytes());
    (needed(&device()), learned.unwrap_or_else(|failure| panic!("{failure}")))
}

fn compiled(mut options: CompileOptions) -> Vec<u8> {
    options.import.dims.insert("N".into(), 1);
    compile(ingraft_models::demo::BASE_INT8, &options).expect("the built-in model compiles").plan
}

/// An adapter with integer low-rank factors on every site that takes them: exact on every target.
fn adapter(plan: &PlanView<'_>) -> Vec<u8> {
    let mut builder = AdapterBuilder::new(plan);
    let mut code = codes();
    for index in 0..plan.site_count() {
        let site = plan.site(index).expect("index is below the count");
        if site.kind == SiteKind::Depthwise {
            continue;
        }
        let term = low_rank(&site, 2, &mut code);
        builder.term(index, &site, term);
    }
    builder.finish(&AdapterFacts { method: "test".into(), ..AdapterFacts::default() })
}

/// Codes that only integer arithmetic makes.
fn codes() -> impl FnMut() -> i8 {
    let mut seed = 1u32;
    move || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 25) as i8 - 64
    }
}

fn low_rank(site: &SiteDesc<'_>, rank: usize, mut code: impl FnMut() -> i8) -> TermSpec {
    TermSpec::TwoFactorI8 {
        rank,
        down: (0..rank * site.groups * site.row()).map(|_| code()).collect(),
        up: (0..rank * site.out).map(|_| code()).collect(),
        down_scale: vec![0.05; rank * site.groups],
        up_scale: vec![1e-4; site.out],
    }
}

fn input(plan: &PlanView<'_>) -> Vec<f32> {
    let tensor = plan.inputs().next().and_then(|io| plan.tensor(io.tensor)).expect("the model has an input");
    let count = tensor.operand.shape.elements();
    (0..count).map(|i| ((i * 37 + 11) % 101) as f32 / 20.0 - 4.0).collect()
}

fn run<S: TermSource>(plan: PlanView<'_>, input: &[u8], source: &S) -> Vec<u8> {
    let needs = MemoryNeeds::new(&plan, Phase::Infer, &Host::SCALAR).expect("the reference runs every step");
    let mut memory = Aligned::zeroed(needs.total());
    let mut session =
        Session::bind(plan, Phase::Infer, &Host::SCALAR, memory.bytes_mut()).expect("memory suffices");
    session.write_input(0, input).expect("the input has this length");
    session.run(source).expect("bound steps run");
    session.output(0).expect("the model has an output").bytes().to_vec()
}
