//! Gradient of pooling.
//!
//! Average: every tap inside the input gets `dy/n`, n counted as in the forward
//! step. Maximum: the tap that was the maximum gets all of `dy`, the first one
//! where several were equal.

use core::ops::Range;

use ingraft_tensor::{DType, Shape};

use super::rows::{Code, add_scaled};
use super::{F32, Incoming, check_incoming, check_output, gradient};
use crate::attrs::PoolAttrs;
use crate::pool::{AVERAGE_PADDED, MAX};
use crate::walk::BLOCK;
use crate::window::{ConvShape, Pixel};
use crate::{Call, Kernel, KernelError, OpCode, Step, check};

/// Through f32 or int8 pooling.
///
/// # Shapes
/// Inputs `dy` `[N, OH, OW, C]`, optionally its mask, and, for the maximum, `x`
/// `[N, H, W, C]` of f32 or int8; output `[N, H, W, C]`.
pub const KERNEL: Kernel =
    Kernel::new("pool_backward_f32_f32__scalar", OpCode::PoolBackward, F32, F32, run).checked(check);

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    let attrs: &PoolAttrs = step.attrs()?;
    let first = check_incoming(step)?;
    check_output(step)?;
    let dx = step.output(0)?.shape;
    check::require(step, attrs.kind <= AVERAGE_PADDED && shape(attrs, dx, step.input(0)?.shape).is_some())?;
    if attrs.kind != MAX {
        return check::require(step, step.inputs().len() == first);
    }
    let x = step.input(first)?;
    let known = matches!(x.dtype, DType::F32 | DType::I8) && x.shape.elements() == dx.elements();
    check::require(step, known && step.inputs().len() == first.wrapping_add(1))
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let attrs: &PoolAttrs = call.attrs()?;
    let (error, incoming) = (call.operands(), Incoming::new(call)?);
    let output = call.input(0)?.shape();
    let shape = shape(attrs, call.output(0)?.shape(), output).ok_or(error)?;
    let x = incoming.operands();
    if attrs.kind != MAX {
        return average(attrs, &shape, incoming, gradient(call)?).ok_or(error);
    }
    match call.input(x)?.dtype() {
        DType::I8 => maximum::<i8>(&shape, incoming, call.slice(x)?, gradient(call)?).ok_or(error),
        _ => maximum::<f32>(&shape, incoming, call.slice(x)?, gradient(call)?).ok_or(error),
    }
}

/// The extents, as of a convolution with one filter per channel; `None` when
/// they disagree. Unlike there, a window may reach past the end of the padded
/// input: pooling rounds its output extent up or down.
fn shape(attrs: &PoolAttrs, input: Shape, output: Shape) -> Option<ConvShape> {
    let (window, [n, _, _, c]) = (attrs.window, input.nhwc()?);
    let shape = ConvShape {
        input: input.nhwc()?,
        output: output.nhwc()?,
        kernel: window.kernel.map(|v| v as usize),
        stride: window.stride.map(|v| v as usize),
        dilation: window.dilation.map(|v| v as usize),
        pad: [window.pad[0] as usize, window.pad[1] as usize],
        groups: c,
        in_group: 1,
        out_group: 1,
    };
    let [on, _, _, oc] = shape.output;
    let taps = shape.kernel[0].checked_mul(shape.kernel[1])?.checked_mul(output.elements())?;
    (on == n && oc == c && taps <= i32::MAX as usize).then_some(shape)
}

fn average(attrs: &PoolAttrs, shape: &ConvShape, incoming: Incoming<'_>, dx: &mut [f32]) -> Option<()> {
    let channels = shape.input[3];
    shape
        .for_each_pixel(|index, pixel| {
            let count = match attrs.kind {
                AVERAGE_PADDED => padded(attrs, shape, pixel),
                _ => taps(shape, pixel).count(),
            };
            let share = 1.0 / count.max(1) as f32;
            blocks(incoming, index, channels, |start, dy| {
                taps(shape, pixel).try_for_each(|tap| {
                    let first = tap.wrapping_mul(channels).wrapping_add(start);
                    add_scaled(dx.get_mut(first..)?.get_mut(..dy.len())?, share, dy);
                    Some(())
                })
            })
            .ok_or(())
        })
        .ok()
}

fn maximum<T: Code + PartialOrd>(
    shape: &ConvShape,
    incoming: Incoming<'_>,
    x: &[T],
    dx: &mut [f32],
) -> Option<()> {
    let channels = shape.input[3];
    shape
        .for_each_pixel(|index, pixel| {
            blocks(incoming, index, channels, |start, dy| {
                let mut best = [None::<(usize, T)>; BLOCK];
                for tap in taps(shape, pixel) {
                    let first = tap.wrapping_mul(channels).wrapping_add(start);
                    let values = x.get(first..)?.get(..dy.len())?;
                    for (at, (best, value)) in (first..).zip(best.iter_mut().zip(values)) {
                        if best.is_none_or(|(_, most)| *value > most) {
                            *best = Some((at, *value));
                        }
                    }
                }
                for ((at, _), dy) in best.iter().zip(dy).filter_map(|(best, dy)| best.zip(Some(dy))) {
                    *dx.get_mut(at)? += dy;
                }
                Some(())
            })
            .ok_or(())
        })
        .ok()
}

/// Calls `block` with the first channel and the gradient of pieces of at most [`BLOCK`] channels of output pixel `index`.
fn blocks(
    incoming: Incoming<'_>,
    index: usize,
    channels: usize,
    mut block: impl FnMut(usize, &[f32]) -> Option<()>,
) -> Option<()> {
    let mut buffer = [0.0f32; BLOCK];
    for start in (0..channels).step_by(BLOCK) {
        let dy = buffer.get_mut(..channels.wrapping_sub(start).min(BLOCK))?;
        if incoming.read(index.wrapping_mul(channels).wrapping_add(start), dy)? {
            block(start, dy)?;
        }
    }
    Some(())
}

/// The input pixels under the window of `pixel`, row by row.
fn taps(shape: &ConvShape, pixel: Pixel) -> impl Iterator<Item = usize> {
    let ([_, height, width, _], [kh, kw], [sy, sx]) = (shape.input, shape.kernel, shape.stride);
    let ([dy, dx], [top, left]) = (shape.dilation, shape.pad);
    let rows = inside(pixel.y.wrapping_mul(sy), [kh, dy, top, height]);
    let columns = inside(pixel.x.wrapping_mul(sx), [kw, dx, left, width]);
    let shape = *shape;
    rows.flat_map(move |ky| columns.clone().filter_map(move |kx| shape.tap(pixel, ky, kx)))
}

/// The taps of a window along one axis that lie inside the input. `begin` counts from the padding: a window that a file
/// made far larger than its image takes no longer than the image.
fn inside(begin: usize, [taps, step, pad, extent]: [usize; 4]) -> Range<usize> {
    let step = step.max(1);
    let first = pad.saturating_sub(begin).div_ceil(step);
    first..pad.saturating_add(extent).saturating_sub(begin).div_ceil(step).min(taps)
}

/// Taps of the window of `pixel` inside the padded input.
fn padded(attrs: &PoolAttrs, shape: &ConvShape, pixel: Pixel) -> usize {
    let [top, left, bottom, right] = attrs.window.pad.map(|p| p as usize);
    let ([_, height, width, _], [kh, kw]) = (shape.input, shape.kernel);
    let ([sy, sx], [dy, dx]) = (shape.stride, shape.dilation);
    let padded =
        |before: usize, extent: usize, after: usize| before.saturating_add(extent).saturating_add(after);
    let rows = inside(pixel.y.wrapping_mul(sy), [kh, dy, 0, padded(top, height, bottom)]);
    let columns = inside(pixel.x.wrapping_mul(sx), [kw, dx, 0, padded(left, width, right)]);
    rows.len().wrapping_mul(columns.len())
}
