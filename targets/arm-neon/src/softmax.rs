//! f32 softmax over the innermost axis.
//!
//! # Numerics
//! The exponentials of [`crate::math`], summed in four interleaved partial sums, then one
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
        let max = input.iter().fold(f32::NEG_INFINITY, |max, x| if *x > max { *x } else { max });
        map(input, out, |x| exp(vsubq_f32(x, vdupq_n_f32(max))));
        let (quads, rest) = out.as_chunks::<4>();
        let mut sums = [0.0f32; 4];
        for quad in quads {
            sums.iter_mut().zip(quad).for_each(|(s, v)| *s += v);
        }
        let sum: f32 = sums.iter().chain(rest).sum();
        let factor = 1.0 / sum;
        out.iter_mut().for_each(|y| *y *= factor);
    }
    Ok(())
}
