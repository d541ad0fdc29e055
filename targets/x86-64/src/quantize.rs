//! Between real values and int8 codes; steps with a mask take the reference.
//!
//! # Numerics
//! The reference's operations, division included: equal to the bit.

use core::arch::x86_64::*;

use ingraft_kernel::attrs::QuantizeAttrs;
use ingraft_kernel::quantize::{
    KERNEL as QUANTIZE, KERNEL_DEQUANTIZE as DEQUANTIZE, KERNEL_REQUANTIZE as REQUANTIZE,
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

#[target_feature(enable = "avx512f,avx512bw")]
fn quantize(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (attrs, input): (&QuantizeAttrs, &[f32]) = (call.attrs()?, call.slice(0)?);
    let rounding = Rounding::new(attrs.lo, attrs.hi, attrs.out_zero_point);
    let scale = _mm512_set1_ps(attrs.out_scale);
    map(input, call.slice_mut::<i8>(0)?, |values, out| {
        let steps = load_reals(values).map(|v| {
            let v = _mm512_div_ps(v, scale);
            _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_ORD_Q>(v, v), v)
        });
        store(out, rounding.codes(steps));
    });
    Ok(())
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
