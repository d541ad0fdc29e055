//! f32 output with adapter terms or a straight-through mask.

use ingraft_kernel::conv::Conv;
use ingraft_kernel::{Call, KernelError};

use super::weights::Effective;
use super::{Clamped, avx2, product};
use crate::affine::ChunkAffine;
use crate::columns::Chunk;
use crate::gemm::{Finish, Pixels, Reals, Rows, STRIP, multiply, strip_bytes};
use crate::mask;
use crate::patches::Patches;
use crate::real_factors::{self, LowRank, Projection};
use crate::simd::{Row, Simd, Task};
use ingraft_vector::memory::take;

/// Workspace beside the copy of a sample: a chunk's weights, and what a two-factor term needs.
pub(super) fn bytes<S: Simd>(patches: &Patches) -> usize {
    strip_bytes::<S>(patches) + real_factors::bytes::<S>(patches.segments) + 64
}

/// The layer with its terms; those of high rank take the row that reads weights in place.
pub(super) struct WithTerms;

impl<S: Simd> Row<S> for WithTerms {
    #[inline(always)]
    fn run(call: &mut Call<'_, '_>, simd: S) -> Result<(), KernelError> {
        let conv = Conv::new(call)?;
        let memory = core::mem::take(&mut call.workspace);
        if compute(call, &conv, simd, memory).is_some() {
            return Ok(());
        }
        call.workspace = memory;
        (avx2::KERNEL.run)(call)
    }
}

/// `None` for a term of another kind.
#[inline(always)]
fn compute<S: Simd>(call: &mut Call<'_, '_>, conv: &Conv<'_>, simd: S, mut memory: &mut [u8]) -> Option<()> {
    let (mut product, mut weights) = (product::<S>(conv, call.packed)?, Effective::new(conv)?);
    let (out, mask) = call.out_and_mask::<f32>().ok()?;
    let patches = product.patches;
    let copy: &mut [u8] = take(&mut memory, patches.copy_bytes().next_multiple_of(16))?;
    let strip: &mut [u8] = take(&mut memory, strip_bytes::<S>(&patches))?;
    let low_rank = match conv.terms.two_factor {
        Some(term) => {
            let out = (conv.shape.out_group, 1.0);
            Some(LowRank::new::<S>(&term, patches.segments, out, &mut memory)?)
        }
        None => None,
    };
    if weights.is_made() && low_rank.is_none() {
        product.block = patches.pixels.max(1);
    }
    let base = Clamped { simd, conv, bias: [0.0; STRIP], first: 0, count: 0, out };
    let mut finish = Adapted { base, low_rank, affine: ChunkAffine::new(conv.terms.affine, 1.0), mask };
    multiply(simd, &product, [copy, strip], &mut weights, &mut finish)
}

struct Adapted<'a, 'm, 'o, S> {
    base: Clamped<'a, 'o, S>,
    low_rank: Option<LowRank<'a, 'm>>,
    affine: ChunkAffine<'a>,
    mask: Option<&'o mut [u8]>,
}

impl<S: Simd> Finish<S, Reals> for Adapted<'_, '_, '_, S> {
    #[inline(always)]
    fn rows(&mut self, group: usize, rows: &Rows<'_>) -> Option<()> {
        let Some(term) = &mut self.low_rank else { return Some(()) };
        self.base.simd.perform(Projection { term, group, rows })
    }

    #[inline(always)]
    fn chunk(&mut self, group: usize, chunk: Chunk, sums: &[i32]) -> Option<()> {
        Finish::<S, Reals>::chunk(&mut self.base, group, chunk, sums)?;
        if let Some(term) = &mut self.low_rank {
            term.chunk(group, chunk)?;
        }
        self.affine.chunk(self.base.first..self.base.first + self.base.count)
    }

    #[inline(always)]
    fn start(&self, n: usize) -> S::Real {
        self.base.start(n)
    }

    #[inline(always)]
    fn tile<const M: usize, const N: usize>(
        &mut self,
        pixels: Pixels,
        sums: &[[S::Real; N]; M],
    ) -> Option<()> {
        if self.mask.is_some() {
            // As in `Write` of the layers on codes: a function of its own, so that the loop of products keeps its sums.
            return self.base.simd.perform(WithMask { terms: self, pixels, sums });
        }
        let sums = self.adapted(pixels, sums)?;
        self.base.tile(pixels, &sums)
    }
}

impl<S: Simd> Adapted<'_, '_, '_, S> {
    /// The values of a tile before they are clamped.
    #[inline(always)]
    fn adapted<const M: usize, const N: usize>(
        &self,
        pixels: Pixels,
        sums: &[[S::Real; N]; M],
    ) -> Option<[[S::Real; N]; M]> {
        let (simd, mut sums) = (self.base.simd, *sums);
        if let Some(term) = &self.low_rank {
            let latents = term.latents(pixels)?;
            for (pixel, sums) in sums.iter_mut().enumerate().take(pixels.count) {
                term.add(simd, latents, pixel, sums)?;
            }
        }
        for sums in &mut sums {
            self.affine.apply(simd, sums);
        }
        Some(sums)
    }
}

/// Output of a tile, and its bits of the mask.
struct WithMask<'t, 'a, 'm, 'o, S: Simd, const M: usize, const N: usize> {
    terms: &'t mut Adapted<'a, 'm, 'o, S>,
    pixels: Pixels,
    sums: &'t [[S::Real; N]; M],
}

impl<S: Simd, const M: usize, const N: usize> Task<S> for WithMask<'_, '_, '_, '_, S, M, N> {
    type Output = Option<()>;

    #[inline(always)]
    fn run(self, simd: S) -> Option<()> {
        let Self { terms, pixels, sums } = self;
        let sums = terms.adapted(pixels, sums)?;
        let Clamped { conv, first, count, .. } = &terms.base;
        let limits = [conv.attrs.lo, conv.attrs.hi];
        let mask = terms.mask.as_deref_mut()?;
        for (pixel, values) in (pixels.first..).zip(&sums).take(pixels.count) {
            let at = pixel * conv.shape.output[3] + first;
            mask::Write { values, count: *count, limits, mask, at }.run(simd)?;
        }
        terms.base.tile(pixels, &sums)
    }
}
