//! int8 output with adapter terms or a straight-through mask.

use core::arch::x86_64::*;

use ingraft_kernel::attrs::QConvAttrs;
use ingraft_kernel::qconv::QConv;
use ingraft_kernel::terms::Affine;
use ingraft_kernel::{Call, KernelError};

use super::finish::{Bounds, Constants};
use super::low_rank::{self, LowRank};
use super::weights::Effective;
use super::{avx2, product};
use crate::avx2::requantize;
use crate::avx2::tile::take;
use crate::columns::{Chunk, Columns};
use crate::features::Avx512;
use crate::gemm::{BLOCK, Codes, Finish, Pixels, Product, Rows, STRIP, multiply};
use crate::patches::Patches;
use crate::simd::Simd;

/// Workspace beside the copy of a sample: a chunk's weights, and what a two-factor term needs.
pub(super) fn bytes(patches: &Patches, out_group: usize) -> usize {
    STRIP * patches.segments.total_steps() * 4 + low_rank::bytes(patches.segments, out_group) + 64
}

/// Runs the step with its integer terms; other terms take the AVX2 row.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn run(call: &mut Call<'_, '_>, simd: Avx512) -> Result<(), KernelError> {
    let conv = QConv::new(call)?;
    let (Some(product), Some(weights)) = (product::<Avx512>(&conv, call.packed), Effective::new(&conv))
    else {
        return (avx2::KERNEL.run)(call);
    };
    let memory = core::mem::take(&mut call.workspace);
    if compute(call, &conv, simd, product, weights, memory).is_some() {
        return Ok(());
    }
    call.workspace = memory;
    (avx2::KERNEL.run)(call)
}

/// `None` for a term of another kind, or one whose weights leave int8.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn compute(
    call: &mut Call<'_, '_>,
    conv: &QConv<'_>,
    simd: Avx512,
    mut product: Product<'_>,
    mut weights: Effective<'_>,
    mut memory: &mut [u8],
) -> Option<()> {
    let patches = product.patches;
    let (out, mask) = call.out_and_mask::<i8>().ok()?;
    let copy: &mut [u8] = take(&mut memory, patches.copy_bytes().next_multiple_of(16))?;
    let segments = patches.segments;
    let wide = conv.terms.two_factor.is_some();
    let low_rank = if wide { Some(LowRank::new(conv, segments, &mut memory)?) } else { None };
    let strip: &mut [u8] = take(&mut memory, STRIP * segments.total_steps() * 4)?;
    if weights.is_made() && !wide {
        product.block = patches.pixels.max(1);
    }
    let QConvAttrs { lo, hi, out_zero_point, out_scale, .. } = *conv.attrs;
    let mut finish = WithTerms {
        simd,
        constants: Constants::new(conv),
        bounds: Bounds::new(simd, lo, hi, out_zero_point),
        limits: [lo, hi],
        low_rank,
        columns: product.layout.columns,
        affine: conv.terms.affine,
        inverse: 1.0 / out_scale,
        scale: [0.0; STRIP],
        shift: [0.0; STRIP],
        out,
        mask,
    };
    multiply::<Avx512, Codes>(simd, &product, [copy, strip], &mut weights, &mut finish)
}

struct WithTerms<'a, 'm, 'o> {
    simd: Avx512,
    constants: Constants<'a>,
    bounds: Bounds<Avx512>,
    limits: [f32; 2],
    low_rank: Option<LowRank<'a, 'm>>,
    columns: Columns,
    affine: Option<Affine<'a>>,
    /// One over the output's scale.
    inverse: f32,
    /// The affine term of the chunk, its shift in output steps.
    scale: [f32; STRIP],
    shift: [f32; STRIP],
    out: &'o mut [i8],
    mask: Option<&'o mut [u8]>,
}

impl Finish<Avx512, Codes> for WithTerms<'_, '_, '_> {
    #[inline(always)]
    fn rows(&mut self, group: usize, rows: &Rows<'_>) -> Option<()> {
        self.low_rank.as_mut().map_or(Some(()), |term| term.project(group, rows))
    }

    #[inline(always)]
    fn chunk(&mut self, group: usize, chunk: Chunk, sums: &[i32]) -> Option<()> {
        self.constants.load(group, chunk, sums)?;
        if let Some(term) = &mut self.low_rank {
            term.chunk(group, chunk, self.columns)?;
        }
        let Some(affine) = self.affine else { return Some(()) };
        let channels = self.constants.channels_of_chunk();
        self.scale.iter_mut().zip(affine.scale.get(channels.clone())?).for_each(|(to, v)| *to = *v);
        let shift = affine.shift.get(channels)?;
        self.shift.iter_mut().zip(shift).for_each(|(to, v)| *to = *v * self.inverse);
        Some(())
    }

    #[inline(always)]
    fn start(&self, n: usize) -> __m512i {
        self.constants.start(self.simd, n)
    }

    #[inline(always)]
    fn tile<const M: usize, const N: usize>(
        &mut self,
        pixels: Pixels,
        sums: &[[__m512i; N]; M],
    ) -> Option<()> {
        if self.low_rank.as_ref().is_some_and(|term| !term.covers(pixels)) || pixels.count > BLOCK {
            return None;
        }
        // A copy: the sums themselves would be kept in memory if their address were passed on.
        let sums = *sums;
        // SAFETY: `simd` proves the instructions.
        unsafe { self.values(pixels, &sums) }
    }
}

impl WithTerms<'_, '_, '_> {
    /// Output of a tile.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn values<const M: usize, const N: usize>(
        &mut self,
        pixels: Pixels,
        sums: &[[__m512i; N]; M],
    ) -> Option<()> {
        let simd = self.simd;
        let mut values = [[_mm512_setzero_ps(); N]; M];
        for (values, sums) in values.iter_mut().zip(sums) {
            *values = self.constants.scaled::<Avx512, N>(simd, sums);
        }
        if let Some(term) = &self.low_rank {
            term.add(pixels.first, values.get_mut(..pixels.count)?)?;
        }
        if self.affine.is_some() {
            let (scales, shifts) = (self.scale.as_chunks::<16>().0, self.shift.as_chunks::<16>().0);
            for values in &mut values {
                for ((value, scale), shift) in values.iter_mut().zip(scales).zip(shifts) {
                    // SAFETY: each reference covers the 64 bytes read.
                    let (scale, shift) =
                        unsafe { (_mm512_loadu_ps(scale.as_ptr()), _mm512_loadu_ps(shift.as_ptr())) };
                    *value = _mm512_add_ps(_mm512_mul_ps(*value, scale), shift);
                }
            }
        }
        for (pixel, values) in (pixels.first..).zip(&values).take(pixels.count) {
            self.store(pixel, values)?;
        }
        Some(())
    }

    /// Writes the codes of one pixel, and its bits of the mask.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn store<const N: usize>(&mut self, pixel: usize, values: &[__m512; N]) -> Option<()> {
        let simd = self.simd;
        let pixels = Pixels { first: pixel, count: 1 };
        let out = self.constants.rows(self.out, pixels)?;
        let mut codes = [_mm512_setzero_si512(); N];
        for (code, v) in codes.iter_mut().zip(values) {
            *code = simd.round(simd.clamp(*v, self.bounds.lo, self.bounds.hi));
        }
        // SAFETY: `out` is the pixel's channels of the chunk.
        unsafe { simd.store_codes(out.as_mut_ptr(), codes, self.bounds.zero_point, out.len()) };
        if let Some(mask) = self.mask.as_deref_mut() {
            let mut reals = [0.0f32; STRIP];
            for (reals, v) in reals.as_chunks_mut::<16>().0.iter_mut().zip(values) {
                // SAFETY: the reference covers the 64 bytes written.
                unsafe { _mm512_storeu_ps(reals.as_mut_ptr(), *v) };
            }
            let [lo, hi] = self.limits;
            let channels = self.constants.channels_of_chunk();
            let at = self.constants.element(pixel);
            requantize::mask(reals.get(..channels.len())?, lo, hi, mask, at);
        }
        Some(())
    }
}
