//! How a target moves parameters that it holds: elementwise rules, as coefficients.
//!
//! With g = gradient · [`Move::gradient`] · [`Move::scale`], and with a penalty g + penalty · (p / scale):
//!
//! | rule | state | move |
//! |---|---|---|
//! | [`Rule::Descent`] | | p ← p − reach · g |
//! | [`Rule::Momentum`] | v | v ← momentum · v + g; p ← p − reach · v |
//! | [`Rule::Adam`] | m, v | m ← m + first · (g − m); v ← second · v + new_second · g²; p ← p · keep − reach · (m / (√v / root_bias + ε)) |
//!
//! # Numerics
//! f32 in the order written, each operation rounded by itself: the same bits wherever it runs. No f64: cores that train
//! have no instruction for it.

use ingraft_tensor::arrays::arrays;

/// Gradients of a group whose squares are added by themselves, [`sum_of_squares`]: each run begins at a multiple of this.
pub const SQUARES: usize = 1024;

/// Sum of squares of `gradients · scale`, of at most [`SQUARES`] of them.
///
/// # Numerics
/// f32 in eight interleaved sums that are added in order, and behind them what is left of a multiple of eight: within 8e-6
/// of the exact sum. Infinite where a gradient is beyond 1.8e19, nothing where all are below 1e-23.
pub fn sum_of_squares(gradients: &[f32], scale: f32) -> f32 {
    let square = |g: &f32| (g * scale) * (g * scale);
    let (runs, rest) = arrays::<_, 8>(gradients);
    let mut sums = [0.0f32; 8];
    for run in runs {
        sums.iter_mut().zip(run).for_each(|(sum, g)| *sum += square(g));
    }
    sums.into_iter().chain(rest.iter().map(square)).fold(0.0, |total, sum| total + sum)
}

/// An elementwise rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Plain descent.
    Descent,
    /// A heavy ball.
    Momentum {
        /// μ.
        momentum: f32,
    },
    /// Moments of the gradient.
    Adam {
        /// 1 − β₁.
        first: f32,
        /// β₂.
        second: f32,
        /// 1 − β₂.
        new_second: f32,
        /// √(1 − β₂ᵗ).
        root_bias: f32,
        /// ε.
        epsilon: f32,
    },
}

/// How every parameter of a group moves in one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Move {
    /// The rule.
    pub rule: Rule,
    /// What summed gradients are multiplied with: averaging and clipping.
    pub gradient: f32,
    /// s of the group: stored value = s · parameter.
    pub scale: f32,
    /// λ of a penalty in the gradient.
    pub penalty: Option<f32>,
    /// What stored values are multiplied with, by Adam alone.
    pub keep: f32,
    /// How far the rule's direction moves a stored value.
    pub reach: f32,
    /// By how much values are brought nearer to zero behind it, and to zero where they are no further away.
    pub threshold: Option<f32>,
}

/// A group of parameters: parts of what a target mirrors and collects.
#[derive(Clone, Copy, Debug)]
pub struct Descent<'d> {
    /// Stored values.
    pub parameters: &'d [f32],
    /// Their summed gradients.
    pub gradients: &'d [f32],
    /// What the rule keeps of each of them; empty where it keeps less.
    pub state: [&'d [f32]; 2],
    /// How they move.
    pub moves: Move,
}

/// Values of a group, or of a piece of one, in memory of the host.
#[derive(Debug)]
pub struct Held<'d> {
    /// Stored values.
    pub parameters: &'d mut [f32],
    /// Their summed gradients.
    pub gradients: &'d [f32],
    /// What the rule keeps of each of them; empty where it keeps less.
    pub state: [&'d mut [f32]; 2],
}

/// A host target's own loop over what a [`Move`] says but for its threshold.
pub type HostDescent = fn(&Move, Held<'_>);

#[cfg(test)]
mod tests {
    use ingraft_tensor::Rng;

    use super::{SQUARES, sum_of_squares};

    #[test]
    fn sums_of_squares_are_near_those_of_f64() {
        let mut rng = Rng::new(2);
        for len in [0, 1, 7, 8, 9, 100, SQUARES - 1, SQUARES] {
            let gradients: [f32; SQUARES] = core::array::from_fn(|_| rng.symmetric(4.0));
            let gradients = &gradients[..len];
            let square = |g: &f32| f64::from(*g) * f64::from(*g) * 0.25;
            let exact: f64 = gradients.iter().map(square).sum();
            let error = (f64::from(sum_of_squares(gradients, 0.5)) - exact).abs();
            assert!(error <= 8e-6 * exact, "{len}: {error}");
        }
        assert_eq!(sum_of_squares(&[f32::NAN], 1.0).to_bits() & 0x7fff_ffff, f32::NAN.to_bits());
        assert_eq!(sum_of_squares(&[1e20, 1.0], 1.0), f32::INFINITY);
    }
}
