//! Inference on the GPU: one recorded graph, adapters behind a table.
//!
//! `cargo bench --bench cuda -- [MODEL.onnx ...]` prints, for the models given or else the built-in one, the median time of an
//! inference from the launch to the end of the wait: as separate launches, as one graph, with an adapter of rank 8 on
//! every dense site, and with another adapter every time; then the same for inferences in a row. `train` before the models
//! measures a training step instead.
#![forbid(unsafe_code)]

#[path = "../../tests/support/mod.rs"]
mod tests_support;
mod training;

use std::time::Instant;

use ingraft::adapter::{Adapter, AdapterBuilder, AdapterFacts, TermSpec};
use ingraft::compile::{CompileOptions, compile};
use ingraft::exec::{MemoryNeeds, Session, StepEvent, Trace};
use ingraft::kernel::{SiteKind, Sites};
use ingraft::plan::{Phase, PlanView};
use ingraft::tensor::Rng;
use ingraft_jetson_cuda::{Cuda, CudaMemory};
use tests_support::{AlignedBytes, as_bytes};

const RANK: usize = 8;
const ROUNDS: usize = 300;

fn main() {
    let cuda = match Cuda::open(0) {
        Ok(cuda) => cuda,
        Err(error) => {
            eprintln!("{error}");
            return;
        }
    };
    println!("{:?}", cuda.info().expect("the driver answers"));
    let trains = std::env::args().skip(1).any(|argument| argument == "train");
    if trains {
        println!("| model | case | batch | trained | step µs | on prefixes µs | GPU MB | host MB |");
        println!("|---|---|---|---|---|---|---|---|");
    } else {
        println!(
            "| model | launches µs | graph µs | rank {RANK} µs | switching µs | in a row: base µs | rank {RANK} µs | ratio | switching µs |"
        );
        println!("|---|---|---|---|---|---|---|---|---|");
    }
    let measure = if trains { training::measure } else { measure };
    let paths: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument.ends_with(".onnx")).collect();
    if paths.is_empty() {
        measure(&cuda, "built-in", ingraft_models::demo::BASE_INT8);
    }
    for path in paths {
        let model = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let stem = std::path::Path::new(&path).file_stem().map_or("", |stem| stem.to_str().unwrap_or(""));
        measure(&cuda, stem, &model);
    }
}

/// Watches every step, so that each is launched by itself.
struct Separately;

impl Trace<CudaMemory> for Separately {
    fn before(&mut self, _: StepEvent<'_, '_>) {}
    fn after(&mut self, _: StepEvent<'_, '_>, _: &CudaMemory) {}
}

fn measure(cuda: &Cuda, name: &str, model: &[u8]) {
    let mut options = CompileOptions { head_classes: 8, ..CompileOptions::default() };
    options.import.dims.insert("N".into(), 1);
    let compiled = compile(model, &options).unwrap_or_else(|error| panic!("{name}: {error}"));
    let resident = cuda.keep(&compiled.plan).expect("the GPU has room");
    let plan = PlanView::new(resident.bytes()).expect("a plan we wrote is valid");
    let files = [1, 2].map(|seed| cuda.keep(low_rank(&plan, seed).as_slice()).expect("the GPU has room"));
    let adapters = [0, 1].map(|i| Adapter::attach(files[i].bytes(), &plan).expect("it fits"));
    let needs = MemoryNeeds::new(&plan, Phase::Infer, cuda).expect("the GPU runs every step");
    let mut memory = cuda.allocate(needs.total()).expect("the GPU has room");
    let mut session = Session::bind(plan, Phase::Infer, cuda, &mut memory).expect("memory suffices");
    let tensor = plan.inputs().next().and_then(|io| plan.tensor(io.tensor)).expect("one input");
    let x = vec![0.25f32; tensor.operand.shape.elements()];
    session.write_input(0, as_bytes(&x)).expect("the input has this length");
    let base: Option<&Adapter<'_>> = None;
    let launches = median(cuda, || {
        session.run_traced(core::slice::from_ref(&base), &mut Separately).expect("it runs");
    });
    let graph = median(cuda, || session.run(&base).expect("it runs"));
    let rank = median(cuda, || session.run(&Some(&adapters[0])).expect("it runs"));
    let mut turn = [Some(&adapters[0]), Some(&adapters[1])].into_iter().cycle();
    let switching = median(cuda, || session.run(&turn.next().flatten()).expect("it runs"));
    let row_base = in_a_row(cuda, || session.run(&base).expect("it runs"));
    let row_rank = in_a_row(cuda, || session.run(&Some(&adapters[0])).expect("it runs"));
    let mut turn = [Some(&adapters[0]), Some(&adapters[1])].into_iter().cycle();
    let row_switching = in_a_row(cuda, || session.run(&turn.next().flatten()).expect("it runs"));
    println!(
        "| {name} | {launches:.1} | {graph:.1} | {rank:.1} | {switching:.1} | {row_base:.1} | {row_rank:.1} | {:.3} | {row_switching:.1} |",
        row_rank / row_base
    );
}

/// The time of one run in µs where runs follow each other without a wait: what the GPU takes.
fn in_a_row(cuda: &Cuda, mut run: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..9)
        .map(|_| {
            cuda.wait().expect("the GPU is well");
            let start = Instant::now();
            (0..ROUNDS).for_each(|_| run());
            cuda.wait().expect("the GPU is well");
            start.elapsed().as_secs_f64() * 1e6 / ROUNDS as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The median of many runs in µs, each waited for.
fn median(cuda: &Cuda, mut run: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            run();
            cuda.wait().expect("the GPU is well");
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}

/// Integer factors on every site that takes them.
fn low_rank(plan: &PlanView<'_>, seed: u64) -> AlignedBytes {
    let (mut rng, mut builder) = (Rng::new(seed), AdapterBuilder::new(plan));
    for index in 0..plan.site_count() {
        let site = plan.site(index).expect("index is below the count");
        if site.kind == SiteKind::Depthwise {
            continue;
        }
        let mut codes = |count: usize| (0..count).map(|_| rng.below(255) as u8 as i8).collect();
        let factors = TermSpec::TwoFactorI8 {
            rank: RANK,
            down: codes(RANK * site.groups * site.row()),
            up: codes(RANK * site.out),
            down_scale: vec![0.01; RANK * site.groups],
            up_scale: vec![1e-4; site.out],
        };
        builder.term(index, &site, factors);
    }
    AlignedBytes::copy_of(&builder.finish(&AdapterFacts::default()))
}
