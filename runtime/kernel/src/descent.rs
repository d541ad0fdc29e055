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
//! f32 in the order written, each operation rounded by itself: the same bits wherever it runs.

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
