//! Gradient of softmax and of its logarithm.

use super::rows::{dot, rows};
use super::{F32, check_output, gradient};
use crate::attrs::SoftmaxAttrs;
use crate::{Call, Kernel, KernelError, OpCode, Step, check};

/// `dx = y·(dy − Σ dy·y)`; for the logarithm `dx = dy − exp(y)·Σ dy`.
///
/// # Shapes
/// Inputs `dy` and the forward step's output `y`, f32 `[.., axis]`; output alike.
pub const KERNEL: Kernel =
    Kernel::new("softmax_backward_f32_f32__scalar", OpCode::SoftmaxBackward, F32, F32, run).checked(check);

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
