//! Inference on the GPU: one recorded graph, adapters behind a table.
//!
//! `cargo bench --bench cuda -- [MODEL.onnx[=RECORDED.npz] ...]` prints, for the models given or else the built-in one, the
//! median time of an inference from the launch to the end of the wait: as separate launches, as one graph, with an adapter
//! of rank 8 on every dense site, and with another adapter every time; then the same for inferences in a row. A model is
//! compiled for a batch of one, or for the shapes of its recorded inputs. A network of `ingraft_models::tiny`, by its name, as
//! `efficientnet-b0`, is measured in f32 and in int8, and as `NAME=FILE.onnx` written there for PyTorch. Beside it stand its steps and what they
//! read and write, which is the limit by bytes. `train` before the models measures a training step instead, `coserve` inferences beside training,
//! `batch` a batch with an adapter for each sample, `overlay` overlays as files and in the weights, `fp16` inferences of the target `cuda-fp16`.
#![forbid(unsafe_code)]

mod batch;
mod coserve;
#[path = "../adapters/made.rs"]
#[allow(dead_code, reason = "this bench uses a part")]
mod made;
mod overlay;
#[path = "../../tests/support/mod.rs"]
mod support;
mod training;

use std::time::Instant;

use ingraft::adapter::{Adapter, AdapterBuilder, AdapterFacts, TermSpec};
use ingraft::compile::{CompileOptions, compile};
use ingraft::exec::{MemoryNeeds, Session, StepEvent, Trace};
use ingraft::kernel::{OpCode, SiteKind, Sites};
use ingraft::plan::{Phase, PlanView};
use ingraft::tensor::{DType, Rng};
use ingraft_dataset::read_npz;
use ingraft_jetson_cuda::{Cuda, CudaMemory};
use ingraft_models::tiny::Net;
use support::{AlignedBytes, as_bytes};

const RANK: usize = 8;
const ROUNDS: usize = 300;
/// Of random weights.
const SEED: u64 = 1;

fn main() {
    let cuda = match Cuda::open(0) {
        Ok(cuda) => cuda,
        Err(error) => {
            eprintln!("{error}");
            return;
        }
    };
    println!("{:?}", cuda.info().expect("the driver answers"));
    let asked = |word: &str| std::env::args().skip(1).any(|argument| argument == word);
    let cuda = if asked("fp16") { cuda.with_halves().expect("it has tensor cores") } else { cuda };
    let part =
        ["train", "coserve", "batch", "overlay"].into_iter().find(|word| asked(word)).unwrap_or("infer");
    println!("{}", head(part));
    let measure = |name: &str, model: &[u8], recorded: Option<&str>| match part {
        "train" => training::measure(&cuda, name, model),
        "coserve" => coserve::measure(&cuda, name, model),
        "batch" => batch::measure(&cuda, name, model),
        "overlay" => overlay::measure(&cuda, name, model),
        _ => measure(&cuda, name, &compiled(name, model, recorded)),
    };
    let nets: Vec<(Net, Option<String>)> =
        std::env::args().skip(1).filter_map(|argument| net(&argument)).collect();
    for (net, path) in &nets {
        let model = net.onnx(SEED);
        if let Some(path) = path {
            std::fs::write(path, &model).unwrap_or_else(|error| panic!("{path}: {error}"));
        }
        let options = CompileOptions { head_classes: 8, ..CompileOptions::default() };
        let of_reals = compile(&model, &options).expect("it is one of ours");
        crate::measure(&cuda, &format!("{} f32", net.name()), &of_reals.plan);
        let of_codes = net.quantized(SEED, &options).expect("it is one of ours");
        crate::measure(&cuda, &format!("{} int8", net.name()), &of_codes.plan);
    }
    let is_file = |argument: &String| argument.contains(".onnx") && net(argument).is_none();
    let models: Vec<String> = std::env::args().skip(1).filter(is_file).collect();
    if models.is_empty() && nets.is_empty() {
        measure("built-in", ingraft_models::demo::BASE_INT8, None);
    }
    for argument in models {
        let (path, recorded) = argument.split_once('=').map_or((&*argument, None), |(a, b)| (a, Some(b)));
        let model = std::fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let stem = std::path::Path::new(path).file_stem().map_or("", |stem| stem.to_str().unwrap_or(""));
        measure(stem, &model, recorded);
    }
}

/// The head of the table of a part.
fn head(part: &str) -> String {
    match part {
        "train" => training::HEAD.to_owned(),
        "coserve" => coserve::HEAD.to_owned(),
        "batch" => batch::HEAD.to_owned(),
        "overlay" => overlay::HEAD.to_owned(),
        _ => format!(
            "| model | steps | MB | launches µs | graph µs | rank {RANK} µs | switching µs | in a row: base µs | rank {RANK} µs | ratio | switching µs |\n|---|---|---|---|---|---|---|---|---|---|---|"
        ),
    }
}

/// The network that an argument names, and where it is to be written.
fn net(argument: &str) -> Option<(Net, Option<String>)> {
    let (name, path) = argument.split_once('=').map_or((argument, None), |(name, path)| (name, Some(path)));
    Some((Net::named(name)?, path.map(str::to_owned)))
}

/// The plan for a batch of one, or for the shapes of the recorded inputs.
fn compiled(name: &str, model: &[u8], recorded: Option<&str>) -> Vec<u8> {
    let mut options = CompileOptions { head_classes: 8, ..CompileOptions::default() };
    if recorded.is_none() {
        options.import.dims.insert("N".into(), 1);
    }
    if let Some(path) = recorded {
        let arrays = read_npz(path.as_ref()).unwrap_or_else(|error| panic!("{path}: {error}"));
        let shapes = arrays
            .iter()
            .filter_map(|(key, array)| Some((key.strip_prefix("in__")?.to_owned(), array.shape().to_vec())));
        options.import.shapes.extend(shapes);
    }
    compile(model, &options).unwrap_or_else(|error| panic!("{name}: {error}")).plan
}

/// Steps of an inference and the bytes that they read and write.
fn limits(plan: &PlanView<'_>) -> (usize, usize) {
    let steps = plan.step_count(Phase::Infer);
    let bytes = (0..steps).filter_map(|index| plan.resolve(Phase::Infer, index).ok()).map(|step| {
        let operands = step.inputs().iter().chain(step.outputs());
        operands.map(|operand| operand.shape.elements() * operand.dtype.size()).sum::<usize>()
    });
    (steps, bytes.sum())
}

/// Watches every step, so that each is launched by itself.
struct Separately;

impl Trace<CudaMemory> for Separately {
    fn before(&mut self, _: StepEvent<'_, '_>) {}
    fn after(&mut self, _: StepEvent<'_, '_>, _: &CudaMemory) {}
}

fn measure(cuda: &Cuda, name: &str, plan: &[u8]) {
    let resident = cuda.keep(plan).expect("the GPU has room");
    let plan = PlanView::new(resident.bytes()).expect("a plan we wrote is valid");
    let files = [1, 2].map(|seed| cuda.keep(low_rank(&plan, seed).as_slice()).expect("the GPU has room"));
    let adapters = [0, 1].map(|i| Adapter::attach(files[i].bytes(), &plan).expect("it fits"));
    let needs = MemoryNeeds::new(&plan, Phase::Infer, cuda).expect("the GPU runs every step");
    let mut memory = cuda.allocate(needs.total()).expect("the GPU has room");
    let mut session = Session::bind(plan, Phase::Infer, cuda, &mut memory).expect("memory suffices");
    let has_indices =
        plan.inputs().any(|io| plan.tensor(io.tensor).is_some_and(|t| t.operand.dtype != DType::F32));
    let inputs: Vec<Vec<u8>> = plan.inputs().map(|io| input(&plan, io.tensor)).collect();
    let mut run = |source: &Option<&Adapter<'_>>, trace: Option<&mut Separately>, first: bool| {
        // What stands there after a run is numbers as good as any, but no indices.
        for (index, bytes) in inputs.iter().enumerate().filter(|_| first || has_indices) {
            session.write_input(index, bytes).expect("the input has this length");
        }
        let sources = core::slice::from_ref(source);
        match trace {
            Some(trace) => session.run_traced(sources, trace),
            None => session.run_batch(sources),
        }
        .expect("it runs");
    };
    let (steps, bytes) = limits(&plan);
    let base: Option<&Adapter<'_>> = None;
    run(&base, None, true);
    let launches = median(cuda, || run(&base, Some(&mut Separately), false));
    let graph = median(cuda, || run(&base, None, false));
    let rank = median(cuda, || run(&Some(&adapters[0]), None, false));
    let mut turn = [Some(&adapters[0]), Some(&adapters[1])].into_iter().cycle();
    let switching = median(cuda, || run(&turn.next().flatten(), None, false));
    let row_base = in_a_row(cuda, || run(&base, None, false));
    let row_rank = in_a_row(cuda, || run(&Some(&adapters[0]), None, false));
    let mut turn = [Some(&adapters[0]), Some(&adapters[1])].into_iter().cycle();
    let row_switching = in_a_row(cuda, || run(&turn.next().flatten(), None, false));
    println!(
        "| {name} | {steps} | {:.1} | {launches:.1} | {graph:.1} | {rank:.1} | {switching:.1} | {row_base:.1} | {row_rank:.1} | {:.3} | {row_switching:.1} |",
        bytes as f64 / 1e6,
        row_rank / row_base
    );
}

/// What stands in for an input: zeros are indices that every table has.
fn input(plan: &PlanView<'_>, tensor: u32) -> Vec<u8> {
    let operand = plan.tensor(tensor).expect("an input is a tensor").operand;
    let elements = operand.shape.elements();
    match operand.dtype {
        DType::F32 => as_bytes(&vec![0.25f32; elements]).to_vec(),
        dtype => vec![0; elements * dtype.size()],
    }
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

/// Factors on every layer that takes them: integer ones, real ones where a layer computes on reals.
fn low_rank(plan: &PlanView<'_>, seed: u64) -> AlignedBytes {
    let (mut rng, mut builder) = (Rng::new(seed), AdapterBuilder::new(plan));
    let steps = (0..plan.step_count(Phase::Infer)).filter_map(|index| plan.step(Phase::Infer, index));
    let real = steps.into_iter().any(|step| matches!(step.op, OpCode::Conv | OpCode::DynamicConv));
    for index in 0..plan.site_count() {
        let site = plan.site(index).expect("index is below the count");
        if site.kind == SiteKind::Depthwise || !site.kind.is_layer() {
            continue;
        }
        let factors = if real {
            let (down, up) = (RANK * site.groups * site.row(), RANK * site.out);
            let mut reals =
                |count: usize| (0..count).map(|_| rng.uniform(-0.01, 0.01) as f32).collect::<Vec<_>>();
            TermSpec::TwoFactorF32 { rank: RANK, down: reals(down), up: reals(up) }
        } else {
            made::low_rank(&site, RANK, &mut rng)
        };
        builder.term(index, &site, factors);
    }
    AlignedBytes::copy_of(&builder.finish(&AdapterFacts::default()))
}
