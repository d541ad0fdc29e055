//! What an adaptation method says to the trainer.

use ingraft_kernel::SiteDesc;
use ingraft_tensor::Rng;

use crate::FrozenSite;

/// A way to adapt a frozen base whose parameters are the terms of sites.
///
/// The trainer owns memory, gradients and optimizer; a method only says which
/// terms a site gets, how they start and how fast they move. Implementations
/// are plain values and never allocate, so they train on devices without a heap.
pub trait Method {
    /// Its name, as in `--method NAME`.
    fn name(&self) -> &'static str;

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
        PartRate { scale: 1.0, decays: matches!(part, Part::Down | Part::Up | Part::Sparse) }
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
    /// Whether the scale of the pre-activation value is trained.
    pub scale: bool,
    /// Whether the shift of the pre-activation value is trained.
    pub shift: bool,
}

impl TermLayout {
    /// No term: the site stays as it is.
    pub const NONE: Self = Self { rank: 0, nnz: 0, scale: false, shift: false };

    /// Number of trained values of each [`Part`] at `site`, in order; `None` when it does not fit.
    pub(crate) fn lengths(&self, site: &SiteDesc<'_>) -> Option<[usize; Part::COUNT]> {
        let rank = self.rank as usize;
        let per_channel = |trained: bool| if trained { site.out } else { 0 };
        Some([
            site.groups.checked_mul(rank)?.checked_mul(site.row())?,
            site.out.checked_mul(rank)?,
            self.nnz as usize,
            per_channel(self.scale),
            per_channel(self.shift),
        ])
    }
}

/// A part of a site's terms, in the order of the parameter vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The factor that reads the input.
    Down,
    /// The factor that writes the output.
    Up,
    /// Sparse deltas.
    Sparse,
    /// Scale per output channel.
    Scale,
    /// Shift per output channel.
    Shift,
}

impl Part {
    /// Number of parts.
    pub const COUNT: usize = 5;
    /// Every part, in order.
    pub const ALL: [Self; Self::COUNT] = [Self::Down, Self::Up, Self::Sparse, Self::Scale, Self::Shift];
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
    /// `[out]`.
    pub scale: &'s mut [f32],
    /// `[out]`.
    pub shift: &'s mut [f32],
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
        }
    }
}

impl core::error::Error for Unfit {}
