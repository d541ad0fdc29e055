//! What the benches share: how long to measure, where, and the built-in model.
#![allow(dead_code, unused_imports, reason = "each bench uses a part")]

#[path = "../../runtime/cli/src/aligned.rs"]
mod aligned;
#[path = "../../tests/support/targets.rs"]
mod targets;
#[path = "../../tests/support/mod.rs"]
mod tests_support;

use core::time::Duration;

use criterion::Criterion;
use ingraft::compile::lower::train::TrainFrom;
use ingraft::compile::{CompileOptions, compile};
use ingraft::kernel::{Host, NO_SITE};
use ingraft::plan::PlanView;
use ingraft::train::{AdamW, LearningRate, Method, Readout, Setup};

/// Memory as the command gives it to sessions: in large pages where it is large.
pub(crate) use aligned::AlignedBytes as SessionMemory;
pub(crate) use targets::targets;
pub(crate) use tests_support::{AlignedBytes, as_bytes, data};

/// Few samples and short ones: enough for a median, and a full run takes minutes. The command line overrides.
pub(crate) fn criterion() -> Criterion {
    let short = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(50));
    short.measurement_time(Duration::from_millis(300)).configure_from_args()
}

/// The fastest target of this machine.
pub(crate) fn native() -> Host {
    targets().pop().unwrap_or(Host::SCALAR)
}

/// The built-in model's plan for one patch, with room for a head of [`CLASSES`].
pub(crate) fn built_in(train_from: Option<TrainFrom>) -> AlignedBytes {
    let mut options =
        CompileOptions { head_classes: CLASSES as u32, train_from, ..CompileOptions::default() };
    options.import.dims.insert("N".into(), 1);
    let compiled = compile(ingraft_models::demo::BASE_INT8, &options).expect("the built-in model compiles");
    AlignedBytes::copy_of(&compiled.plan)
}

/// A head on what classifiers read.
pub(crate) const READOUT: Readout = Readout::Head { site: NO_SITE, pool: 0, classes: CLASSES as u32 };

/// The sites between the training cut and the features that `method` trains.
pub(crate) fn trained_sites(plan: &PlanView<'_>, method: &dyn Method) -> Vec<u32> {
    READOUT.adapted(plan, method).collect()
}

/// The setup of training by AdamW with a head on what classifiers read.
pub(crate) fn setup<'s>(method: &'s dyn Method, sites: &'s [u32], rate: f32) -> Setup<'s> {
    let rate = LearningRate { rate, weight_decay: 0.01 };
    Setup::new(method, sites, READOUT, &AdamW::DEFAULT, rate)
}

/// One recorded patch, the built-in model's input.
pub(crate) fn patch() -> Vec<f32> {
    let patches = ingraft_models::demo::golden::patches();
    let elements = patches.len() / ingraft_models::demo::golden::BATCH;
    patches.take(elements).collect()
}

/// Classes of a head.
pub(crate) const CLASSES: usize = 10;
