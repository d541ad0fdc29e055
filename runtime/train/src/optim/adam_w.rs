//! Adam with decoupled weight decay (Loshchilov & Hutter, 2019).

use ingraft_kernel::descent::Move;

use super::adam::AdamStep;
use super::{Adam, Elementwise, MAX_SLOTS, Rate, Slot};

/// As [`Adam`], with φ ← (1 − η·λ)·φ beside the adaptive step instead of a penalty in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW(
    /// The adaptive step.
    pub Adam,
);

impl AdamW {
    /// [`Adam::DEFAULT`].
    pub const DEFAULT: Self = Self(Adam::DEFAULT);
}

impl Elementwise for AdamW {
    const NAME: &'static str = "adamw";
    const SLOTS: &'static [Slot] = Adam::SLOTS;

    type Step = AdamStep;

    fn prepare(&self, rate: &Rate) -> AdamStep {
        self.0.step(rate, 1.0 - rate.learning_rate * rate.weight_decay)
    }

    fn moves(&self, rate: &Rate) -> Option<Move> {
        Some(self.0.as_move(&self.prepare(rate), None))
    }

    fn descend(
        &self,
        step: &AdamStep,
        parameters: &mut [f32],
        gradients: &[f32],
        state: [&mut [f32]; MAX_SLOTS],
    ) {
        self.0.adapt(step, (parameters, gradients), state, |g, _| step.rate.slope(g));
    }
}
