//! Rules that move every parameter on its own.

use ingraft_kernel::descent::{Held, Move};

use super::{Group, GroupShape, Optimizer, Rate};

/// The most values that such a rule keeps of a parameter.
pub const MAX_SLOTS: usize = 2;

/// What one value of state is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// Of either sign.
    Signed,
    /// Never negative.
    Positive,
}

/// A rule by which a parameter moves whatever the others do.
pub trait Elementwise: Sync {
    /// Its name, as in `--optimizer NAME`.
    const NAME: &'static str;

    /// What it keeps of a parameter: at most [`MAX_SLOTS`] values, zero at the start.
    const SLOTS: &'static [Slot];

    /// What is the same for all parameters of a group in one step.
    type Step;

    /// Computes it.
    fn prepare(&self, rate: &Rate) -> Self::Step;

    /// The same as a target computes it; `None` where it cannot.
    fn moves(&self, rate: &Rate) -> Option<Move> {
        let _ = rate;
        None
    }

    /// Moves `parameters`, of each of which `state` holds a value per slot.
    fn descend(
        &self,
        step: &Self::Step,
        parameters: &mut [f32],
        gradients: &[f32],
        state: [&mut [f32]; MAX_SLOTS],
    );
}

/// State in f32: one slot behind the other.
impl<E: Elementwise> Optimizer for E {
    fn name(&self) -> &'static str {
        E::NAME
    }

    fn state_words(&self, shape: GroupShape) -> usize {
        shape.count().saturating_mul(E::SLOTS.len())
    }

    fn moves(&self, rate: &Rate) -> Option<Move> {
        Elementwise::moves(self, rate)
    }

    fn update(&self, rate: &Rate, group: Group<'_>) {
        let Held { parameters, gradients, state } = group.held();
        self.descend(&self.prepare(rate), parameters, gradients, state);
    }
}
