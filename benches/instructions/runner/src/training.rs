//! Steps of training, of every site that a plan trains.

use std::time::{Duration, Instant};

use ingraft_kernel::{Host, NO_SITE};
use ingraft_method::Full;
use ingraft_plan::PlanView;
use ingraft_tensor::bytes;
use ingraft_train::{AdamW, Clip, LearningRate, Readout, Setup, Trainer, Truth};

use crate::Failure;

/// Classes of the head.
const CLASSES: u32 = 10;

/// The times of `count` steps, each of one sample.
pub(crate) fn steps(
    plan: PlanView<'_>,
    target: &Host,
    sample: &[u8],
    count: usize,
) -> Result<Vec<Duration>, Failure> {
    let readout = Readout::Head { site: NO_SITE, pool: 0, classes: CLASSES };
    let sites: Vec<u32> = readout.adapted(&plan, &Full).collect();
    // So slow that nothing is learned: of gradients that vanish the time is another.
    let rate = LearningRate { rate: 1e-9, weight_decay: 0.01 };
    let setup = Setup::new(&Full, &sites, readout, &AdamW::DEFAULT, rate);
    let memory = Trainer::memory(&plan, target, &setup)?;
    let mut arena = vec![0; memory.total() + bytes::ALIGN];
    let mut trainer = Trainer::bind(plan, target, setup, bytes::aligned_mut(&mut arena))?;
    let mut times = Vec::new();
    for _ in 0..count {
        let start = Instant::now();
        trainer.accumulate(Clip::Inputs(sample), Truth::Class(1))?;
        trainer.step()?;
        times.push(start.elapsed());
    }
    Ok(times)
}
