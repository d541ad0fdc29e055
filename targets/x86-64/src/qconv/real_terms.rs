//! Real terms of a layer on codes: factors, and scale and shift.

use ingraft_kernel::SiteTerms;
use ingraft_kernel::qconv::QConv;
use ingraft_kernel::terms::Affine;

use crate::columns::Chunk;
use crate::gemm::{Pixels, Rows, STRIP};
use crate::patches::Segments;
use crate::real_factors::{self, LowRank, ProjectionOfCodes, bytes_of_codes};
use crate::simd::Simd;

/// What is added to the values of a layer before they are clamped.
pub(super) trait Extra<S: Simd> {
    /// Prepares for pixels of `group`.
    fn rows(&mut self, simd: S, group: usize, rows: &Rows<'_>) -> Option<()>;
    /// Prepares for `chunk` of `group`.
    fn chunk(&mut self, group: usize, chunk: Chunk) -> Option<()>;
    /// Changes the values of a pixel's channels.
    fn add<const N: usize>(&self, simd: S, pixel: usize, values: &mut [S::Real; N]) -> Option<()>;
}

impl<S: Simd> Extra<S> for () {
    #[inline(always)]
    fn rows(&mut self, _: S, _: usize, _: &Rows<'_>) -> Option<()> {
        Some(())
    }

    #[inline(always)]
    fn chunk(&mut self, _: usize, _: Chunk) -> Option<()> {
        Some(())
    }

    #[inline(always)]
    fn add<const N: usize>(&self, _: S, _: usize, _: &mut [S::Real; N]) -> Option<()> {
        Some(())
    }
}

/// Workspace for the terms of a layer whose weight rows have `row` codes.
pub(super) fn bytes<S: Simd>(row: usize) -> usize {
    bytes_of_codes::<S>(row)
}

/// Whether these are all the terms there are.
pub(super) fn takes(terms: &SiteTerms<'_>) -> bool {
    let others = terms.sparse.is_some() || terms.dense.is_some() || terms.patched.is_some();
    !others && terms.two_factor.is_none_or(|term| real_factors::takes(&term))
}

/// The real terms that act.
pub(super) struct RealTerms<'a, 'm> {
    low_rank: Option<(LowRank<'a, 'm>, &'m mut [f32])>,
    affine: Option<Affine<'a>>,
    out_group: usize,
    /// Of the layer's input.
    zero: i32,
    in_scale: f32,
    /// One over the output's scale.
    inverse: f32,
    /// The affine term of the chunk, its shift in output steps.
    scale: [f32; STRIP],
    shift: [f32; STRIP],
}

impl<'a, 'm> RealTerms<'a, 'm> {
    /// Factors, scale and shift of `conv`; `None` where [`takes`] says so, or memory is short.
    pub(super) fn new<S: Simd>(conv: &QConv<'a>, memory: &mut &'m mut [u8]) -> Option<Self> {
        let (terms, row) = (conv.terms, conv.shape.row());
        let (out_group, inverse) = (conv.shape.out_group, 1.0 / conv.attrs.out_scale);
        let low_rank = match terms.two_factor {
            None => None,
            Some(term) => {
                let segments = Segments::of_reals(row);
                let term = LowRank::new::<S>(&term, segments, (out_group, inverse), memory)?;
                Some((term, ProjectionOfCodes::room(row, memory)?))
            }
        };
        Some(Self {
            low_rank,
            affine: terms.affine,
            out_group,
            zero: conv.attrs.in_zero_point,
            in_scale: conv.attrs.in_scale,
            inverse,
            scale: [0.0; STRIP],
            shift: [0.0; STRIP],
        })
    }
}

impl<'a, 'm> RealTerms<'a, 'm> {
    /// The factors of `conv` alone.
    pub(super) fn factors<S: Simd>(conv: &QConv<'a>, memory: &mut &'m mut [u8]) -> Option<Self> {
        Some(Self { affine: None, ..Self::new::<S>(conv, memory)? })
    }
}

impl<S: Simd> Extra<S> for RealTerms<'_, '_> {
    #[inline(always)]
    fn rows(&mut self, simd: S, group: usize, rows: &Rows<'_>) -> Option<()> {
        let Some((term, reals)) = &mut self.low_rank else { return Some(()) };
        let (zero, scale) = (self.zero, self.in_scale);
        simd.perform(ProjectionOfCodes { term, group, rows, zero, scale, reals })
    }

    #[inline(always)]
    fn chunk(&mut self, group: usize, chunk: Chunk) -> Option<()> {
        if let Some((term, _)) = &mut self.low_rank {
            term.chunk(group, chunk)?;
        }
        let Some(affine) = self.affine else { return Some(()) };
        let first = group * self.out_group + chunk.first;
        let (scale, shift) = (affine.scale.get(first..)?, affine.shift.get(first..)?);
        self.scale.iter_mut().zip(scale.get(..chunk.count)?).for_each(|(to, v)| *to = *v);
        let shift = shift.get(..chunk.count)?;
        self.shift.iter_mut().zip(shift).for_each(|(to, v)| *to = *v * self.inverse);
        Some(())
    }

    #[inline(always)]
    fn add<const N: usize>(&self, simd: S, pixel: usize, values: &mut [S::Real; N]) -> Option<()> {
        const { assert!(N * S::LANES <= STRIP) };
        if let Some((term, _)) = &self.low_rank {
            let latents = term.latents(Pixels { first: pixel, count: 1 })?;
            term.add(simd, latents, 0, values)?;
        }
        if self.affine.is_some() {
            for (n, value) in values.iter_mut().enumerate() {
                let at = n * S::LANES;
                // SAFETY: `STRIP` values cover `N` vectors.
                let (scale, shift) = unsafe {
                    (simd.load(self.scale.as_ptr().add(at)), simd.load(self.shift.as_ptr().add(at)))
                };
                *value = simd.add(simd.mul(*value, scale), shift);
            }
        }
        Some(())
    }
}
