//! int8 pooling, 64 channels at a time; steps with a mask take the reference.
//!
//! # Numerics
//! Exact sums, then the reference's arithmetic in its order: equal to the bit.

use core::arch::x86_64::*;

use ingraft_kernel::attrs::PoolAttrs;
use ingraft_kernel::pool::{Images, KERNEL_Q as REFERENCE, MAX, Region};
use ingraft_kernel::{Call, Kernel, KernelError, Step};

use crate::blocks::{BLOCK, Rounding, load, store, widen};

/// int8 maximum and average.
pub(crate) const AVX512: Kernel = Kernel { name: "pool_qs8_qs8__avx512", run, ..REFERENCE }.checked(check);

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
