//! Adam (Kingma & Ba, 2015), decay as a penalty in the gradient.

use ingraft_kernel::descent::{Move, Rule};
use ingraft_tensor::arrays::{arrays, arrays_mut};

use super::{Elementwise, MAX_SLOTS, Rate, Slot};

/// How much of a moment stays at every step, and how much is new: 1 − 0.999 would lose three digits in f32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Beta {
    /// β, rounded.
    pub(super) beta: f32,
    /// 1 − β, rounded.
    pub(super) rest: f32,
}

impl Beta {
    /// β.
    pub const fn new(beta: f64) -> Self {
        Self { beta: beta as f32, rest: (1.0 - beta) as f32 }
    }

    /// 1 − βᵗ of step t, from 1.
    ///
    /// # Numerics
    /// f32, within 3e-7: no power in f64, for which devices have no instruction.
    fn bias(self, step: u32) -> f32 {
        -libm::expm1f(step as f32 * libm::log1pf(-self.rest))
    }
}

/// m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g², φ ← φ − η·m̂/(√v̂ + ε), with g including λ·φ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// β₁ and β₂.
    pub betas: [Beta; 2],
    /// ε.
    pub epsilon: f32,
}

impl Adam {
    /// β = 0.9, 0.999, ε = 10⁻⁸.
    pub const DEFAULT: Self = Self { betas: [Beta::new(0.9), Beta::new(0.999)], epsilon: 1e-8 };

    /// 1 − β₁ᵗ and √(1 − β₂ᵗ) of step t, from 1: what the moments are short of while they fill up.
    pub(super) fn biases(&self, step: u32) -> [f32; 2] {
        let [first, second] = self.betas.map(|beta| beta.bias(step));
        [first, libm::sqrtf(second)]
    }

    /// What a step of `rate` does to every parameter, stored values being shrunk by `keep` first.
    pub(super) fn step(&self, rate: &Rate, keep: f32) -> AdamStep {
        let [bias, root_bias] = self.biases(rate.step);
        AdamStep { rate: *rate, reach: rate.learning_rate * rate.scale / bias, root_bias, keep }
    }

    /// What `step` does to every parameter, as a target computes it.
    pub(super) fn as_move(&self, step: &AdamStep, penalty: Option<f32>) -> Move {
        let [first, second] = self.betas;
        let rule = Rule::Adam {
            first: first.rest,
            second: second.beta,
            new_second: second.rest,
            root_bias: step.root_bias,
            epsilon: self.epsilon,
        };
        Move { keep: step.keep, reach: step.reach, ..step.rate.moves(rule, penalty) }
    }

    /// Moves `parameters` by the gradients `slope(stored gradient, stored value)` of the unscaled parameters.
    pub(super) fn adapt(
        &self,
        step: &AdamStep,
        (parameters, gradients): (&mut [f32], &[f32]),
        [mean, square]: [&mut [f32]; MAX_SLOTS],
        slope: impl Fn(f32, f32) -> f32,
    ) {
        let [first, second] = self.betas;
        let AdamStep { reach, root_bias, keep, .. } = *step;
        let move_run = |p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]| {
            let mut roots = [0.0f32; RUN];
            for ((((p, g), m), v), root) in
                p.iter().zip(g).zip(m.iter_mut()).zip(v.iter_mut()).zip(&mut roots)
            {
                let g = slope(*g, *p);
                *m += first.rest * (g - *m);
                *v = second.beta * *v + second.rest * (g * g);
                *root = *v;
            }
            roots.iter_mut().for_each(|root| *root = libm::sqrtf(*root));
            for ((p, m), root) in p.iter_mut().zip(m.iter()).zip(&roots) {
                *p = *p * keep - reach * (*m / (*root / root_bias + self.epsilon));
            }
        };
        let (parameters, parameters_rest) = arrays_mut::<_, RUN>(parameters);
        let (gradients, gradients_rest) = arrays::<_, RUN>(gradients);
        let (mean, mean_rest) = arrays_mut::<_, RUN>(mean);
        let (square, square_rest) = arrays_mut::<_, RUN>(square);
        for (((p, g), m), v) in parameters.iter_mut().zip(gradients).zip(mean).zip(square) {
            move_run(p, g, m, v);
        }
        move_run(parameters_rest, gradients_rest, mean_rest, square_rest);
    }
}

/// One step of [`Adam`] or [`super::AdamW`].
#[derive(Clone, Copy, Debug)]
pub struct AdamStep {
    pub(super) rate: Rate,
    /// How far Adam's direction moves a stored value, first bias correction included.
    reach: f32,
    /// The second.
    root_bias: f32,
    /// What stored values are multiplied with.
    keep: f32,
}

/// Parameters that are moved together: the root is no instruction a compiler makes a vector of, all else is.
const RUN: usize = 16;

impl Elementwise for Adam {
    const NAME: &'static str = "adam";
    const SLOTS: &'static [Slot] = &[Slot::Signed, Slot::Positive];

    type Step = AdamStep;

    fn prepare(&self, rate: &Rate) -> AdamStep {
        self.step(rate, 1.0)
    }

    fn moves(&self, rate: &Rate) -> Option<Move> {
        Some(self.as_move(&self.prepare(rate), Some(rate.weight_decay)))
    }

    fn descend(
        &self,
        step: &AdamStep,
        parameters: &mut [f32],
        gradients: &[f32],
        state: [&mut [f32]; MAX_SLOTS],
    ) {
        self.adapt(step, (parameters, gradients), state, |g, p| step.rate.penalized(g, p));
    }
}

#[cfg(test)]
mod tests {
    use super::Beta;

    #[test]
    fn biases_are_those_of_f64() {
        for beta in [0.0, 0.5, 0.9, 0.95, 0.999, 0.9999] {
            for step in [1u32, 2, 3, 10, 100, 1000, 30_000, 4_000_000] {
                let exact = 1.0 - libm::pow(beta, f64::from(step));
                let found = f64::from(Beta::new(beta).bias(step));
                assert!((found / exact - 1.0).abs() < 3e-7, "{beta} {step}: {found} {exact}");
            }
        }
    }
}
