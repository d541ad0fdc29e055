//! The workspace of a tile: activation rows and their projections to rank space.

use ingraft_kernel::qconv::QConv;
use ingraft_kernel::requantize::to_i16;
use ingraft_kernel::terms::{Factors, MAX_TERM_RANK, TwoFactor};
use ingraft_kernel::window::{ConvShape, row};

use crate::avx2::dot::{self, Reals};
use crate::avx2::qdot::{self, Codes};
use crate::avx2::tile::{PIXELS, Panels, Run, STRIP, take};

/// The rows of a run. Their size does not depend on which terms are active.
pub(super) struct Scratch<'m> {
    /// Patches as codes.
    pub(super) codes: Codes<'m>,
    /// Patches as `x − zx`; filled for a real two-factor term or a dense delta only.
    pub(super) reals: Reals<'m>,
    /// `A·x` of a real two-factor term.
    pub(super) latent: Reals<'m>,
    /// `A·x` of an integer two-factor term.
    pub(super) latent_codes: Codes<'m>,
}

impl<'m> Scratch<'m> {
    /// Bytes that [`Self::new`] takes.
    pub(super) fn bytes(shape: &ConvShape) -> usize {
        let len = shape.row();
        let codes = Codes::blocks(len) + Codes::blocks(MAX_TERM_RANK);
        let reals = Reals::blocks(len) + Reals::blocks(MAX_TERM_RANK);
        (codes + reals) * 32 + len
    }

    /// The rows of `rows` pixels, and a buffer to gather one patch in.
    pub(super) fn new(
        mut memory: &'m mut [u8],
        conv: &QConv<'_>,
        rows: usize,
    ) -> Option<(Self, &'m mut [i8])> {
        let len = conv.shape.row();
        let rank = conv.terms.two_factor.map_or(0, |term| term.rank);
        (rank <= MAX_TERM_RANK).then_some(())?;
        let scratch = Self {
            codes: Panels::new(take(&mut memory, Codes::blocks(len))?, len, rows)?,
            reals: Panels::new(take(&mut memory, Reals::blocks(len))?, len, rows)?,
            latent: Panels::new(take(&mut memory, Reals::blocks(MAX_TERM_RANK))?, rank, rows)?,
            latent_codes: Panels::new(take(&mut memory, Codes::blocks(MAX_TERM_RANK))?, rank, rows)?,
        };
        Some((scratch, take(&mut memory, len)?))
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

    /// Computes `A·x` of every row for the two-factor term.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn project(&mut self, conv: &QConv<'_>, run: Run) -> Option<()> {
        let Some(term) = conv.terms.two_factor else { return Some(()) };
        let first = run.group * term.rank;
        for start in (0..term.rank).step_by(STRIP) {
            let count = STRIP.min(term.rank - start);
            match term.factors {
                Factors::F32 { down, .. } => {
                    self.project_reals(conv, run.pixels, down, first + start, start, count)?;
                }
                Factors::I8 { down, down_scale, .. } => {
                    let scale = down_scale.get(first + start..)?.get(..count)?;
                    self.project_codes(conv, run.pixels, down, first + start, start, scale)?;
                }
            }
        }
        Some(())
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn project_reals(
        &mut self,
        conv: &QConv<'_>,
        pixels: usize,
        down: &[f32],
        first: usize,
        start: usize,
        count: usize,
    ) -> Option<()> {
        let mut sums = [[0.0; STRIP]; PIXELS];
        dot::products(&self.reals, down, first, count, &mut sums)?;
        for (i, sums) in sums.iter().take(pixels).enumerate() {
            self.latent.fill(i, start, sums.get(..count)?, |s: f32| s * conv.attrs.in_scale)?;
        }
        Some(())
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn project_codes(
        &mut self,
        conv: &QConv<'_>,
        pixels: usize,
        down: &[i8],
        first: usize,
        start: usize,
        scale: &[f32],
    ) -> Option<()> {
        let mut sums = [[0; STRIP]; PIXELS];
        qdot::products(&self.codes, down, first, scale.len(), &mut sums)?;
        let mut offsets = [0i32; STRIP];
        for (k, offset) in offsets.iter_mut().take(scale.len()).enumerate() {
            let a = row(down, first + k, conv.shape.row())?;
            let sum = a.iter().fold(0i32, |s, a| s.wrapping_add(i32::from(*a)));
            *offset = sum.wrapping_mul(conv.attrs.in_zero_point);
        }
        for (i, sums) in sums.iter().take(pixels).enumerate() {
            let mut codes = [0i16; STRIP];
            for (((u, sum), offset), scale) in codes.iter_mut().zip(sums).zip(&offsets).zip(scale) {
                *u = to_i16(sum.wrapping_sub(*offset) as f32 * scale);
            }
            self.latent_codes.fill(i, start, codes.get(..scale.len())?, |u: i16| u)?;
        }
        Some(())
    }
}
