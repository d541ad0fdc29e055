//! Real terms of a layer on codes: factors, a sparse delta, and scale and shift.

use ingraft_kernel::qconv::QConv;
use ingraft_kernel::terms::{Factors, SparseValues};
use ingraft_kernel::{SiteTerms, Sparse, TwoFactor};

use super::real_sparse::{RealSparse, Sums};
use crate::affine::ChunkAffine;
use crate::columns::Chunk;
use crate::gemm::{Pixels, Rows};
use crate::patches::Segments;
use crate::real_factors::{self, LowRank, ProjectionOfCodes};
use crate::simd::Simd;

/// What is added to the values of a layer before they are clamped.
pub(super) trait Extra<S: Simd> {
    /// Prepares for pixels of `group`.
    fn rows(&mut self, simd: S, group: usize, rows: &Rows<'_>) -> Option<()>;
    /// Prepares for `chunk` of `group`.
    fn chunk(&mut self, simd: S, group: usize, chunk: Chunk) -> Option<()>;
    /// Changes the values of a pixel's channels.
    fn add<const N: usize>(&self, simd: S, pixel: usize, values: &mut [S::Real; N]) -> Option<()>;
}

impl<S: Simd> Extra<S> for () {
    #[inline(always)]
    fn rows(&mut self, _: S, _: usize, _: &Rows<'_>) -> Option<()> {
        Some(())
    }

    #[inline(always)]
    fn chunk(&mut self, _: S, _: usize, _: Chunk) -> Option<()> {
        Some(())
    }

    #[inline(always)]
    fn add<const N: usize>(&self, _: S, _: usize, _: &mut [S::Real; N]) -> Option<()> {
        Some(())
    }
}

/// Whether these are all the terms there are.
pub(super) fn takes(terms: &SiteTerms<'_>) -> bool {
    let others = terms.dense.is_some() || terms.patched.is_some();
    !others
        && terms.sparse.is_none_or(|sparse| is_real(&sparse))
        && terms.two_factor.is_none_or(|term| real_factors::takes(&term))
}

/// Whether the values of a delta are real.
pub(super) fn is_real(sparse: &Sparse<'_>) -> bool {
    matches!(sparse.values, SparseValues::F32(_))
}

/// The real terms that act.
pub(super) struct RealTerms<'a, 'm> {
    low_rank: Option<(LowRank<'a, 'm>, &'m mut [f32])>,
    sparse: Option<RealSparse<'a, 'm>>,
    affine: ChunkAffine<'a>,
    out_group: usize,
    /// Of the layer's input.
    zero: i32,
    in_scale: f32,
}

impl<'a, 'm> RealTerms<'a, 'm> {
    /// Real factors, sparse delta, scale and shift of `conv`; `None` for a high rank, or where memory is short.
    pub(super) fn new<S: Simd>(conv: &QConv<'a>, memory: &mut &'m mut [u8]) -> Option<Self> {
        let (terms, row) = (conv.terms, conv.shape.row());
        let (out_group, inverse) = (conv.shape.out_group, 1.0 / conv.attrs.out_scale);
        let real = |term: &TwoFactor<'_>| matches!(term.factors, Factors::F32 { .. });
        let low_rank = match terms.two_factor.filter(real) {
            None => None,
            Some(term) => {
                let segments = Segments::of_reals(row);
                let term = LowRank::new::<S>(&term, segments, (out_group, inverse), memory)?;
                Some((term, ProjectionOfCodes::room(row, memory)?))
            }
        };
        let sparse = match terms.sparse.filter(is_real) {
            None => None,
            Some(sparse) => Some(RealSparse::new(conv, sparse, memory)?),
        };
        Some(Self {
            low_rank,
            sparse,
            affine: ChunkAffine::new(terms.affine, inverse),
            out_group,
            zero: conv.attrs.in_zero_point,
            in_scale: conv.attrs.in_scale,
        })
    }

    /// Whether any of them acts.
    #[inline(always)]
    pub(super) fn act(&self) -> bool {
        self.low_rank.is_some() || self.sparse.is_some() || self.affine.acts()
    }
}

impl<S: Simd> Extra<S> for RealTerms<'_, '_> {
    #[inline(always)]
    fn rows(&mut self, simd: S, group: usize, rows: &Rows<'_>) -> Option<()> {
        if let Some(term) = &mut self.sparse {
            term.rows::<S>(rows)?;
        }
        let Some((term, reals)) = &mut self.low_rank else { return Some(()) };
        let (zero, scale) = (self.zero, self.in_scale);
        simd.perform(ProjectionOfCodes { term, group, rows, zero, scale, reals })
    }

    #[inline(always)]
    fn chunk(&mut self, simd: S, group: usize, chunk: Chunk) -> Option<()> {
        if let Some((term, _)) = &mut self.low_rank {
            term.chunk(group, chunk)?;
        }
        if let Some(term) = &mut self.sparse {
            simd.perform(Sums { term, group, chunk })?;
        }
        let first = group * self.out_group + chunk.first;
        self.affine.chunk(first..first + chunk.count)
    }

    #[inline(always)]
    fn add<const N: usize>(&self, simd: S, pixel: usize, values: &mut [S::Real; N]) -> Option<()> {
        if let Some((term, _)) = &self.low_rank {
            let latents = term.latents(Pixels { first: pixel, count: 1 })?;
            term.add(simd, latents, 0, values)?;
        }
        if let Some(term) = &self.sparse {
            term.add(simd, pixel, values)?;
        }
        self.affine.apply(simd, values);
        Some(())
    }
}
