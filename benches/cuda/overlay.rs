//! An overlay of one entry in a hundred on every dense site: as its file has it, and written into a copy of the weights.

use std::time::Instant;

use ingraft::adapter::{Adapter, Base, TermSource};
use ingraft::exec::{MemoryNeeds, PatchedCopy, Session};
use ingraft::kernel::Sites;
use ingraft::plan::{Phase, PlanView};
use ingraft_jetson_cuda::Cuda;

use crate::{compiled, in_a_row, input, made};

const APPLIED: usize = 50;

/// The head of the table that [`measure`] prints a row of.
pub(crate) const HEAD: &str = "| model | entries | base µs | as file µs | ratio | in the weights µs | ratio | writing µs |\n|---|---|---|---|---|---|---|---|";

/// Prints a row: inferences that follow each other without a wait, and the median of taking one overlay out and
/// writing another.
pub(crate) fn measure(cuda: &Cuda, name: &str, model: &[u8]) {
    let resident = cuda.keep(&compiled(name, model, None)).expect("the GPU has room");
    let plan = PlanView::new(resident.bytes()).expect("a plan we wrote is valid");
    let file = made::adapter(&plan, true, |site, weight, rng| Some(made::overlay(site, weight, rng)));
    let file = cuda.keep(file.as_slice()).expect("the GPU has room");
    let adapter = Adapter::attach(file.bytes(), &plan).expect("it fits");
    let sites = 0..plan.site_count();
    let entries: usize =
        sites.filter_map(|site| adapter.terms(site).sparse).map(|sparse| sparse.indices.len()).sum();
    let needs = MemoryNeeds::new(&plan, Phase::Infer, cuda).expect("the GPU runs every step");
    let mut memory = cuda.allocate(needs.total()).expect("the GPU has room");
    let mut session = Session::bind(plan, Phase::Infer, cuda, &mut memory).expect("memory suffices");
    for (index, io) in plan.inputs().enumerate() {
        session.write_input(index, &input(&plan, io.tensor)).expect("the input has this length");
    }
    let bytes = PatchedCopy::bytes(&session).expect("steps are known");
    let mut room = cuda.share(bytes).expect("the GPU has room");
    let mut log = vec![0; PatchedCopy::log_words(&session, &adapter)];
    let mut copy = PatchedCopy::new(&session, room.bytes_mut(), &mut log).expect("memory suffices");
    let mut times: Vec<f64> = (0..APPLIED)
        .map(|_| {
            let started = Instant::now();
            copy.apply(&session, adapter).expect("the log suffices");
            started.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let patch = copy.apply(&session, adapter).expect("the log suffices");
    let base = in_a_row(cuda, || session.run(&Base).expect("it runs"));
    let as_file = in_a_row(cuda, || session.run(&adapter).expect("it runs"));
    let written = in_a_row(cuda, || session.run(&patch).expect("it runs"));
    println!(
        "| {name} | {entries} | {base:.1} | {as_file:.1} | {:.3} | {written:.1} | {:.3} | {:.1} |",
        as_file / base,
        written / base,
        times[APPLIED / 2]
    );
}
