//! Gradient of softmax and of its logarithm.

use ingraft_tensor::DType;

use super::rows::{dot, rows};
use super::{F32, check_output, gradient};
use crate::attrs::{QSoftmaxAttrs, SoftmaxAttrs};
use crate::requantize::passes;
use crate::{Call, Kernel, KernelError, OpCode, Step, check};

/// `dx = y·(dy − Σ dy·y)`; for the logarithm `dx = dy − exp(y)·Σ dy`.
///
/// # Shapes
/// Inputs `dy` and the forward step's output `y`, f32 `[.., axis]`; output alike.
pub const KERNEL: Kernel =
    Kernel::new("softmax_backward_f32_f32__scalar", OpCode::SoftmaxBackward, F32, F32, run).checked(check);

/// Through the rounding of an int8 softmax, which is computed again instead of kept.
///
/// # Shapes
/// Inputs `dy` f32, the forward step's codes `x` `[.., axis]` and its table of exponentials; output f32 like `x`.
///
/// # Numerics
/// `p = table[max − x] / Σ`, from exact integer sums; the gradient is 0 where `p` lies outside the output's range.
pub const KERNEL_Q: Kernel =
    Kernel::new("softmax_backward_f32_qs8_f32__scalar", OpCode::SoftmaxBackward, F32, F32, run_quantized)
        .checked(check_quantized);

fn check_quantized(step: &Step<'_>) -> Result<(), KernelError> {
    let attrs: &QSoftmaxAttrs = step.attrs()?;
    check::operands(step, 3, 1)?;
    check_output(step)?;
    check::int8(step, attrs.out_zero_point)?;
    check::scale(step, attrs.inv_scale)?;
    let (dy, x, table, dx) = (step.input(0)?, step.input(1)?, step.input(2)?, step.output(0)?);
    let typed = x.dtype == DType::I8 && table.dtype == DType::I32 && table.shape.elements() == 256;
    check::require(step, typed && x.shape == dy.shape && dx.shape.elements() == dy.shape.elements())
}

fn run_quantized(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let attrs = *call.attrs::<QSoftmaxAttrs>()?;
    let len = call.input(0)?.shape().dims().last().map_or(1, |&d| d as usize);
    let (dy, x) = (call.slice::<f32>(0)?, call.slice::<i8>(1)?);
    let table: &[i32; 256] = call.slice::<i32>(2)?.try_into().map_err(|_| call.operands())?;
    let lo = (-128i32).wrapping_sub(attrs.out_zero_point) as f32;
    let hi = 127i32.wrapping_sub(attrs.out_zero_point) as f32;
    let mut dx = gradient(call)?;
    for (dy, x) in rows(dy, len).zip(rows(x, len)) {
        let Some((row, rest)) = dx.split_at_mut_checked(len) else { break };
        let max = x.iter().copied().max().unwrap_or(i8::MIN);
        let exp = |x: i8| table[(max as u8).wrapping_sub(x as u8) as usize];
        let sum = x.iter().fold(0i64, |sum, &x| sum.wrapping_add(i64::from(exp(x)))) as f32;
        let pairs = || {
            dy.iter().zip(x).map(|(dy, x)| {
                let p = exp(*x) as f32 / sum;
                (if passes(p * attrs.inv_scale, lo, hi) { *dy } else { 0.0 }, p)
            })
        };
        let mean: f32 = pairs().map(|(dy, p)| dy * p).sum();
        row.iter_mut().zip(pairs()).for_each(|(dx, (dy, p))| *dx += p * (dy - mean));
        dx = rest;
    }
    Ok(())
}

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    let attrs: &SoftmaxAttrs = step.attrs()?;
    check::operands(step, 2, 1)?;
    check_output(step)?;
    let (dy, y, dx) = (step.input(0)?, step.input(1)?, step.output(0)?);
    let alike = y.shape == dy.shape && dx.shape.elements() == dy.shape.elements();
    check::require(step, attrs.log <= 1 && F32 == Some(y.dtype) && alike)
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let attrs = *call.attrs::<SoftmaxAttrs>()?;
    let len = call.input(0)?.shape().dims().last().map_or(1, |&d| d as usize);
    let (dy, y) = (call.slice::<f32>(0)?, call.slice::<f32>(1)?);
    let mut dx = gradient(call)?;
    for (dy, y) in rows(dy, len).zip(rows(y, len)) {
        let Some((row, rest)) = dx.split_at_mut_checked(len) else { break };
        let each = row.iter_mut().zip(dy.iter().zip(y));
        if attrs.log == 1 {
            let sum: f32 = dy.iter().sum();
            each.for_each(|(dx, (dy, y))| *dx += dy - libm::expf(*y) * sum);
        } else {
            let mean = dot(dy, y);
            each.for_each(|(dx, (dy, y))| *dx += y * (dy - mean));
        }
        dx = rest;
    }
    Ok(())
}
