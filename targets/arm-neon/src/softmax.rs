//! f32 softmax over the innermost axis.
//!
//! # Numerics
//! The exponentials of [`crate::math`], summed in sixteen interleaved partial sums, then one
//! division for the row.

use core::arch::aarch64::*;

use ingraft_kernel::attrs::SoftmaxAttrs;
use ingraft_kernel::softmax::KERNEL as REFERENCE;
use ingraft_kernel::{Call, Kernel, KernelError, OpCode, Step};
use ingraft_tensor::DType;

use crate::math::{exp, map};

/// Softmax itself; its logarithm is the reference's.
pub(crate) const KERNEL: Kernel =
    Kernel::new("softmax_f32_f32__neon", OpCode::Softmax, Some(DType::F32), Some(DType::F32), run)
        .checked(check);

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    (REFERENCE.check)(step)?;
    let attrs: &SoftmaxAttrs = step.attrs()?;
    if attrs.log == 0 { Ok(()) } else { Err(KernelError::Operands(step.op)) }
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through functions whose arguments prove NEON.
    unsafe { compute(call) }
}

#[target_feature(enable = "neon")]
fn compute(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let len = call.input(0)?.shape().dims().last().map_or(1, |d| *d as usize).max(1);
    let input = call.slice::<f32>(0)?;
    for (out, input) in call.slice_mut::<f32>(0)?.chunks_exact_mut(len).zip(input.chunks_exact(len)) {
        let max = vdupq_n_f32(fold(input, f32::NEG_INFINITY, |max, x| if x > max { x } else { max }));
        map(input, out, |x| exp(vsubq_f32(x, max)));
        let factor = 1.0 / fold(out, 0.0, |sum, x| sum + x);
        out.iter_mut().for_each(|y| *y *= factor);
    }
    Ok(())
}

/// Combines all values in sixteen interleaved strands.
#[inline]
#[target_feature(enable = "neon")]
fn fold(values: &[f32], start: f32, combine: impl Fn(f32, f32) -> f32) -> f32 {
    let (whole, rest) = values.as_chunks::<16>();
    let mut strands = [start; 16];
    for values in whole {
        strands.iter_mut().zip(values).for_each(|(s, v)| *s = combine(*s, *v));
    }
    strands.iter().chain(rest).fold(start, |sum, v| combine(sum, *v))
}
