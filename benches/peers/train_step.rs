//! One training step of a model, timed on demand: what `train.py` puts beside PyTorch.
//!
//! Usage: `train_step MODEL.onnx METHOD late|all BATCH inputs|cached [TARGET] [dense]`, METHOD one of `ingraft methods` with settings
//! behind it, as in `paca,rank=16`; `lora` is of rank 8 on dense layers. With `dense`, depthwise
//! layers are left out. Prints a line of JSON with the memory
//! it takes; then, for every line on standard input, the microseconds of processor time of a step, the mean over about a second.
#![forbid(unsafe_code)]

#[path = "../support/mod.rs"]
mod support;

use core::time::Duration;
use std::io::BufRead;
use std::time::Instant;

use ingraft::compile::lower::train::TrainFrom;
use ingraft::compile::{CompileOptions, compile};
use ingraft::kernel::{Host, SiteKind, Sites, Target};
use ingraft::method::{DepthwiseTerm, Lora, build};
use ingraft::plan::PlanView;
use ingraft::tensor::{DType, Rng};
use ingraft::train::{Clip, Method, Trainer, Truth};
use support::{AlignedBytes, CLASSES, as_bytes};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, method, from, batch, kept, rest @ ..] = &arguments[..] else {
        panic!("usage: train_step MODEL.onnx METHOD late|all BATCH inputs|cached [TARGET] [dense]");
    };
    let (name, settings) = method.split_once(',').unwrap_or((method, ""));
    let settings: Vec<_> = settings.split(',').filter_map(|setting| setting.split_once('=')).collect();
    let built;
    let method: &dyn Method = match (name, settings.as_slice()) {
        ("lora", []) => &LORA,
        _ => {
            built = build(name, &settings).unwrap_or_else(|error| panic!("{error}"));
            built.as_ref()
        }
    };
    let train_from = match from.as_str() {
        "late" => TrainFrom::Late,
        "all" => TrainFrom::All,
        other => panic!("no part {other}"),
    };
    let target = match rest.first() {
        Some(name) => support::targets().into_iter().find(|target| target.name() == name),
        None => Some(support::native()),
    };
    let plan = compiled(model, train_from);
    let plan = PlanView::new(plan.as_slice()).expect("a plan we wrote is valid");
    let batch = batch.parse().expect("a number of samples");
    let mut sites = if method.name() == "head" { Vec::new() } else { support::trained_sites(&plan, method) };
    if rest.get(1).is_some_and(|part| part == "dense") {
        sites.retain(|site| plan.site(*site as usize).is_some_and(|site| site.kind != SiteKind::Depthwise));
    }
    serve(plan, &target.expect("a target of this machine"), (method, &sites), batch, kept == "cached");
}

/// r = 8 on every dense layer.
const LORA: Lora = Lora { rank: 8, alpha: 8.0, rank_stabilized: false, depthwise: DepthwiseTerm::Skip };

fn compiled(model: &str, train_from: TrainFrom) -> AlignedBytes {
    let onnx = std::fs::read(model).expect("the model reads");
    let train_from = Some(train_from);
    let mut options =
        CompileOptions { head_classes: CLASSES as u32, train_from, ..CompileOptions::default() };
    options.import.dims.insert("N".into(), 1);
    AlignedBytes::copy_of(&compile(&onnx, &options).expect("the model compiles").plan)
}

/// Binds a trainer and times a step for every line that comes.
fn serve(
    plan: PlanView<'_>,
    target: &Host,
    (method, sites): (&dyn Method, &[u32]),
    batch: usize,
    cached: bool,
) {
    // So slow that a batch seen a thousand times is not learned: gradients would become subnormal, and time theirs.
    let setup = support::setup(method, sites, 1e-9);
    let memory = Trainer::memory(&plan, target, &setup).expect("the plan can be trained");
    let mut arena = AlignedBytes::zeroed(memory.total());
    let mut trainer = Trainer::bind(plan, target, setup, arena.as_mut()).expect("memory suffices");
    let clips: Vec<Vec<u8>> = (0..batch).map(|sample| random_input(&plan, sample as u64)).collect();
    let mut prefix = AlignedBytes::zeroed(trainer.cut_bytes());
    let mut features = vec![0.0; trainer.feature_count()];
    let mut kept: Vec<(Vec<u8>, Vec<f32>)> = Vec::new();
    for clip in clips.iter().filter(|_| cached) {
        if sites.is_empty() {
            trainer.features(Clip::Inputs(clip), &mut features).expect("one sample");
        } else {
            trainer.run_prefix(clip, prefix.as_mut()).expect("one sample");
        }
        kept.push((prefix.as_slice().to_vec(), features.clone()));
    }
    println!(
        r#"{{"target": "{}", "sites": {}, "trained": {}, "arena_bytes": {}, "plan_bytes": {}}}"#,
        target.name(),
        sites.len(),
        trainer.fetched().values().len(),
        memory.total(),
        plan.bytes().len()
    );
    for _ in std::io::stdin().lock().lines() {
        let step = || {
            for (sample, inputs) in clips.iter().enumerate() {
                let clip = match kept.get(sample) {
                    None => Clip::Inputs(inputs),
                    Some((_, features)) if sites.is_empty() => Clip::Features(features),
                    Some((prefix, _)) => Clip::Prefixes(prefix),
                };
                trainer.accumulate(clip, Truth::Class(sample % CLASSES)).expect("a sample of this plan");
            }
            trainer.step().expect("gradients are finite");
        };
        println!("{}", mean_us(step));
    }
}

/// A sample of random values.
fn random_input(plan: &PlanView<'_>, seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let mut bytes = Vec::new();
    for io in plan.inputs() {
        let operand = plan.tensor(io.tensor).expect("inputs are tensors").operand;
        assert_eq!(operand.dtype, DType::F32, "models of real inputs");
        let values: Vec<f32> = (0..operand.shape.elements()).map(|_| rng.uniform(-1.0, 1.0) as f32).collect();
        bytes.extend_from_slice(as_bytes(&values));
    }
    bytes
}

fn mean_us(mut step: impl FnMut()) -> f64 {
    step();
    let (start, before, mut steps) = (Instant::now(), processor_ns(), 0);
    while steps < LEAST || start.elapsed() < Duration::from_secs(1) {
        step();
        steps += 1;
    }
    (processor_ns() - before) / f64::from(steps) / 1e3
}

/// Nanoseconds that this process has run, as Linux accounts for it: on a shared machine, elapsed time is that of the neighbors.
fn processor_ns() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").expect("Linux with scheduler statistics");
    text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("nanoseconds come first")
}

/// Steps of a mean.
const LEAST: u32 = 3;
