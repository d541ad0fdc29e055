//! Pooling.

use ingraft_kernel::KernelError;
use ingraft_kernel::attrs::PoolAttrs;

use crate::launch::{Launch, int};
use crate::params::{Pool, Window};

/// Taps from which a window is shared out.
const LARGE: i32 = 16;
/// Channels of a block that shares windows out, and its threads.
const CHANNELS: usize = 32;
const THREADS: u32 = 256;

/// Launches a maximum or an average of codes.
pub(crate) fn qpool(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    launched(launch, ["pool_qs8_qs8", "pool_qs8_split"])
}

/// Launches the first of `kernels`, or the second for large windows.
pub(crate) fn launched(launch: &mut Launch<'_, '_>, kernels: [&str; 2]) -> Result<(), KernelError> {
    let step = launch.step;
    let attrs: &PoolAttrs = step.attrs()?;
    let error = KernelError::Operands(step.op);
    let [n, h, w, c] = step.input(0)?.shape.nhwc().ok_or(error)?;
    let [_, oh, ow, _] = step.output(0)?.shape.nhwc().ok_or(error)?;
    let [.., bottom, right] = attrs.window.pad;
    let count = step.output(0)?.shape.elements();
    int(step, count)?;
    let taps = attrs.window.kernel.iter().fold(1i32, |taps, extent| taps.saturating_mul(*extent as i32));
    let split = taps >= LARGE;
    let record = Pool {
        input: launch.input(0)?,
        output: launch.output(0)?,
        mask: launch.mask()?,
        n: int(step, n)?,
        h: int(step, h)?,
        w: int(step, w)?,
        c: int(step, c)?,
        oh: int(step, oh)?,
        ow: int(step, ow)?,
        window: Window::from(&attrs.window),
        pad_end: [bottom as i32, right as i32],
        kind: attrs.kind as i32,
        in_zero_point: attrs.in_zero_point,
        out_zero_point: attrs.out_zero_point,
        ratio: attrs.ratio,
        lo: attrs.lo,
        hi: attrs.hi,
    };
    if !split {
        return launch.elements(kernels[0], count, &record);
    }
    let (pixels, columns) = (int(step, count.checked_div(c).unwrap_or(0))?, int(step, c.div_ceil(CHANNELS))?);
    launch.grid(kernels[1], (pixels as u32, columns as u32, 1), THREADS, &record)
}
