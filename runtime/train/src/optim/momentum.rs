//! Gradient descent with a heavy ball.

use super::{Group, Optimizer, Rate};

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

impl Optimizer for Momentum {
    fn name(&self) -> &'static str {
        "momentum"
    }

    fn slots(&self) -> usize {
        1
    }

    fn update(&self, rate: &Rate, group: Group<'_>) {
        let reach = rate.learning_rate * rate.scale;
        let [velocity, _] = group.state;
        for ((p, g), v) in group.parameters.iter_mut().zip(group.gradients).zip(velocity) {
            *v = self.momentum * *v + rate.penalized(*g, *p);
            *p -= reach * *v;
        }
    }
}
