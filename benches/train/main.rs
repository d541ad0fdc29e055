//! How long one step of training takes on the built-in model: [`BATCH`] clips of one patch forward and backward,
//! then the optimizer; and the memory it takes.
//!
//! What is kept of a clip decides what a step costs: the clip as it is (`inputs`), what the frozen layers left of
//! it (`prefixes`), or, when nothing below the head is trained, its features (`features`).
#![forbid(unsafe_code)]

#[path = "../support/mod.rs"]
mod support;

use criterion::Criterion;
use ingraft::compile::lower::train::TrainFrom;
use ingraft::kernel::Target;
use ingraft::method::{Full, Head, Lora};
use ingraft::plan::PlanView;
use ingraft::train::{Clip, Method, Setup, Trainer, Truth};
use support::{AlignedBytes, CLASSES, as_bytes};

fn main() {
    let mut criterion = support::criterion();
    let lora = Lora::default();
    let runs: [(&str, &dyn Method, TrainFrom); 5] = [
        ("head", &Head, TrainFrom::Late),
        ("lora/late", &lora, TrainFrom::Late),
        ("lora/all", &lora, TrainFrom::All),
        ("full/late", &Full, TrainFrom::Late),
        ("full/all", &Full, TrainFrom::All),
    ];
    for (name, method, train_from) in runs {
        let file = support::built_in(Some(train_from));
        let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
        let sites = if method.name() == "head" { Vec::new() } else { support::trained_sites(&plan, method) };
        bench(&mut criterion, name, plan, &support::setup(method, &sites, 1e-3));
    }
    criterion.final_summary();
}

fn bench(criterion: &mut Criterion, name: &str, plan: PlanView<'_>, setup: &Setup<'_>) {
    for target in support::targets() {
        let memory = Trainer::memory(&plan, &target, setup).expect("the plan can be trained");
        let mut arena = AlignedBytes::zeroed(memory.total());
        let mut trainer = Trainer::bind(plan, &target, *setup, arena.as_mut()).expect("memory suffices");
        println!(
            "{name} on {}: {} sites, {} bytes: {memory:?}",
            target.name(),
            setup.sites.len(),
            memory.total()
        );
        let patch = support::patch();
        let clip = Clip::Inputs(as_bytes(&patch));
        let (mut prefix, mut features) =
            (AlignedBytes::zeroed(trainer.cut_bytes()), vec![0.0; trainer.feature_count()]);
        let mut clips = vec![("inputs", clip)];
        if setup.sites.is_empty() {
            trainer.features(clip, &mut features).expect("one patch");
            clips.push(("features", Clip::Features(&features)));
        } else if trainer.cut_bytes() != 0 {
            trainer.run_prefix(as_bytes(&patch), prefix.as_mut()).expect("one patch");
            clips.push(("prefixes", Clip::Prefixes(prefix.as_slice())));
        }
        for (kept, clip) in clips {
            let id = format!("{name}/{kept}/{}", target.name());
            criterion.bench_function(&id, |bencher| bencher.iter(|| step(&mut trainer, clip)));
        }
    }
}

fn step(trainer: &mut Trainer<'_, '_>, clip: Clip<'_>) {
    for class in 0..BATCH {
        trainer.accumulate(clip, Truth::Class(class % CLASSES)).expect("a clip of this plan");
    }
    trainer.step().expect("gradients are finite");
}

/// Clips between two steps of the optimizer.
const BATCH: usize = 8;
