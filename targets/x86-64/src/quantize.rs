//! Between real values and int8 codes; steps with a mask take the reference.
//!
//! # Numerics
//! The reference's operations, division included: equal to the bit.

use core::arch::x86_64::*;

use ingraft_kernel::attrs::QuantizeAttrs;
use ingraft_kernel::quantize::{
    KERNEL as QUANTIZE, KERNEL_DEQUANTIZE as DEQUANTIZE, KERNEL_DYNAMIC as DYNAMIC,
    KERNEL_REQUANTIZE as REQUANTIZE, dynamic_parameters,
};
use ingraft_kernel::{Call, Kernel, KernelError, Step};

use crate::blocks::{Rounding, load_reals, map, store, store_reals, widen};

/// f32 to int8.
pub(crate) const QUANTIZE_AVX512: Kernel =
    Kernel { name: "quantize_f32_qs8__avx512", run: run_quantize, ..QUANTIZE }.checked(check_quantize);

/// int8 to f32.
pub(crate) const DEQUANTIZE_AVX512: Kernel =
    Kernel { name: "dequantize_qs8_f32__avx512", run: run_dequantize, ..DEQUANTIZE };

/// int8 to int8 with other quantization parameters.
pub(crate) const REQUANTIZE_AVX512: Kernel =
    Kernel { name: "requantize_qs8_qs8__avx512", run: run_requantize, ..REQUANTIZE }
        .checked(check_requantize);

/// f32 to int8 with a range found at run time.
pub(crate) const DYNAMIC_AVX512: Kernel =
    Kernel { name: "quantize_f32_qd8__avx512", run: run_dynamic, ..DYNAMIC };

fn check_quantize(step: &Step<'_>) -> Result<(), KernelError> {
    (QUANTIZE.check)(step)?;
    unmasked(step)
}

fn check_requantize(step: &Step<'_>) -> Result<(), KernelError> {
    (REQUANTIZE.check)(step)?;
    unmasked(step)
}

fn unmasked(step: &Step<'_>) -> Result<(), KernelError> {
    (step.outputs().len() == 1).then_some(()).ok_or(KernelError::Operands(step.op))
}

fn run_quantize(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through a target, whose argument proves the instructions.
    unsafe { quantize(call) }
}

fn run_dequantize(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through a target, whose argument proves the instructions.
    unsafe { dequantize(call) }
}

fn run_requantize(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through a target, whose argument proves the instructions.
    unsafe { requantize(call) }
}

fn run_dynamic(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through a target, whose argument proves the instructions.
    unsafe { dynamic(call) }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn quantize(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (attrs, input): (&QuantizeAttrs, &[f32]) = (call.attrs()?, call.slice(0)?);
    let rounding = Rounding::new(attrs.lo, attrs.hi, attrs.out_zero_point);
    codes(input, attrs.out_scale, rounding, call.slice_mut(0)?);
    Ok(())
}

#[target_feature(enable = "avx512f,avx512bw")]
fn dynamic(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let input: &[f32] = call.slice(0)?;
    let [min, max] = range(input);
    let (scale, zero_point) = dynamic_parameters(min, max);
    // The zero point of the unsigned codes is the distance of zero from the lowest code.
    let (lo, hi) = (-zero_point as f32, (255 - zero_point) as f32);
    let zero_point = zero_point - 128;
    codes(input, scale, Rounding::new(lo, hi, zero_point), call.slice_mut(0)?);
    call.slice_mut::<f32>(1)?.fill(scale);
    call.slice_mut::<i8>(2)?.fill(zero_point as i8);
    Ok(())
}

/// Codes of `input`; NaN becomes the zero point.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn codes(input: &[f32], scale: f32, rounding: Rounding, out: &mut [i8]) {
    let scale = _mm512_set1_ps(scale);
    map(input, out, |values, out| {
        let steps = load_reals(values).map(|v| {
            let v = _mm512_div_ps(v, scale);
            _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_ORD_Q>(v, v), v)
        });
        store(out, rounding.codes(steps));
    });
}

/// The least and the largest value, zero among them; NaN is neither.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn range(input: &[f32]) -> [f32; 2] {
    let (blocks, rest) = input.as_chunks();
    let (mut least, mut most) = (_mm512_setzero_ps(), _mm512_setzero_ps());
    for block in blocks {
        // With NaN first both instructions give their second operand.
        for v in load_reals(block) {
            (least, most) = (_mm512_min_ps(v, least), _mm512_max_ps(v, most));
        }
    }
    let mut range = [_mm512_reduce_min_ps(least), _mm512_reduce_max_ps(most)];
    for &x in rest {
        range = [if x < range[0] { x } else { range[0] }, if x > range[1] { x } else { range[1] }];
    }
    range
}

#[target_feature(enable = "avx512f,avx512bw")]
fn dequantize(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (attrs, input): (&QuantizeAttrs, &[i8]) = (call.attrs()?, call.slice(0)?);
    let real = Real::new(attrs);
    map(input, call.slice_mut::<f32>(0)?, |codes, out| store_reals(out, real.of(widen(codes))));
    Ok(())
}

#[target_feature(enable = "avx512f,avx512bw")]
fn requantize(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (attrs, input): (&QuantizeAttrs, &[i8]) = (call.attrs()?, call.slice(0)?);
    let rounding = Rounding::new(attrs.lo, attrs.hi, attrs.out_zero_point);
    let (real, scale) = (Real::new(attrs), _mm512_set1_ps(attrs.out_scale));
    map(input, call.slice_mut::<i8>(0)?, |codes, out| {
        let steps = real.of(widen(codes)).map(|v| _mm512_div_ps(v, scale));
        store(out, rounding.codes(steps));
    });
    Ok(())
}

/// The real values of codes.
struct Real {
    zero_point: __m512i,
    scale: __m512,
}

impl Real {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn new(attrs: &QuantizeAttrs) -> Self {
        Self { zero_point: _mm512_set1_epi32(attrs.in_zero_point), scale: _mm512_set1_ps(attrs.in_scale) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn of(&self, codes: [__m512i; 4]) -> [__m512; 4] {
        codes.map(|code| {
            _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(code, self.zero_point)), self.scale)
        })
    }
}
