//! Adam with decoupled weight decay (Loshchilov & Hutter, 2019).

use super::{Adam, Group, Optimizer, Rate};

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

impl Optimizer for AdamW {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn slots(&self) -> usize {
        2
    }

    fn update(&self, rate: &Rate, group: Group<'_>) {
        let keep = 1.0 - rate.learning_rate * rate.weight_decay;
        self.0.descend(rate, group, keep, |g, _| rate.slope(g));
    }
}
