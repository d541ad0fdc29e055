//! int8 output with adapter terms or a straight-through mask.

use core::arch::x86_64::*;

use ingraft_kernel::attrs::QConvAttrs;
use ingraft_kernel::qconv::QConv;
use ingraft_kernel::terms::Affine;
use ingraft_kernel::{Call, KernelError};

use super::factors::Up;
use super::finish::{Bounds, Constants};
use super::low_rank::{self, Latents, LowRank};
use super::weights::Effective;
use super::{avx2, product};
use crate::avx2::requantize;
use crate::avx2::tile::take;
use crate::columns::Chunk;
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
        codes: Store { bounds: Bounds::new(simd, lo, hi, out_zero_point), limits: [lo, hi], out, mask },
        low_rank,
        affine: conv.terms.affine,
        inverse: 1.0 / out_scale,
        scale: [0.0; STRIP],
        shift: [0.0; STRIP],
    };
    multiply::<Avx512, Codes>(simd, &product, [copy, strip], &mut weights, &mut finish)
}

struct WithTerms<'a, 'm, 'o> {
    simd: Avx512,
    constants: Constants<'a>,
    codes: Store<'o>,
    low_rank: Option<LowRank<'a, 'm>>,
    affine: Option<Affine<'a>>,
    /// One over the output's scale.
    inverse: f32,
    /// The affine term of the chunk, its shift in output steps.
    scale: [f32; STRIP],
    shift: [f32; STRIP],
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
            term.chunk(chunk)?;
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
        // A copy: the sums themselves would be kept in memory while they grow if their address were passed on.
        let sums = *sums;
        let sums = sums.get(..pixels.count)?;
        // SAFETY: `simd` proves the instructions.
        unsafe {
            match (&self.low_rank, self.affine, &self.codes.mask) {
                (Some(_), None, None) => self.low_rank_tile(pixels, sums),
                _ => self.any_tile(pixels, sums),
            }
        }
    }
}

impl WithTerms<'_, '_, '_> {
    /// Output of a tile with factors alone.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn low_rank_tile<const N: usize>(&mut self, pixels: Pixels, sums: &[[__m512i; N]]) -> Option<()> {
        let (simd, Bounds { lo, hi, zero_point }) = (self.simd, self.codes.bounds);
        let term = self.low_rank.as_ref()?;
        let (up, latents) = (term.up::<N>()?, term.latents(pixels)?);
        let multiplier: [__m512; N] = self.constants.multipliers(simd);
        let scale = up.scale.each_ref().map(|scale| load(scale));
        let (channels, count) =
            (self.constants.channels_of_layer(), self.constants.channels_of_chunk().len());
        let mut to = self.constants.rows(self.codes.out, pixels)?.as_mut_ptr();
        for (pixel, sums) in sums.iter().enumerate() {
            let mut products = [_mm512_setzero_si512(); N];
            for (quad, [low, high]) in up.quads.iter().enumerate() {
                let u = latents.of(quad, pixel);
                for ((product, low), high) in products.iter_mut().zip(low).zip(high) {
                    *product = _mm512_dpwssd_epi32(*product, u[0], pair(low));
                    *product = _mm512_dpwssd_epi32(*product, u[1], pair(high));
                }
            }
            let mut codes = *sums;
            for (((code, product), multiplier), scale) in
                codes.iter_mut().zip(products).zip(multiplier).zip(scale)
            {
                let value = simd.mul(simd.to_real(*code), multiplier);
                let value = simd.add(value, simd.mul(simd.to_real(product), scale));
                *code = simd.round(simd.clamp(value, lo, hi));
            }
            // SAFETY: `rows` spans the channels of every pixel of the tile; `to` is this pixel's first.
            unsafe { simd.store_codes(to, codes, zero_point, count) };
            to = to.wrapping_add(channels);
        }
        Some(())
    }

    /// Output of a tile, whatever acts.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn any_tile<const N: usize>(&mut self, pixels: Pixels, sums: &[[__m512i; N]]) -> Option<()> {
        for (pixel, sums) in (pixels.first..).zip(sums) {
            let values = self.values(pixel, sums)?;
            self.codes.store(self.simd, &self.constants, pixel, &values)?;
        }
        Some(())
    }

    /// The pre-activation values of one pixel.
    #[inline(always)]
    fn values<const N: usize>(&self, pixel: usize, sums: &[__m512i; N]) -> Option<[__m512; N]> {
        let mut values = self.constants.scaled::<Avx512, N>(self.simd, sums);
        if let Some(term) = &self.low_rank {
            let (up, latents) = (term.up::<N>()?, term.latents(Pixels { first: pixel, count: 1 })?);
            // SAFETY: `simd` proves the instructions.
            unsafe { add(self.simd, &up, latents, &mut values) };
        }
        if self.affine.is_some() {
            let (scales, shifts) = (self.scale.as_chunks::<16>().0, self.shift.as_chunks::<16>().0);
            for ((value, scale), shift) in values.iter_mut().zip(scales).zip(shifts) {
                // SAFETY: `simd` proves the instructions; each reference covers the 64 bytes read.
                let (scale, shift) =
                    unsafe { (self.simd.load(scale.as_ptr()), self.simd.load(shift.as_ptr())) };
                *value = self.simd.add(self.simd.mul(*value, scale), shift);
            }
        }
        Some(values)
    }
}

/// Where codes go, and what clamps them.
struct Store<'o> {
    bounds: Bounds<Avx512>,
    limits: [f32; 2],
    out: &'o mut [i8],
    mask: Option<&'o mut [u8]>,
}

impl Store<'_> {
    /// Writes the codes of one pixel, and its bits of the mask.
    #[inline(always)]
    fn store<const N: usize>(
        &mut self,
        simd: Avx512,
        constants: &Constants<'_>,
        pixel: usize,
        values: &[__m512; N],
    ) -> Option<()> {
        let Bounds { lo, hi, zero_point } = self.bounds;
        let out = constants.rows(self.out, Pixels { first: pixel, count: 1 })?;
        let mut codes = [simd.splat_int(0); N];
        for (code, v) in codes.iter_mut().zip(values) {
            *code = simd.round(simd.clamp(*v, lo, hi));
        }
        // SAFETY: `out` is the pixel's channels of the chunk.
        unsafe { simd.store_codes(out.as_mut_ptr(), codes, zero_point, out.len()) };
        let Some(mask) = self.mask.as_deref_mut() else { return Some(()) };
        let mut reals = [0.0f32; STRIP];
        for (reals, v) in reals.as_chunks_mut::<16>().0.iter_mut().zip(values) {
            // SAFETY: `simd` proves the instruction; the reference covers the 64 bytes written.
            unsafe { simd.store(reals.as_mut_ptr(), *v, reals.len()) };
        }
        let [lo, hi] = self.limits;
        let reals = reals.get(..constants.channels_of_chunk().len())?;
        // SAFETY: `simd` proves AVX-512, which no processor has without AVX2.
        unsafe { requantize::mask(reals, lo, hi, mask, constants.element(pixel)) };
        Some(())
    }
}

/// Adds `f32(B·u)·n` to the values of the first of these pixels.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn add<const N: usize>(simd: Avx512, up: &Up<'_, N>, latents: Latents<'_>, values: &mut [__m512; N]) {
    let mut products = [_mm512_setzero_si512(); N];
    for (quad, [low, high]) in up.quads.iter().enumerate() {
        let u = latents.of(quad, 0);
        for ((product, low), high) in products.iter_mut().zip(low).zip(high) {
            *product = _mm512_dpwssd_epi32(*product, u[0], pair(low));
            *product = _mm512_dpwssd_epi32(*product, u[1], pair(high));
        }
    }
    for ((value, product), scale) in values.iter_mut().zip(products).zip(up.scale) {
        *value = simd.add(*value, simd.mul(simd.to_real(product), load(scale)));
    }
}

/// A vector of B.
#[inline]
#[target_feature(enable = "avx512f")]
fn pair(weights: &[[i16; 2]; 16]) -> __m512i {
    // SAFETY: the reference covers the 64 bytes read.
    unsafe { _mm512_loadu_si512(weights.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(values: &[f32; 16]) -> __m512 {
    // SAFETY: the reference covers the 64 bytes read.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}
