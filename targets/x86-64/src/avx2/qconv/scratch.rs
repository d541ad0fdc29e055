//! The workspace of a tile: activation rows and their projections to rank space.

use ingraft_kernel::qconv::QConv;
use ingraft_kernel::terms::{Factors, MAX_TERM_RANK, TwoFactor};
use ingraft_kernel::window::ConvShape;

use super::low_rank::LowRank;
use crate::avx2::dot::{self, Reals};
use crate::avx2::qdot::Codes;
use crate::avx2::tile::{PIXELS, Panels, Run, STRIP, Tile};
use ingraft_vector::memory::take;

/// The rows of a run. Their size does not depend on which terms are active.
pub(super) struct Scratch<'m> {
    /// Patches as codes.
    pub(super) codes: Codes<'m>,
    /// Patches as `x − zx`; filled for a real two-factor term or a dense delta only.
    pub(super) reals: Reals<'m>,
    /// `A·x` of a real two-factor term.
    pub(super) latent: Reals<'m>,
    /// `A·x` of an integer two-factor term of large rank.
    pub(super) latent_codes: Codes<'m>,
    /// The integer two-factor term.
    pub(super) low_rank: Option<LowRank<'m>>,
}

impl<'m> Scratch<'m> {
    /// Bytes that [`Self::new`] takes.
    pub(super) fn bytes(shape: &ConvShape) -> usize {
        let len = shape.row();
        let codes = Codes::blocks(len) + Codes::blocks(MAX_TERM_RANK);
        let reals = Reals::blocks(len) + Reals::blocks(MAX_TERM_RANK);
        LowRank::bytes(shape) + (codes + reals) * 32 + len
    }

    /// Room for the rows of a run, and a buffer to gather one patch in.
    pub(super) fn new(mut memory: &'m mut [u8], conv: &QConv<'_>) -> Option<(Self, &'m mut [i8])> {
        let len = conv.shape.row();
        let term = conv.terms.two_factor;
        let rank = term.map_or(0, |term| term.rank);
        (rank <= MAX_TERM_RANK).then_some(())?;
        let low_rank = match term {
            Some(term) if matches!(term.factors, Factors::I8 { .. }) => {
                Some(LowRank::new(&term, &conv.shape, &mut memory)?)
            }
            _ => None,
        };
        let scratch = Self {
            codes: Panels::new(take(&mut memory, Codes::blocks(len))?, len, PIXELS)?,
            reals: Panels::new(take(&mut memory, Reals::blocks(len))?, len, PIXELS)?,
            latent: Panels::new(take(&mut memory, Reals::blocks(MAX_TERM_RANK))?, rank, PIXELS)?,
            latent_codes: Panels::new(take(&mut memory, Codes::blocks(MAX_TERM_RANK))?, rank, PIXELS)?,
            low_rank,
        };
        Some((scratch, take(&mut memory, len)?))
    }

    /// Prepares for runs of `group`.
    pub(super) fn load(&mut self, conv: &QConv<'_>, group: usize) -> Option<()> {
        self.low_rank.as_mut().map_or(Some(()), |term| term.load(conv, group))
    }

    /// Makes all rows those of a run of `rows` pixels.
    #[inline(always)]
    pub(super) fn set_rows(&mut self, rows: usize) -> Option<()> {
        self.codes.set_rows(rows)?;
        self.reals.set_rows(rows)?;
        self.latent.set_rows(rows)?;
        self.latent_codes.set_rows(rows)
    }

    /// Copies the patch of pixel `i`.
    #[inline(always)]
    pub(super) fn fill(&mut self, conv: &QConv<'_>, i: usize, patch: &[i8]) -> Option<()> {
        self.codes.fill(i, 0, patch, i16::from)?;
        let factors = matches!(conv.terms.two_factor, Some(TwoFactor { factors: Factors::F32 { .. }, .. }));
        if factors || conv.terms.dense.is_some() {
            let zero = conv.attrs.in_zero_point;
            self.reals.fill(i, 0, patch, |x| i32::from(x).wrapping_sub(zero) as f32)?;
        }
        Some(())
    }

    /// Computes `A·x` of every row for the two-factor term. `sums` is room for products.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn project(&mut self, conv: &QConv<'_>, run: Run, sums: &mut Tile<i32>) -> Option<()> {
        if let Some(term) = &mut self.low_rank {
            return term.project(conv, run, &self.codes, &mut self.latent_codes, sums);
        }
        let Some(TwoFactor { rank, factors: Factors::F32 { down, .. } }) = conv.terms.two_factor else {
            return Some(());
        };
        for start in (0..rank).step_by(STRIP) {
            let count = STRIP.min(rank - start);
            let mut sums = [[0.0; STRIP]; PIXELS];
            dot::products(&self.reals, down, run.group * rank + start, count, &mut sums)?;
            for (i, sums) in sums.iter().take(run.pixels).enumerate() {
                self.latent.fill(i, start, sums.get(..count)?, |s: f32| s * conv.attrs.in_scale)?;
            }
        }
        Some(())
    }
}
