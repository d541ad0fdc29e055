//! Optimizers over one flat parameter vector.
//!
//! An implementation stands in [`OPTIMIZERS`] once; the command and the tests
//! find it there.

mod adam;
mod adam_w;
mod momentum;
mod sgd;

pub use adam::Adam;
pub use adam_w::AdamW;
pub use momentum::Momentum;
pub use sgd::Sgd;

/// The most state values an optimizer keeps per parameter.
pub const MAX_SLOTS: usize = 2;

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
    /// Its name, as in `--set optimizer=NAME`.
    fn name(&self) -> &'static str;

    /// f32 values of state per parameter, at most [`MAX_SLOTS`], zero at the start.
    fn slots(&self) -> usize;

    /// Moves the parameters of one group.
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

/// One group of parameters with its gradients and state.
#[derive(Debug)]
pub struct Group<'g> {
    /// Stored values.
    pub parameters: &'g mut [f32],
    /// Gradients of the stored values.
    pub gradients: &'g [f32],
    /// State, as many slices as [`Optimizer::slots`] says, the others empty.
    pub state: [&'g mut [f32]; MAX_SLOTS],
}

impl Rate {
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
pub static OPTIMIZERS: &[&dyn Optimizer] = &[&Adam::DEFAULT, &AdamW::DEFAULT, &Momentum::DEFAULT, &Sgd];
