//! Pooling, 64 channels at a time; int8 steps with a mask take the reference.
//!
//! # Numerics
//! The reference's arithmetic in its order: equal to the bit.

use core::arch::x86_64::*;

use ingraft_kernel::attrs::PoolAttrs;
use ingraft_kernel::pool::{Images, KERNEL, KERNEL_Q as REFERENCE, MAX, Region};
use ingraft_kernel::{Call, Kernel, KernelError, Step};

use crate::blocks::{BLOCK, Rounding, load, store, widen};

/// int8 maximum and average.
pub(crate) const AVX512: Kernel = Kernel { name: "pool_qs8_qs8__avx512", run, ..REFERENCE }.checked(check);

/// f32 maximum and average.
pub(crate) const AVX512_F32: Kernel = Kernel { name: "pool_f32_f32__avx512", run: run_f32, ..KERNEL };

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    (REFERENCE.check)(step)?;
    (step.outputs().len() == 1).then_some(()).ok_or(KernelError::Operands(step.op))
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through a target, whose argument proves the instructions.
    unsafe { pool(call) }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn pool(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (attrs, input): (&PoolAttrs, &[i8]) = (call.attrs()?, call.slice(0)?);
    let (from, to) = (call.input(0)?.shape(), call.output(0)?.shape());
    let images = Images::new(from, to, attrs.window).ok_or(call.operands())?;
    let rounding = Rounding::new(attrs.lo, attrs.hi, attrs.out_zero_point);
    images.pool(input, call.slice_mut(0)?, |region, out| {
        for (block, out) in out.chunks_mut(BLOCK).enumerate() {
            let values = match attrs.kind {
                MAX => largest(attrs, region, block * BLOCK, out.len()),
                _ => average(attrs, region, block * BLOCK, out.len()),
            };
            let codes = rounding.codes(values);
            match out.as_chunks_mut().0.first_mut() {
                Some(whole) => store(whole, codes),
                None => {
                    let mut block = [0; BLOCK];
                    store(&mut block, codes);
                    out.iter_mut().zip(block).for_each(|(out, code)| *out = code);
                }
            }
        }
    });
    Ok(())
}

fn run_f32(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through a target, whose argument proves the instructions.
    unsafe { pool_f32(call) }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn pool_f32(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (attrs, input): (&PoolAttrs, &[f32]) = (call.attrs()?, call.slice(0)?);
    let (from, to) = (call.input(0)?.shape(), call.output(0)?.shape());
    let images = Images::new(from, to, attrs.window).ok_or(call.operands())?;
    let bounds = [_mm512_set1_ps(attrs.lo), _mm512_set1_ps(attrs.hi)];
    images.pool(input, call.slice_mut(0)?, |region, out| {
        for (block, out) in out.chunks_mut(BLOCK).enumerate() {
            pool_reals(attrs, region, block * BLOCK, bounds, out);
        }
    });
    Ok(())
}

/// The channels `out` from `start` of one window.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn pool_reals(
    attrs: &PoolAttrs,
    region: &Region<'_, f32>,
    start: usize,
    [lo, hi]: [__m512; 2],
    out: &mut [f32],
) {
    let masks = [0, 16, 32, 48].map(|first| lanes(out.len().saturating_sub(first)));
    let most = attrs.kind == MAX;
    let mut values = [if most { _mm512_set1_ps(f32::NEG_INFINITY) } else { _mm512_setzero_ps() }; 4];
    region.each(start, out.len(), |taps| {
        for (v, (value, mask)) in values.iter_mut().zip(masks).enumerate() {
            // SAFETY: the mask selects only values that `taps` has: as many as `out`.
            let x = unsafe { _mm512_maskz_loadu_ps(mask, taps.as_ptr().wrapping_add(v * 16)) };
            // The instruction gives its second operand where the comparison is false, as the reference does.
            *value = if most { _mm512_max_ps(x, *value) } else { _mm512_add_ps(*value, x) };
        }
    });
    let count = _mm512_set1_ps(if most { 1.0 } else { region.count(attrs.kind).max(1) as f32 });
    for (v, (value, mask)) in values.into_iter().zip(masks).enumerate() {
        let value = _mm512_min_ps(_mm512_max_ps(_mm512_div_ps(value, count), lo), hi);
        // SAFETY: the mask selects only values that `out` has.
        unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr().wrapping_add(v * 16), mask, value) };
    }
}

/// The first lanes, at most sixteen.
#[inline(always)]
fn lanes(count: usize) -> u16 {
    if count >= 16 { u16::MAX } else { (1 << count) - 1 }
}

/// The largest code of `len` channels from `start`, in output steps.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn largest(attrs: &PoolAttrs, region: &Region<'_, i8>, start: usize, len: usize) -> [__m512; 4] {
    let mut most = _mm512_set1_epi8(i8::MIN);
    region.each(start, len, |taps| most = _mm512_max_epi8(most, load(&block(taps))));
    let mut codes = [0; BLOCK];
    store(&mut codes, most);
    let (zero, ratio) = (_mm512_set1_epi32(attrs.in_zero_point), _mm512_set1_ps(attrs.ratio));
    widen(&codes).map(|code| _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(code, zero)), ratio))
}

/// The average of `len` channels from `start`, in output steps.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn average(attrs: &PoolAttrs, region: &Region<'_, i8>, start: usize, len: usize) -> [__m512; 4] {
    let zero = _mm512_set1_epi32(attrs.in_zero_point);
    let mut sums = [_mm512_setzero_si512(); 4];
    region.each(start, len, |taps| {
        for (sum, code) in sums.iter_mut().zip(widen(&block(taps))) {
            *sum = _mm512_add_epi32(*sum, _mm512_sub_epi32(code, zero));
        }
    });
    let factor = _mm512_set1_ps(attrs.ratio / region.count(attrs.kind).max(1) as f32);
    sums.map(|sum| _mm512_mul_ps(_mm512_cvtepi32_ps(sum), factor))
}

/// The codes of a tap, zero past the last.
#[inline(always)]
fn block(taps: &[i8]) -> [i8; BLOCK] {
    match taps.first_chunk() {
        Some(whole) => *whole,
        None => {
            let mut padded = [0; BLOCK];
            padded.iter_mut().zip(taps).for_each(|(padded, code)| *padded = *code);
            padded
        }
    }
}
