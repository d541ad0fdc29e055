//! Softmax over the innermost axis.

use ingraft_tensor::DType;

use crate::attrs::{QSoftmaxAttrs, SoftmaxAttrs};
use crate::requantize::to_code;
use crate::walk::Rows;
use crate::{Call, Kernel, KernelError, OpCode, Step, check};

/// f32 softmax `exp(x − max) / Σ exp(x − max)`, or its logarithm `x − max − ln Σ exp(x − max)`.
///
/// # Shapes
/// Input and output f32 `[.., axis]`; other axes are moved inside by a copy.
pub const KERNEL: Kernel =
    Kernel::new("softmax_f32_f32__scalar", OpCode::Softmax, Some(DType::F32), Some(DType::F32), run_f32)
        .checked(check_f32);

/// int8 softmax from a table of exponentials.
///
/// # Shapes
/// Inputs: int8 `[.., axis]`, `[256]` i32 table ([`exp_table`]); output int8 `[.., axis]`.
///
/// # Numerics
/// `e = table[max − x]` and `Σe` are integers, so their order does not matter;
/// then `round(clamp(f32(e)·(inv_scale / f32(Σe)))) + zy`.
pub const KERNEL_Q: Kernel =
    Kernel::new("softmax_qs8_qs8__scalar", OpCode::QSoftmax, Some(DType::I8), Some(DType::I8), run_q)
        .checked(check_q);

/// Fraction bits of [`exp_table`].
pub const EXP_BITS: u32 = 30;

/// `round(exp(−d · scale) · 2³⁰)` for d in 0..256: the table of an input with this scale.
pub fn exp_table(scale: f32) -> [i32; 256] {
    let one = (1u32 << EXP_BITS) as f64;
    core::array::from_fn(|d| libm::rint(libm::exp(-(d as f64) * scale as f64) * one) as i32)
}

fn check_f32(step: &Step<'_>) -> Result<(), KernelError> {
    let attrs: &SoftmaxAttrs = step.attrs()?;
    check::operands(step, 1, 1)?;
    check::require(step, attrs.log <= 1 && step.input(0)?.shape == step.output(0)?.shape)
}

fn check_q(step: &Step<'_>) -> Result<(), KernelError> {
    let attrs: &QSoftmaxAttrs = step.attrs()?;
    check::operands(step, 2, 1)?;
    check::int8(step, attrs.out_zero_point)?;
    check::scale(step, attrs.inv_scale)?;
    let table = step.input(1)?;
    check::require(step, table.dtype == DType::I32 && table.shape.elements() == 256)?;
    check::require(step, step.input(0)?.shape == step.output(0)?.shape)
}

fn run_f32(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (attrs, input) = (call.attrs::<SoftmaxAttrs>()?, call.slice::<f32>(0)?);
    let len = innermost(call)?;
    for (out, input) in call.slice_mut::<f32>(0)?.chunks_exact_mut(len.max(1)).zip(Rows::new(input, len)) {
        if attrs.log == 1 { log_softmax(input, out) } else { softmax(input, out) }
    }
    Ok(())
}

fn run_q(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (attrs, input) = (call.attrs::<QSoftmaxAttrs>()?, call.slice::<i8>(0)?);
    let table: &[i32; 256] = call.slice::<i32>(1)?.try_into().map_err(|_| call.operands())?;
    let len = innermost(call)?;
    for (out, input) in call.slice_mut::<i8>(0)?.chunks_exact_mut(len.max(1)).zip(Rows::new(input, len)) {
        softmax_q(attrs, table, input, out);
    }
    Ok(())
}

/// One row of f32 softmax.
pub fn softmax(input: &[f32], out: &mut [f32]) {
    let max = maximum(input);
    let mut sum = 0.0;
    for (y, &x) in out.iter_mut().zip(input) {
        *y = libm::expf(x - max);
        sum += *y;
    }
    for y in out {
        *y /= sum;
    }
}

/// One row of the logarithm of f32 softmax.
pub fn log_softmax(input: &[f32], out: &mut [f32]) {
    let max = maximum(input);
    let sum: f32 = input.iter().map(|&x| libm::expf(x - max)).sum();
    let log = libm::logf(sum);
    for (y, &x) in out.iter_mut().zip(input) {
        *y = x - max - log;
    }
}

/// One row of int8 softmax.
pub fn softmax_q(attrs: &QSoftmaxAttrs, table: &[i32; 256], input: &[i8], out: &mut [i8]) {
    let max = input.iter().copied().max().unwrap_or(i8::MIN);
    let exp = |x: i8| table[(max as u8).wrapping_sub(x as u8) as usize];
    let sum = input.iter().fold(0i64, |sum, &x| sum.wrapping_add(exp(x) as i64));
    let factor = attrs.inv_scale / sum as f32;
    let zero_point = attrs.out_zero_point;
    let lo = (-128i32).wrapping_sub(zero_point) as f32;
    let hi = 127i32.wrapping_sub(zero_point) as f32;
    for (y, &x) in out.iter_mut().zip(input) {
        *y = to_code(exp(x) as f32 * factor, lo, hi, zero_point);
    }
}

fn maximum(row: &[f32]) -> f32 {
    row.iter().fold(f32::NEG_INFINITY, |max, &x| if x > max { x } else { max })
}

/// Length of the innermost axis.
fn innermost(call: &Call<'_, '_>) -> Result<usize, KernelError> {
    Ok(call.input(0)?.shape().dims().last().map_or(1, |&d| d as usize))
}

#[cfg(test)]
mod tests;
