//! The setup that tests vary.

use ingraft_kernel::NO_SITE;
use ingraft_train::{LearningRate, Loss, Method, Moves, Readout, Schedule, Setup, optimizer};

/// A head of three classes on the default features.
pub(crate) const HEAD: Readout = Readout::Head { site: NO_SITE, pool: 3, classes: 3 };

/// Training of `sites` by `method`, with AdamW.
pub(crate) fn setup<'a>(method: &'a dyn Method, sites: &'a [u32], readout: Readout) -> Setup<'a> {
    Setup {
        method,
        sites,
        readout,
        loss: Loss::CrossEntropy { smoothing: 0.1 },
        optimizer: optimizer("adamw").unwrap(),
        moves: Moves::PLAIN,
        adapter: LearningRate { rate: 0.01, weight_decay: 0.01 },
        head: LearningRate { rate: 0.05, weight_decay: 0.01 },
        schedule: Schedule::CONSTANT,
        clip_norm: Some(5.0),
        seed: 7,
    }
}
