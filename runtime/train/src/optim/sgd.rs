//! Plain gradient descent.

use super::{Group, Optimizer, Rate};

/// φ ← φ − η·(g + λ·φ).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd;

impl Optimizer for Sgd {
    fn name(&self) -> &'static str {
        "sgd"
    }

    fn slots(&self) -> usize {
        0
    }

    fn update(&self, rate: &Rate, group: Group<'_>) {
        let reach = rate.learning_rate * rate.scale;
        for (p, g) in group.parameters.iter_mut().zip(group.gradients) {
            *p -= reach * rate.penalized(*g, *p);
        }
    }
}
