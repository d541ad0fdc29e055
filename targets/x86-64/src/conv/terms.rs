//! f32 output with adapter terms.

use ingraft_kernel::conv::Conv;
use ingraft_kernel::{Call, KernelError};

use super::weights::Effective;
use super::{Clamped, avx2, product};
use crate::avx2::tile::take;
use crate::columns::Chunk;
use crate::gemm::{Finish, Pixels, Reals, Rows, STRIP, multiply};
use crate::patches::Patches;
use crate::real_factors::{self, LowRank, Projection};
use crate::simd::{Row, Simd};

/// Workspace beside the copy of a sample: a chunk's weights, and what a two-factor term needs.
pub(super) fn bytes<S: Simd>(patches: &Patches) -> usize {
    strip::<S>(patches) + real_factors::bytes::<S>(patches.segments) + 64
}

/// Bytes of the widest chunk's weights.
fn strip<S: Simd>(patches: &Patches) -> usize {
    S::COLUMNS * S::LANES * patches.segments.total_steps() * patches.segments.step
}

/// The layer with its terms; those of high rank take the row that reads weights in place.
pub(super) struct WithTerms;

impl Row for WithTerms {
    #[inline(always)]
    fn run<S: Simd>(call: &mut Call<'_, '_>, simd: S) -> Result<(), KernelError> {
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
    let (out, _) = call.out_and_mask::<f32>().ok()?;
    let patches = product.patches;
    let copy: &mut [u8] = take(&mut memory, patches.copy_bytes().next_multiple_of(16))?;
    let strip: &mut [u8] = take(&mut memory, strip::<S>(&patches))?;
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
    let mut finish = Adapted { base, low_rank, scale: [0.0; STRIP], shift: [0.0; STRIP] };
    multiply(simd, &product, [copy, strip], &mut weights, &mut finish)
}

struct Adapted<'a, 'm, 'o, S> {
    base: Clamped<'a, 'o, S>,
    low_rank: Option<LowRank<'a, 'm>>,
    /// The affine term of the chunk.
    scale: [f32; STRIP],
    shift: [f32; STRIP],
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
        let Some(affine) = self.base.conv.terms.affine else { return Some(()) };
        let channels = self.base.first..self.base.first + self.base.count;
        self.scale.iter_mut().zip(affine.scale.get(channels.clone())?).for_each(|(to, v)| *to = *v);
        self.shift.iter_mut().zip(affine.shift.get(channels)?).for_each(|(to, v)| *to = *v);
        Some(())
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
        const { assert!(N * S::LANES <= STRIP) };
        let (simd, mut sums) = (self.base.simd, *sums);
        if let Some(term) = &self.low_rank {
            let latents = term.latents(pixels)?;
            for (pixel, sums) in sums.iter_mut().enumerate().take(pixels.count) {
                term.add(simd, latents, pixel, sums)?;
            }
        }
        if self.base.conv.terms.affine.is_some() {
            for sums in &mut sums {
                for (n, sum) in sums.iter_mut().enumerate() {
                    let at = n * S::LANES;
                    // SAFETY: `STRIP` values cover `N` vectors.
                    let (scale, shift) = unsafe {
                        (simd.load(self.scale.as_ptr().add(at)), simd.load(self.shift.as_ptr().add(at)))
                    };
                    *sum = simd.add(simd.mul(*sum, scale), shift);
                }
            }
        }
        self.base.tile(pixels, &sums)
    }
}
