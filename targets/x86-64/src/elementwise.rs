//! int8 addition of tensors of one shape; others take the reference.
//!
//! # Numerics
//! The reference's products and sum, not contracted: equal to the bit.

use core::arch::x86_64::*;

use ingraft_kernel::attrs::QBinaryAttrs;
use ingraft_kernel::elementwise::KERNEL_ADD_Q as REFERENCE;
use ingraft_kernel::{Call, Kernel, KernelError, Step};

use crate::blocks::{Rounding, store, widen, zip};

/// int8 addition.
pub(crate) const ADD_AVX512: Kernel =
    Kernel { name: "add_qs8_qs8_qs8__avx512", run, ..REFERENCE }.checked(check);

/// No broadcasting, no mask.
fn check(step: &Step<'_>) -> Result<(), KernelError> {
    (REFERENCE.check)(step)?;
    let out = step.output(0)?.shape;
    let plain = step.input(0)?.shape == out && step.input(1)?.shape == out && step.outputs().len() == 1;
    plain.then_some(()).ok_or(KernelError::Operands(step.op))
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through a target, whose argument proves the instructions.
    unsafe { add(call) }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn add(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let attrs: &QBinaryAttrs = call.attrs()?;
    let inputs: [&[i8]; 2] = [call.slice(0)?, call.slice(1)?];
    let rounding = Rounding::new(attrs.lo, attrs.hi, attrs.out_zero_point);
    let [za, zb] = attrs.zero_points.map(|zero| _mm512_set1_epi32(zero));
    let [ka, kb] = attrs.factors.map(|factor| _mm512_set1_ps(factor));
    zip(inputs, call.slice_mut(0)?, |a, b, out| {
        let (a, b) = (widen(a), widen(b));
        let mut values = [_mm512_setzero_ps(); 4];
        for ((v, a), b) in values.iter_mut().zip(a).zip(b) {
            let a = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(a, za)), ka);
            let b = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(b, zb)), kb);
            *v = _mm512_add_ps(a, b);
        }
        store(out, rounding.codes(values));
    });
    Ok(())
}
