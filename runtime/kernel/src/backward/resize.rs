//! Gradient of interpolation on the spatial axes.

use super::{F32, check_output, gradient};
use crate::attrs::ResizeAttrs;
use crate::resize::{Images, check_attrs};
use crate::{Call, Kernel, KernelError, OpCode, Step, check};

/// Gives each output element's gradient to the input elements it was made of, by their weights.
///
/// # Shapes
/// Input `dy` `[N, OH, OW, C]`, output `[N, H, W, C]`, f32 whatever the forward step moved; its attributes.
pub const KERNEL: Kernel =
    Kernel::new("resize_backward_f32_f32__scalar", OpCode::ResizeBackward, F32, F32, run).checked(check);

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    check::operands(step, 1, 1)?;
    check_output(step)?;
    check_attrs(step)?;
    check::require(step, Images::new(step.output(0)?.shape, step.input(0)?.shape).is_some())
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let attrs: &ResizeAttrs = call.attrs()?;
    let images = Images::new(call.output(0)?.shape(), call.input(0)?.shape()).ok_or(call.operands())?;
    let dy = call.slice::<f32>(0)?;
    images.spread(attrs, dy, gradient(call)?);
    Ok(())
}
