//! Gradients of picking slices or elements by index: what was picked several times gets the sum.

use ingraft_tensor::{DType, Shape};

use super::rows::{add, rows};
use super::{F32, check_output, gradient};
use crate::attrs::GatherAttrs;
use crate::gather::{Extents, Picks, integers};
use crate::{Call, Kernel, KernelError, OpCode, Step, check};

/// `dx[a.., indices[i..], b..] += dy[a.., i.., b..]`.
///
/// # Shapes
/// Inputs `dy` f32, the indices i32 or i64; output of the data's shape.
///
/// # Errors
/// [`KernelError::Index`] for an index that the forward step would have refused.
pub const KERNEL: Kernel =
    Kernel::new("gather_backward_f32_f32__scalar", OpCode::GatherBackward, F32, F32, run).checked(check);

/// `dx[a, indices[a, i, b], b] += dy[a, i, b]`. Shapes and errors as [`KERNEL`].
pub const KERNEL_ELEMENTS: Kernel = Kernel::new(
    "gather_elements_backward_f32_f32__scalar",
    OpCode::GatherElementsBackward,
    F32,
    F32,
    run_elements,
)
.checked(check_elements);

/// Checks types; the shapes of data and indices.
fn operands(step: &Step<'_>) -> Result<(Shape, Shape), KernelError> {
    check::operands(step, 2, 1)?;
    check_output(step)?;
    let indices = step.input(1)?;
    check::require(step, matches!(indices.dtype, DType::I32 | DType::I64))?;
    Ok((step.output(0)?.shape, indices.shape))
}

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    let (data, indices) = operands(step)?;
    let extents = Extents::new(data, step.attrs::<GatherAttrs>()?.axis);
    let Some(Extents { outer, slice, .. }) = extents else { return Err(KernelError::Operands(step.op)) };
    let picked = outer.saturating_mul(slice).saturating_mul(indices.elements());
    check::require(step, picked == step.input(0)?.shape.elements())
}

fn check_elements(step: &Step<'_>) -> Result<(), KernelError> {
    let (data, indices) = operands(step)?;
    let picks = Picks::new(data, indices, step.attrs::<GatherAttrs>()?.axis);
    check::require(step, picks.is_some() && indices.elements() == step.input(0)?.shape.elements())
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (attrs, indices) = (*call.attrs::<GatherAttrs>()?, integers(call, 1)?);
    let extents = Extents::new(call.output(0)?.shape(), attrs.axis).ok_or(call.operands())?;
    let outside = KernelError::Index(call.op);
    let mut slices = rows(call.slice::<f32>(0)?, extents.slice);
    let dx = gradient(call)?;
    for outer in 0..extents.outer {
        for index in indices.iter() {
            let Some(dy) = slices.next() else { return Ok(()) };
            let start = extents.start(outer, index).ok_or(outside)?;
            add(dx.get_mut(start..).ok_or(outside)?, dy);
        }
    }
    Ok(())
}

fn run_elements(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (attrs, indices) = (*call.attrs::<GatherAttrs>()?, integers(call, 1)?);
    let picks = Picks::new(call.output(0)?.shape(), call.input(1)?.shape(), attrs.axis);
    let picks = picks.ok_or(call.operands())?;
    let outside = KernelError::Index(call.op);
    let dy = call.slice::<f32>(0)?;
    let dx = gradient(call)?;
    for (dy, at) in dy.iter().zip(picks.elements(indices.iter())) {
        *at.and_then(|at| dx.get_mut(at)).ok_or(outside)? += dy;
    }
    Ok(())
}
