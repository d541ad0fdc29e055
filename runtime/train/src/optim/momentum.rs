//! Gradient descent with a heavy ball.

use ingraft_kernel::descent::{Move, Rule};

use super::{Elementwise, MAX_SLOTS, Rate, Slot};

/// v ← μ·v + (g + λ·φ), φ ← φ − η·v (Polyak; without dampening or Nesterov's look-ahead).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Momentum {
    /// μ.
    pub momentum: f32,
}

impl Momentum {
    /// μ = 0.9.
    pub const DEFAULT: Self = Self { momentum: 0.9 };
}

impl Elementwise for Momentum {
    const NAME: &'static str = "momentum";
    const SLOTS: &'static [Slot] = &[Slot::Signed];

    type Step = Rate;

    fn prepare(&self, rate: &Rate) -> Rate {
        *rate
    }

    fn moves(&self, rate: &Rate) -> Option<Move> {
        Some(rate.moves(Rule::Momentum { momentum: self.momentum }, Some(rate.weight_decay)))
    }

    fn descend(
        &self,
        rate: &Rate,
        parameters: &mut [f32],
        gradients: &[f32],
        [velocity, _]: [&mut [f32]; MAX_SLOTS],
    ) {
        let reach = rate.learning_rate * rate.scale;
        for ((p, g), v) in parameters.iter_mut().zip(gradients).zip(velocity) {
            *v = self.momentum * *v + rate.penalized(*g, *p);
            *p -= reach * *v;
        }
    }
}
