//! Optimizers over one flat parameter vector.
//!
//! An implementation stands in [`OPTIMIZERS`] once; the command and the tests
//! find it there.

mod adam;
mod adam_w;
mod compact;
mod elementwise;
mod galore;
mod momentum;
mod moves;
mod sgd;

use ingraft_kernel::descent::{Held, Move, Rule};

pub use adam::{Adam, AdamStep, Beta};
pub use adam_w::AdamW;
pub use compact::{Bf16, Compact, Format, Int8, STATE_BLOCK};
pub use elementwise::{Elementwise, MAX_SLOTS, Slot};
pub use galore::{GaLore, MAX_HISTORY};
pub use momentum::Momentum;
pub use moves::{Moves, soft_threshold};
pub use sgd::Sgd;

/// A rule that moves parameters against their gradient.
///
/// # Scaled parameters
/// A trainer stores the *effective* value θ = s·φ that acts in the model, with
/// the method's scale s folded in (LoRA's α/r in `up`), while the published
/// dynamics are those of φ. Both are the same training when the rule is applied
/// to φ and the result carried over: the gradient of φ is s·∂L/∂θ, and a move of
/// φ by d moves θ by s·d. An adaptive rule forgets the gradient's scale, so its
/// moves of θ are s times those of an unscaled parameter; plain descent
/// multiplies by s twice. Weight decay acts on φ, and s cancels.
pub trait Optimizer: Sync {
    /// Its name, as in `--optimizer NAME`.
    fn name(&self) -> &'static str;

    /// Words of 32 bits that it keeps of a group, zero at the start.
    fn state_words(&self, shape: GroupShape) -> usize;

    /// Words of working memory, of no certain content between two updates: the largest need of all groups counts.
    fn workspace_words(&self, shape: GroupShape) -> usize {
        let _ = shape;
        0
    }

    /// Whether a group may be moved piece by piece: pieces begin at a multiple of 4096.
    fn is_divisible(&self) -> bool {
        true
    }

    /// How a target moves a group that it holds, as [`Self::update`] would: `None` for a rule that is the host's alone. State is
    /// then one vector behind the other.
    fn moves(&self, rate: &Rate) -> Option<Move> {
        let _ = rate;
        None
    }

    /// Moves the parameters of one group, or a piece of them.
    ///
    /// # Numerics
    /// f32, element by element in order, with `libm`: the same bits on every target.
    fn update(&self, rate: &Rate, group: Group<'_>);
}

// Not a supertrait: its entry in every optimizer's table would link float formatting into devices.
impl core::fmt::Debug for dyn Optimizer + '_ {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// How far one group moves in one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Learning rate, schedule and multipliers included.
    pub learning_rate: f32,
    /// Weight decay.
    pub weight_decay: f32,
    /// s of this group: stored value = s · parameter.
    pub scale: f32,
    /// What stored gradients are multiplied with: averaging and clipping.
    pub gradient: f32,
    /// Number of this step, from 1.
    pub step: u32,
}

/// A group as a matrix, row by row; one row where it is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupShape {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
}

impl GroupShape {
    /// Parameters that are no matrix.
    pub const fn vector(len: usize) -> Self {
        Self { rows: 1, columns: len }
    }

    /// A matrix `columns` wide; a vector where `len` is no multiple of that.
    pub fn matrix(len: usize, columns: usize) -> Self {
        match len.checked_div(columns) {
            Some(rows) if rows.wrapping_mul(columns) == len => Self { rows, columns },
            _ => Self::vector(len),
        }
    }

    /// Number of parameters.
    pub const fn count(self) -> usize {
        self.rows.saturating_mul(self.columns)
    }
}

/// One group of parameters with its gradients and state.
#[derive(Debug)]
pub struct Group<'g> {
    /// Stored values: of the group, or of the piece to move.
    pub parameters: &'g mut [f32],
    /// Gradients of the stored values.
    pub gradients: &'g [f32],
    /// The group's state, [`Optimizer::state_words`] of it.
    pub state: &'g mut [f32],
    /// [`Optimizer::workspace_words`] or more.
    pub workspace: &'g mut [f32],
    /// The whole group.
    pub shape: GroupShape,
    /// Where in the group the piece begins.
    pub first: usize,
}

impl<'g> Group<'g> {
    /// What is moved, where state is one vector behind the other.
    pub(crate) fn held(self) -> Held<'g> {
        let end = self.first.saturating_add(self.parameters.len());
        let (one, two) = self.state.split_at_mut_checked(self.shape.count()).unwrap_or_default();
        let state = [one, two].map(|slot| slot.get_mut(self.first..end).unwrap_or_default());
        Held { parameters: self.parameters, gradients: self.gradients, state }
    }
}

impl Rate {
    /// The move by `rule` that reaches as far as plain descent does.
    fn moves(&self, rule: Rule, penalty: Option<f32>) -> Move {
        Move {
            rule,
            gradient: self.gradient,
            scale: self.scale,
            penalty,
            keep: 1.0,
            reach: self.learning_rate * self.scale,
            threshold: None,
        }
    }

    /// How far the soft threshold of `moves` reaches in stored values.
    pub(crate) fn threshold(&self, moves: &Moves) -> f32 {
        self.learning_rate * moves.soft_threshold * self.scale.abs()
    }

    /// The gradient of the unscaled parameter, decay not included.
    fn slope(&self, gradient: f32) -> f32 {
        gradient * self.gradient * self.scale
    }

    /// The gradient of the unscaled parameter with the penalty ½·decay·φ².
    fn penalized(&self, gradient: f32, stored: f32) -> f32 {
        self.slope(gradient) + self.weight_decay * (stored / self.scale)
    }
}

/// The optimizer named `name`, with its default settings.
pub fn optimizer(name: &str) -> Option<&'static dyn Optimizer> {
    OPTIMIZERS.iter().copied().find(|optimizer| optimizer.name() == name)
}

/// Every optimizer, with its default settings.
pub static OPTIMIZERS: &[&dyn Optimizer] = &[
    &Adam::DEFAULT,
    &Compact::<_, Bf16>::new("adam-bf16", Adam::DEFAULT),
    &Compact::<_, Int8>::new("adam-int8", Adam::DEFAULT),
    &AdamW::DEFAULT,
    &Compact::<_, Bf16>::new("adamw-bf16", AdamW::DEFAULT),
    &Compact::<_, Int8>::new("adamw-int8", AdamW::DEFAULT),
    &GaLore::DEFAULT,
    &Momentum::DEFAULT,
    &Compact::<_, Bf16>::new("momentum-bf16", Momentum::DEFAULT),
    &Compact::<_, Int8>::new("momentum-int8", Momentum::DEFAULT),
    &GaLore::NATURAL,
    &Sgd,
];
