//! How parameters start.

use ingraft_tensor::Rng;

use super::Node;

/// Start values of a parameter.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start<'t> {
    /// All of one value.
    Constant(f64),
    /// Uniform in ±bound.
    Uniform(f64),
    /// Normal with mean 0.
    Normal(f64),
    /// A value computed from the weight and constants.
    Value(Node<'t>),
}

impl Start<'_> {
    /// Zeros.
    pub(crate) const ZERO: Self = Self::Constant(0.0);

    /// Uniform in ±1/√fan_in: PyTorch's `kaiming_uniform_` with a = √5, where fan_in is
    /// the length of a row.
    pub(crate) fn kaiming(fan_in: usize) -> Self {
        Self::Uniform(1.0 / libm::sqrt(fan_in.max(1) as f64))
    }
}

/// A normally distributed value with mean 0 and deviation 1 (Box & Muller, 1958).
pub(super) fn normal(rng: &mut Rng) -> f64 {
    // 1 − unit lies in (0, 1], where the logarithm is finite.
    let radius = libm::sqrt(-2.0 * libm::log(1.0 - rng.unit()));
    radius * libm::cos(2.0 * core::f64::consts::PI * rng.unit())
}
