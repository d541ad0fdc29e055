//! The terms a method gives a site: how many values of which part, how they move, where they are written.

use ingraft_kernel::SiteDesc;

use super::LatentLayout;

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
    /// As long as the base's weight and in its layout ([`crate::FrozenSite::offset`]).
    pub dense: &'s mut [f32],
    /// `[out]`.
    pub scale: &'s mut [f32],
    /// `[out]`.
    pub shift: &'s mut [f32],
}
