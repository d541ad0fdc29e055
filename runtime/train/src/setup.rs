//! What to train, and how.

use crate::{Loss, Method, Moves, Optimizer, Readout, Schedule};

/// Everything that determines a training run beside the clips.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// The method.
    pub method: &'a dyn Method,
    /// Sites offered to it, ascending.
    pub sites: &'a [u32],
    /// What turns a clip into logits.
    pub readout: Readout,
    /// The loss.
    pub loss: Loss,
    /// The optimizer.
    pub optimizer: &'a dyn Optimizer,
    /// How the terms of sites move beside that.
    pub moves: Moves,
    /// How fast the terms of sites move.
    pub adapter: LearningRate,
    /// How fast the head moves.
    pub head: LearningRate,
    /// The learning rates' course.
    pub schedule: Schedule,
    /// Longest gradient, over all parameters; longer ones are shortened to it.
    pub clip_norm: Option<f32>,
    /// Seed of the start values.
    pub seed: u64,
}

impl<'a> Setup<'a> {
    /// One rate for all, as it is from the first step to the last: cross-entropy, no smoothing, no clipping, seed 0.
    pub const fn new(
        method: &'a dyn Method,
        sites: &'a [u32],
        readout: Readout,
        optimizer: &'a dyn Optimizer,
        rate: LearningRate,
    ) -> Self {
        Self {
            method,
            sites,
            readout,
            loss: Loss::CrossEntropy { smoothing: 0.0 },
            optimizer,
            moves: Moves::PLAIN,
            adapter: rate,
            head: rate,
            schedule: Schedule::CONSTANT,
            clip_norm: None,
            seed: 0,
        }
    }
}

/// How fast a part of the parameters moves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LearningRate {
    /// Learning rate before the schedule.
    pub rate: f32,
    /// Weight decay; never applied to biases, scales and shifts.
    pub weight_decay: f32,
}
