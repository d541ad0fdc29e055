//! A batch of 16 samples: with the base, with one adapter for all, and with an adapter for each.
//!
//! Adapters have rank 8 on every dense site. Where a target takes the terms of all samples at once, a batch of as many
//! adapters is as many launches as one of none.

use ingraft::adapter::Adapter;
use ingraft::compile::{CompileOptions, compile};
use ingraft::exec::{MemoryNeeds, Session};
use ingraft::plan::{Phase, PlanView};
use ingraft_jetson_cuda::Cuda;

use crate::{in_a_row, input, low_rank};

const SAMPLES: usize = 16;

/// The head of the table that [`measure`] prints a row of.
pub(crate) const HEAD: &str = "| model | samples | base µs | one adapter µs | an adapter each µs | each ÷ one | each ÷ base |\n|---|---|---|---|---|---|---|";

/// Prints a row: times of a batch where batches follow each other without a wait.
pub(crate) fn measure(cuda: &Cuda, name: &str, model: &[u8]) {
    let mut options = CompileOptions::default();
    options.import.dims.insert("N".into(), SAMPLES);
    let compiled = compile(model, &options).unwrap_or_else(|error| panic!("{name}: {error}"));
    let resident = cuda.keep(&compiled.plan).expect("the GPU has room");
    let plan = PlanView::new(resident.bytes()).expect("a plan we wrote is valid");
    let files: Vec<_> = (0..SAMPLES as u64)
        .map(|seed| cuda.keep(low_rank(&plan, seed).as_slice()).expect("the GPU has room"))
        .collect();
    let adapters: Vec<_> =
        files.iter().map(|file| Adapter::attach(file.bytes(), &plan).expect("it fits")).collect();
    let needs = MemoryNeeds::new(&plan, Phase::Infer, cuda).expect("the GPU runs every step");
    let mut memory = cuda.allocate(needs.total()).expect("the GPU has room");
    let mut session = Session::bind(plan, Phase::Infer, cuda, &mut memory).expect("memory suffices");
    for (index, io) in plan.inputs().enumerate() {
        session.write_input(index, &input(&plan, io.tensor)).expect("the input has this length");
    }
    let mut time =
        |sources: &[Option<&Adapter<'_>>]| in_a_row(cuda, || session.run_batch(sources).expect("it runs"));
    let each: Vec<_> = adapters.iter().map(Some).collect();
    let (base, one, each) = (time(&[None]), time(&each[..1]), time(&each));
    println!(
        "| {name} | {SAMPLES} | {base:.1} | {one:.1} | {each:.1} | {:.3} | {:.3} |",
        each / one,
        each / base
    );
}
