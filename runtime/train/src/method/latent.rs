//! What terms are computed from, where a method does not train them as they are.

/// What a method keeps at a site whose terms it computes instead of training them as they are.
///
/// A site is latent when it has any trained value of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatentLayout {
    /// Trained values whose zero is the base, so that weight decay applies to them.
    pub decaying: u32,
    /// Trained values that weight decay leaves alone.
    pub steady: u32,
    /// f64 values set at the start and never changed.
    pub constants: u32,
    /// f64 values of working memory, shared by all sites: the largest need counts.
    pub workspace: u32,
    /// With whom `decaying` and `steady` are shared: sites of one number other than 0 hold the same values, and
    /// what moves them is the sum of their gradients. They must be as many at each. 0 for values of the site's own.
    pub shared: [u64; 2],
}

impl LatentLayout {
    /// Terms are trained as they are.
    pub const NONE: Self = Self { decaying: 0, steady: 0, constants: 0, workspace: 0, shared: [0; 2] };
}

/// What a latent site's terms are computed from, in memory of the trainer.
#[derive(Debug, Default)]
pub struct Latent<'s> {
    /// Parameters that decay towards the base.
    pub decaying: &'s mut [f32],
    /// Parameters that do not.
    pub steady: &'s mut [f32],
    /// Set by [`crate::Method::start`].
    pub constants: &'s mut [f64],
    /// Of no certain content between two calls.
    pub workspace: &'s mut [f64],
}

/// What a latent site's terms are computed from, to look at.
#[derive(Clone, Copy, Debug, Default)]
pub struct LatentValues<'s> {
    /// As [`Latent::decaying`].
    pub decaying: &'s [f32],
    /// As [`Latent::steady`].
    pub steady: &'s [f32],
    /// As [`Latent::constants`].
    pub constants: &'s [f64],
}

impl LatentValues<'_> {
    /// Element `index` of `tensor`, row by row; 0 outside.
    pub fn element(&self, tensor: &LatentTensor, index: usize) -> f64 {
        let at = tensor.first.saturating_add(index);
        let narrow = |values: &[f32]| values.get(at).map_or(0.0, |value| f64::from(*value));
        match tensor.holder {
            LatentHolder::Decaying => narrow(self.decaying),
            LatentHolder::Steady => narrow(self.steady),
            LatentHolder::Constants => self.constants.get(at).copied().unwrap_or(0.0),
        }
    }
}

/// A named matrix among what a latent site's terms are computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatentTensor {
    /// Its name within the site: that of the published implementation where there is one.
    pub name: &'static str,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// Which vector holds it, row by row.
    pub holder: LatentHolder,
    /// Where it begins there.
    pub first: usize,
}

/// The vectors of [`Latent`] that hold named tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LatentHolder {
    /// [`Latent::decaying`].
    Decaying,
    /// [`Latent::steady`].
    Steady,
    /// [`Latent::constants`].
    Constants,
}

/// Where the gradients of latent parameters are added.
#[derive(Debug, Default)]
pub struct LatentGradients<'s> {
    /// Of [`Latent::decaying`].
    pub decaying: &'s mut [f32],
    /// Of [`Latent::steady`].
    pub steady: &'s mut [f32],
}
