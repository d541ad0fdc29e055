//! f32 pooling, and resizing.

use ingraft_kernel::KernelError;
use ingraft_kernel::attrs::ResizeAttrs;
use ingraft_tensor::DType;

use crate::launch::{Launch, int};
use crate::params::float::Resize;
use crate::rows::pool;

/// Launches an f32 maximum or average.
pub(crate) fn pool(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    pool::launched(launch, ["pool_f32", "pool_f32_split"])
}

/// Launches an interpolation.
pub(crate) fn resize(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let step = launch.step;
    let attrs: &ResizeAttrs = step.attrs()?;
    let error = KernelError::Operands(step.op);
    let [n, h, w, c] = step.input(0)?.shape.nhwc().ok_or(error)?;
    let [_, oh, ow, _] = step.output(0)?.shape.nhwc().ok_or(error)?;
    let count = step.output(0)?.shape.elements();
    int(step, count)?;
    let record = Resize {
        input: launch.input(0)?,
        output: launch.output(0)?,
        n: int(step, n)?,
        h: int(step, h)?,
        w: int(step, w)?,
        c: int(step, c)?,
        oh: int(step, oh)?,
        ow: int(step, ow)?,
        mode: attrs.mode as i32,
        rounding: attrs.rounding as i32,
        before: attrs.before,
        numerator: attrs.numerator,
        denominator: attrs.denominator,
        after: attrs.after,
    };
    let codes = step.input(0)?.dtype == DType::I8;
    launch.elements(if codes { "resize_qs8" } else { "resize_f32" }, count, &record)
}
