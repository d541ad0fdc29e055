//! A training step on the GPU: forward, backward and AdamW over a batch, with a head of ten classes.

use std::time::Instant;

use ingraft::compile::lower::train::TrainFrom;
use ingraft::compile::{CompileOptions, compile};
use ingraft::kernel::NO_SITE;
use ingraft::method::{DepthwiseTerm, Head, Lora};
use ingraft::plan::PlanView;
use ingraft::tensor::Rng;
use ingraft::train::{AdamW, Clip, LearningRate, Method, Readout, Setup, Trainer, Truth};
use ingraft_jetson_cuda::Cuda;

use crate::support::{AlignedBytes, as_bytes};

pub(crate) const CLASSES: usize = 10;
pub(crate) const READOUT: Readout = Readout::Head { site: NO_SITE, pool: 0, classes: CLASSES as u32 };
pub(crate) const LORA: Lora =
    Lora { rank: 8, alpha: 8.0, rank_stabilized: false, depthwise: DepthwiseTerm::Skip };
/// So slow that a batch seen a thousand times is not learned: gradients would become subnormal, and time theirs.
pub(crate) const RATE: LearningRate = LearningRate { rate: 1e-9, weight_decay: 0.01 };

/// The head of the table that [`measure`] prints rows of.
pub(crate) const HEAD: &str = "| model | case | batch | lanes | trained | step µs | on prefixes µs | GPU MB | host MB |\n|---|---|---|---|---|---|---|---|---|";

/// Prints a row for every case of `model`.
pub(crate) fn measure(cuda: &Cuda, name: &str, model: &[u8]) {
    let cases: [(&str, &dyn Method, TrainFrom); 3] = [
        ("head", &Head, TrainFrom::Late),
        ("lora late", &LORA, TrainFrom::Late),
        ("lora all", &LORA, TrainFrom::All),
    ];
    for (case, method, from) in cases {
        let mut options = CompileOptions {
            head_classes: CLASSES as u32,
            train_from: Some(from),
            ..CompileOptions::default()
        };
        options.import.dims.insert("N".into(), 1);
        let compiled = compile(model, &options).unwrap_or_else(|error| panic!("{name}: {error}"));
        let resident = cuda.keep(&compiled.plan).expect("the GPU has room");
        let plan = PlanView::new(resident.bytes()).expect("a plan we wrote is valid");
        for (batch, lanes) in [(1, 1), (16, 1), (16, 4), (16, 8), (16, 16)] {
            step(cuda, plan, (name, case, method), (batch, lanes));
        }
    }
}

fn step(
    cuda: &Cuda,
    plan: PlanView<'_>,
    (name, case, method): (&str, &str, &dyn Method),
    (batch, lanes): (usize, usize),
) {
    let sites: Vec<u32> =
        if method.name() == "head" { Vec::new() } else { READOUT.adapted(&plan, method).collect() };
    let setup = Setup::new(method, &sites, READOUT, &AdamW::DEFAULT, RATE);
    let needs = Trainer::memory(&plan, cuda, &setup).expect("the plan can be trained");
    let mut memory = cuda.allocate_lanes(needs.device(), lanes).expect("the GPU has room");
    let mut beside = AlignedBytes::zeroed(needs.beside());
    let mut trainer = Trainer::bind_apart(plan, cuda, setup, &mut memory, beside.as_mut()).expect("it binds");
    let clips: Vec<Vec<u8>> = (0..batch).map(|seed| random_input(&plan, seed as u64)).collect();
    let mut kept: Vec<Kept> = Vec::new();
    for clip in &clips {
        if !sites.is_empty() && trainer.cut_bytes() == 0 {
            // The first layer is trained.
            break;
        }
        kept.push(if sites.is_empty() {
            let mut features = vec![0.0; trainer.feature_count()];
            trainer.features(Clip::Inputs(clip), &mut features).expect("one sample");
            Kept::Features(features)
        } else {
            let mut prefix = vec![0; trainer.cut_bytes()];
            trainer.run_prefix(clip, &mut prefix).expect("one sample");
            Kept::Prefix(prefix)
        });
    }
    let whole: Vec<Clip<'_>> = clips.iter().map(|clip| Clip::Inputs(clip)).collect();
    let whole = median(cuda, &mut trainer, &whole);
    let frozen: Vec<Clip<'_>> = kept.iter().map(Kept::clip).collect();
    let cached = match frozen.len() {
        0 => "nothing frozen".to_owned(),
        _ => format!("{:.0}", median(cuda, &mut trainer, &frozen)),
    };
    let trained = trainer.parameters().values().len();
    let device = memory.held() + plan.bytes().len();
    println!(
        "| {name} | {case} | {batch} | {lanes} | {} | {whole:.0} | {cached} | {:.1} | {:.1} |",
        trained,
        device as f64 / 1e6,
        needs.beside() as f64 / 1e6,
    );
}

/// What the frozen layers leave of a sample.
enum Kept {
    Prefix(Vec<u8>),
    Features(Vec<f32>),
}

impl Kept {
    fn clip(&self) -> Clip<'_> {
        match self {
            Self::Prefix(bytes) => Clip::Prefixes(bytes),
            Self::Features(values) => Clip::Features(values),
        }
    }
}

/// The median time of a step in µs, to the end of its work.
fn median(cuda: &Cuda, trainer: &mut Trainer<'_, '_, Cuda>, clips: &[Clip<'_>]) -> f64 {
    let batch: Vec<(Clip<'_>, Truth<'_>)> =
        clips.iter().enumerate().map(|(sample, clip)| (*clip, Truth::Class(sample % CLASSES))).collect();
    let mut times = Vec::new();
    let rounds = if clips.len() == 1 { 100 } else { 20 };
    for round in 0..rounds + 3 {
        let start = Instant::now();
        trainer.accumulate_all(&batch, |_| ()).expect("samples of this plan");
        trainer.step().expect("gradients are finite");
        cuda.wait().expect("the GPU is well");
        if round >= 3 {
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

pub(crate) fn random_input(plan: &PlanView<'_>, seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let reals = plan.inputs().flat_map(|io| {
        let elements = plan.tensor(io.tensor).expect("inputs are tensors").operand.shape.elements();
        (0..elements).map(|_| rng.uniform(-1.0, 1.0) as f32).collect::<Vec<f32>>()
    });
    as_bytes(&reals.collect::<Vec<f32>>()).to_vec()
}
