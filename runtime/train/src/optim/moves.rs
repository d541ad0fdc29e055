//! How the parameters of sites move apart from the optimizer's rule.

/// Changes to the moves of the parameters of sites, whatever the optimizer; a head's are not concerned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moves {
    /// The learning rate of the factors that write an output, in those of all other parameters (LoRA+, Hayou et al.,
    /// 2024: B moves λ times as fast as A, with λ about 16).
    pub up_ratio: f32,
    /// λ of a penalty λ·|φ|₁ of the parameters that decay towards the base, taken as a proximal step behind every move
    /// (ISTA, Daubechies et al., 2004): they become zero, not only small. By the learning rate alone, also where the
    /// optimizer adapts it by parameter.
    pub soft_threshold: f32,
}

impl Moves {
    /// None.
    pub const PLAIN: Self = Self { up_ratio: 1.0, soft_threshold: 0.0 };
}

/// Brings every value nearer to zero by `reach`, and to zero where it is no further from it: the proximal step of
/// `reach`·|x|₁.
pub fn soft_threshold(values: &mut [f32], reach: f32) {
    for value in values {
        *value = if value.abs() <= reach { 0.0 } else { *value - reach.copysign(*value) };
    }
}
