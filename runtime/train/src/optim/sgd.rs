//! Plain gradient descent.

use ingraft_kernel::descent::{Move, Rule};

use super::{Elementwise, MAX_SLOTS, Rate, Slot};

/// φ ← φ − η·(g + λ·φ).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd;

impl Elementwise for Sgd {
    const NAME: &'static str = "sgd";
    const SLOTS: &'static [Slot] = &[];

    type Step = Rate;

    fn prepare(&self, rate: &Rate) -> Rate {
        *rate
    }

    fn moves(&self, rate: &Rate) -> Option<Move> {
        Some(rate.moves(Rule::Descent, Some(rate.weight_decay)))
    }

    fn descend(&self, rate: &Rate, parameters: &mut [f32], gradients: &[f32], _: [&mut [f32]; MAX_SLOTS]) {
        let reach = rate.learning_rate * rate.scale;
        for (p, g) in parameters.iter_mut().zip(gradients) {
            *p -= reach * rate.penalized(*g, *p);
        }
    }
}
