//! Gradient of normalization with respect to what is normalized, and to its scale and shift.

use super::rows::rows;
use super::{F32, gradient};
use crate::attrs::NormAttrs;
use crate::norm::{AFFINE, RMS, moments, normalized};
use crate::{Call, Kernel, KernelError, OpCode, SiteGrads, Step, check};

/// `dx = (g − mean(g) − x̂·mean(g·x̂)) / σ` with `g = dy·scale`; the root mean square has no `mean(g)`, and where nothing is
/// normalized `dx = g`. The gradient of the scale is `Σ dy·x̂` over the rows, that of the shift `Σ dy`.
///
/// # Shapes
/// Inputs `dy`, the forward step's input `x` of as many elements, and optionally its scale; output, if the gradient of
/// what is normalized is wanted, alike. The scale of the site's terms stands in for the step's own.
///
/// # Numerics
/// Mean and deviation are computed again, as in the forward step, so that nothing but `x` is kept.
///
/// # Errors
/// [`KernelError::Terms`] for other terms than a scale and shift, or their gradients.
pub const KERNEL: Kernel =
    Kernel::new("norm_backward_f32_f32__scalar", OpCode::NormBackward, F32, None, run).checked(check);

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    let attrs: &NormAttrs = step.attrs()?;
    let (dy, x) = (step.input(0)?, step.input(1)?);
    let elements = dy.shape.elements();
    let written = step.outputs().iter().all(|dx| dx.shape.elements() == elements && F32 == Some(dx.dtype));
    let alike = x.shape.elements() == elements && written && step.outputs().len() <= 1;
    let len = normalized(x.shape, attrs.axes).ok_or(KernelError::Operands(step.op))?;
    let known = attrs.kind <= AFFINE && attrs.epsilon >= 0.0 && attrs.epsilon.is_finite();
    let scaled = step.inputs().get(2).is_none_or(|scale| scale.shape.elements() == len);
    let floats = step.inputs().iter().all(|input| F32 == Some(input.dtype));
    check::require(step, alike && known && scaled && floats && (2..=3).contains(&step.inputs().len()))
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let attrs = *call.attrs::<NormAttrs>()?;
    let len = normalized(call.input(1)?.shape(), attrs.axes).ok_or(call.operands())?;
    let scale = match call.terms.of_norm(call.op, len)? {
        Some(affine) => Some(affine.scale),
        None if call.inputs.len() > 2 => Some(call.slice::<f32>(2)?),
        None => None,
    };
    let (dy, x) = (call.slice::<f32>(0)?, call.slice::<f32>(1)?);
    let SiteGrads { down, up, sparse, dense, scale: mut dscale, shift: mut dshift } =
        core::mem::take(&mut call.grads);
    let foreign = [&down, &up, &sparse, &dense].into_iter().any(|grad| grad.is_some());
    let fits = [&dscale, &dshift].into_iter().all(|grad| grad.as_ref().is_none_or(|grad| grad.len() == len));
    (!foreign && fits).then_some(()).ok_or(KernelError::Terms(call.op))?;
    let mut dx = if call.outputs.is_empty() { None } else { Some(gradient(call)?) };
    for (dy, x) in rows(dy, len).zip(rows(x, len)) {
        if let Some(scale) = &mut dscale {
            let (mean, deviation) = moments(&attrs, x);
            let hats = x.iter().map(|x| (x - mean) / deviation);
            scale.iter_mut().zip(dy.iter().zip(hats)).for_each(|(sum, (dy, hat))| *sum += dy * hat);
        }
        if let Some(shift) = &mut dshift {
            shift.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy);
        }
        if let Some(rest) = dx.take() {
            let Some((row, rest)) = rest.split_at_mut_checked(len) else { break };
            add_row(&attrs, row, dy, x, scale);
            dx = Some(rest);
        }
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
    if attrs.kind == AFFINE {
        dx.iter_mut().zip(dy).enumerate().for_each(|(index, (dx, dy))| *dx += g(index, *dy));
        return;
    }
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
