//! Gradient of normalization with respect to what is normalized.

use super::rows::rows;
use super::{F32, check_output, gradient};
use crate::attrs::NormAttrs;
use crate::norm::{RMS, moments, normalized};
use crate::{Call, Kernel, KernelError, OpCode, Step, check};

/// `dx = (g − mean(g) − x̂·mean(g·x̂)) / σ` with `g = dy·scale`; the root mean square has no `mean(g)`.
///
/// # Shapes
/// Inputs `dy`, the forward step's input `x` of as many elements, and optionally its scale; output alike.
///
/// # Numerics
/// Mean and deviation are computed again, as in the forward step, so that nothing but `x` is kept.
pub const KERNEL: Kernel =
    Kernel::new("norm_backward_f32_f32__scalar", OpCode::NormBackward, F32, F32, run).checked(check);

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    let attrs: &NormAttrs = step.attrs()?;
    check_output(step)?;
    let (dy, x, dx) = (step.input(0)?, step.input(1)?, step.output(0)?);
    let elements = dy.shape.elements();
    let alike = x.shape.elements() == elements && dx.shape.elements() == elements;
    let len = normalized(x.shape, attrs.axes).ok_or(KernelError::Operands(step.op))?;
    let known = attrs.kind <= RMS && attrs.epsilon >= 0.0 && attrs.epsilon.is_finite();
    let scaled = step.inputs().get(2).is_none_or(|scale| scale.shape.elements() == len);
    let floats = step.inputs().iter().all(|input| F32 == Some(input.dtype));
    check::require(step, alike && known && scaled && floats && (2..=3).contains(&step.inputs().len()))
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let attrs = *call.attrs::<NormAttrs>()?;
    let len = normalized(call.input(1)?.shape(), attrs.axes).ok_or(call.operands())?;
    let scale = if call.inputs.len() > 2 { Some(call.slice::<f32>(2)?) } else { None };
    let (dy, x) = (call.slice::<f32>(0)?, call.slice::<f32>(1)?);
    let mut dx = gradient(call)?;
    for (dy, x) in rows(dy, len).zip(rows(x, len)) {
        let Some((row, rest)) = dx.split_at_mut_checked(len) else { break };
        add_row(&attrs, row, dy, x, scale);
        dx = rest;
    }
    Ok(())
}

fn add_row(attrs: &NormAttrs, dx: &mut [f32], dy: &[f32], x: &[f32], scale: Option<&[f32]>) {
    let (mean, deviation) = moments(attrs, x);
    let count = x.len() as f32;
    let g = |index: usize, dy: f32| match scale {
        Some(scale) => dy * scale.get(index).copied().unwrap_or(1.0),
        None => dy,
    };
    let hat = |x: f32| (x - mean) / deviation;
    let (mut sum, mut along) = (0.0, 0.0);
    for (index, (dy, x)) in dy.iter().zip(x).enumerate() {
        sum += g(index, *dy);
        along += g(index, *dy) * hat(*x);
    }
    let shift = if attrs.kind == RMS { 0.0 } else { sum / count };
    for (index, (dx, (dy, x))) in dx.iter_mut().zip(dy.iter().zip(x)).enumerate() {
        *dx += (g(index, *dy) - shift - hat(*x) * (along / count)) / deviation;
    }
}
