//! Steps of training, of every site that a plan trains.

use std::time::{Duration, Instant};

use ingraft_kernel::{Host, NO_SITE, Sites};
use ingraft_method::Full;
use ingraft_plan::{Phase, PlanView};
use ingraft_tensor::bytes;
use ingraft_train::{
    AdamW, Clip, LearningRate, Loss, Method, Moves, Readout, Schedule, Setup, TermLayout, Trainer, Truth,
};

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
    let sites = sites(&plan)?;
    // So slow that nothing is learned: of gradients that vanish the time is another.
    let rate = LearningRate { rate: 1e-9, weight_decay: 0.01 };
    let setup = Setup {
        method: &Full,
        sites: &sites,
        readout: Readout::Head { site: NO_SITE, pool: 0, classes: CLASSES },
        loss: Loss::CrossEntropy { smoothing: 0.0 },
        optimizer: &AdamW::DEFAULT,
        adapter: rate,
        head: rate,
        moves: Moves::PLAIN,
        schedule: Schedule::CONSTANT,
        clip_norm: None,
        seed: 0,
    };
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

/// The sites between the cut and the features that full training has parameters for.
fn sites(plan: &PlanView<'_>) -> Result<Vec<u32>, Failure> {
    let (_, features) = plan.features(Phase::Train).ok_or("compile the plan with --train-from")?;
    let inside = |site: &u32| {
        let place = plan.site_tensors(Phase::Train, *site as usize);
        place.is_some_and(|place| place.step as usize >= plan.train_cut() && place.step <= features)
    };
    let trains = |site: &u32| {
        let layout = plan.site(*site as usize).map(|desc| Full.layout(&desc));
        layout.is_some_and(|layout| layout != Ok(TermLayout::NONE))
    };
    Ok((0..plan.site_count() as u32).filter(|site| inside(site) && trains(site)).collect())
}
