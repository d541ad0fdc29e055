//! What an adaptation method says to the trainer.

use ingraft_kernel::{SiteDesc, SiteGrads};
use ingraft_tensor::Rng;

use crate::{FrozenSite, LatentSites, Revision};

/// A way to adapt a frozen base whose parameters are the terms of sites.
///
/// The trainer owns memory, gradients and optimizer; a method only says which
/// terms a site gets, how they start and how fast they move. Implementations
/// are plain values and never allocate, so they train on devices without a heap.
///
/// Terms are trained as they are, or are *latent*: computed from fewer parameters
/// ([`LatentLayout`]). The kernels give the gradients of terms in either case;
/// a latent method carries them over to its parameters.
pub trait Method {
    /// Its name, as in `--method NAME`.
    fn name(&self) -> &'static str;

    /// Counts changes of what its parameters mean, from 1: an adapter records it.
    fn version(&self) -> u32 {
        1
    }

    /// Calls `visit` with the name and value of every setting, for the adapter's record.
    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting));

    /// The terms of `site`; [`TermLayout::NONE`] leaves the site as it is.
    ///
    /// # Errors
    /// [`Unfit`] when the settings make no sense at this site.
    fn layout(&self, site: &SiteDesc<'_>) -> Result<TermLayout, Unfit>;

    /// Sets the start values of a site's terms. They arrive as the identity:
    /// every delta and shift 0, every scale 1, no sparse positions.
    fn initialize(&self, site: &FrozenSite<'_>, rng: &mut Rng, terms: &mut SiteValues<'_>) {
        let _ = (site, rng, terms);
    }

    /// Brings a site's values back to those it can be deployed with; called after every step.
    fn constrain(&self, site: &FrozenSite<'_>, terms: &mut SiteValues<'_>) {
        let _ = (site, terms);
    }

    /// How the parameters of one part of a term move.
    fn rate(&self, part: Part) -> PartRate {
        let decays = matches!(part, Part::Down | Part::Up | Part::Sparse | Part::Dense | Part::Decaying);
        PartRate { scale: 1.0, decays }
    }

    /// Calls `visit` with every named tensor of a latent site, in the order of their declaration.
    fn tensors(&self, site: &SiteDesc<'_>, visit: &mut dyn FnMut(LatentTensor)) {
        let _ = (site, visit);
    }

    /// Sets the constants and the start values of a latent site. They arrive as zeros; values that sites share start as
    /// the last of them sets them.
    fn start(&self, site: &FrozenSite<'_>, rng: &mut Rng, latent: &mut Latent<'_>) {
        let _ = (site, rng, latent);
    }

    /// Computes the terms of a latent site from its parameters; called whenever they moved.
    fn compute(&self, site: &FrozenSite<'_>, latent: &mut Latent<'_>, terms: &mut SiteValues<'_>) {
        let _ = (site, latent, terms);
    }

    /// Adds to `gradients` those of a latent site's parameters, given those of its terms.
    fn pull_back(
        &self,
        site: &FrozenSite<'_>,
        latent: &mut Latent<'_>,
        terms: &SiteGrads<'_>,
        gradients: &mut LatentGradients<'_>,
    ) {
        let _ = (site, latent, terms, gradients);
    }

    /// Sets what depends on several latent sites, once, after all have started.
    fn settle(&self, sites: &mut LatentSites<'_>) {
        let _ = sites;
    }

    /// Revises what latent sites are computed from, after the optimizer moved it and before terms are computed
    /// again: what a method does beside following gradients (pruning, freezing, proximal steps).
    fn revise(&self, sites: &mut LatentSites<'_>, at: &Revision) {
        let _ = (sites, at);
    }
}

// Not a supertrait: its entry in every method's table would link float formatting into devices.
impl core::fmt::Debug for dyn Method + '_ {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// The value of a setting. Not a text: a device that never prints one need not
/// link what formats numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Setting {
    /// A count.
    Count(u32),
    /// A real number.
    Real(f64),
    /// Yes or no.
    Flag(bool),
    /// One of a few names.
    Name(&'static str),
}

impl core::fmt::Display for Setting {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Count(value) => value.fmt(f),
            Self::Real(value) => value.fmt(f),
            Self::Flag(value) => value.fmt(f),
            Self::Name(value) => value.fmt(f),
        }
    }
}

/// The trained terms of one site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TermLayout {
    /// Rank per group of a two-factor term; 0 for none.
    pub rank: u32,
    /// Entries of a sparse term; 0 for none.
    pub nnz: u32,
    /// Whether every weight is trained.
    pub dense: bool,
    /// Whether the scale of the pre-activation value is trained.
    pub scale: bool,
    /// Whether the shift of the pre-activation value is trained.
    pub shift: bool,
    /// What these terms are computed from, if they are.
    pub latent: LatentLayout,
}

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

impl TermLayout {
    /// No term: the site stays as it is.
    pub const NONE: Self =
        Self { rank: 0, nnz: 0, dense: false, scale: false, shift: false, latent: LatentLayout::NONE };

    /// Number of values of each term part at `site`, in order; `None` when it does not fit.
    pub(crate) fn lengths(&self, site: &SiteDesc<'_>) -> Option<[usize; Part::TERMS]> {
        let rank = self.rank as usize;
        let per_channel = |trained: bool| if trained { site.out } else { 0 };
        Some([
            site.groups.checked_mul(rank)?.checked_mul(site.row())?,
            site.out.checked_mul(rank)?,
            self.nnz as usize,
            if self.dense { site.out.checked_mul(site.row())? } else { 0 },
            per_channel(self.scale),
            per_channel(self.shift),
        ])
    }
}

/// A part of a site's parameters, in the order of the parameter vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The factor that reads the input.
    Down,
    /// The factor that writes the output.
    Up,
    /// Sparse deltas.
    Sparse,
    /// A delta of every weight.
    Dense,
    /// Scale per output channel.
    Scale,
    /// Shift per output channel.
    Shift,
    /// Latent parameters, [`LatentLayout::decaying`].
    Decaying,
    /// Latent parameters, [`LatentLayout::steady`].
    Steady,
}

impl Part {
    /// Number of parts.
    pub const COUNT: usize = 8;
    /// Number of parts that are terms; they come first.
    pub const TERMS: usize = 6;
    /// Every part, in order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Down,
        Self::Up,
        Self::Sparse,
        Self::Dense,
        Self::Scale,
        Self::Shift,
        Self::Decaying,
        Self::Steady,
    ];
}

/// How the parameters of one part move.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PartRate {
    /// s with stored value = s · parameter ([`crate::Optimizer`] says what follows from it); not 0.
    pub scale: f32,
    /// Whether weight decay applies. Only to what decays towards the base.
    pub decays: bool,
}

/// The values of a site's terms, to be written by a method.
///
/// Slices of parts that the layout does not have are empty. Shapes are those of
/// [`ingraft_kernel::terms`].
#[derive(Debug)]
pub struct SiteValues<'s> {
    /// `[groups · rank, row]`.
    pub down: &'s mut [f32],
    /// `[out, rank]`.
    pub up: &'s mut [f32],
    /// `[nnz]`.
    pub sparse: &'s mut [f32],
    /// `[out + 1]`, from 0 to nnz; for a sparse term the method sets it.
    pub indptr: &'s mut [u32],
    /// `[nnz]`, ascending within a row; for a sparse term the method sets it.
    pub indices: &'s mut [u16],
    /// As long as the base's weight and in its layout ([`FrozenSite::offset`]).
    pub dense: &'s mut [f32],
    /// `[out]`.
    pub scale: &'s mut [f32],
    /// `[out]`.
    pub shift: &'s mut [f32],
}

/// What a latent site's terms are computed from, in memory of the trainer.
#[derive(Debug, Default)]
pub struct Latent<'s> {
    /// Parameters that decay towards the base.
    pub decaying: &'s mut [f32],
    /// Parameters that do not.
    pub steady: &'s mut [f32],
    /// Set by [`Method::start`].
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

/// Why a method cannot adapt a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unfit {
    /// The rank is 0 or above what a term may have.
    Rank {
        /// The rank asked for.
        rank: u32,
        /// The largest possible.
        limit: u32,
    },
    /// Rows are longer than a sparse index can count.
    RowTooLong {
        /// Elements of a weight row.
        row: usize,
        /// The most possible.
        limit: usize,
    },
    /// A setting must divide a dimension of the weight, and does not.
    Divisor {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: usize,
        /// The dimension.
        dimension: usize,
    },
    /// The weight is smaller than the method can be defined on.
    TooSmall {
        /// The dimension.
        dimension: usize,
        /// The least possible.
        least: usize,
    },
    /// The method chooses what it trains by gradients of training data, which were not measured.
    Unmeasured,
    /// The method's expression has no meaning for a weight of this shape, or is too long to be recorded.
    Expression {
        /// Output channels.
        out: usize,
        /// Elements of a weight row.
        row: usize,
    },
}

impl core::fmt::Display for Unfit {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Rank { rank, limit } => write!(f, "rank {rank} is not in 1..={limit}"),
            Self::RowTooLong { row, limit } => {
                write!(
                    f,
                    "rows of {row} weights are beyond the {limit} a sparse term can index; leave this site out"
                )
            }
            Self::Divisor { setting, value, dimension } => {
                write!(
                    f,
                    "{setting}={value} does not divide {dimension}; choose a divisor or leave this site out"
                )
            }
            Self::TooSmall { dimension, least } => {
                write!(f, "a dimension of {dimension} is below {least}; leave this site out")
            }
            Self::Unmeasured => f.write_str(
                "the method chooses weights by gradients of the training data; measure them first (`ingraft train` does)",
            ),
            Self::Expression { out, row } => {
                write!(f, "the method is not defined on a weight of {out} by {row}; leave this site out")
            }
        }
    }
}

impl core::error::Error for Unfit {}
