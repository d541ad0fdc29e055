//! int8 depthwise convolution.
//!
//! The window of a pixel is a list of taps, each the codes of all channels at one place of the input or, in the
//! padding, a row of zero points: no case stands in the inner loops.

use ingraft_kernel::attrs::QConvAttrs;
use ingraft_kernel::qdepthwise::{KERNEL, QDepthwise};
use ingraft_kernel::requantize::{passes, set_bit};
use ingraft_kernel::window::{ConvShape, Pixel};
use ingraft_kernel::{Call, Kernel, KernelError, Step};
use ingraft_tensor::bytes;

use crate::isa::{Isa, ROWS, Sums, WIDTH};
use crate::requantize::Limits;
use crate::taps::{TAPS, Taps};

/// int8 output. A `WHOLE` row leaves the terms that it does not compute to the reference, another refuses them.
pub(crate) const fn codes<I: Isa, const WHOLE: bool>(name: &'static str) -> Kernel {
    Kernel { name, check, run: run::<I, WHOLE>, ..KERNEL }
}

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    (KERNEL.check)(step)?;
    let attrs: &QConvAttrs = step.attrs()?;
    let [height, width] = attrs.window.kernel.map(|k| k as usize);
    let few = height.checked_mul(width).is_some_and(|taps| taps <= TAPS);
    if few && attrs.fits_codes() { Ok(()) } else { Err(KernelError::Operands(step.op)) }
}

/// Lists the taps of `pixel`. By itself: among what its caller keeps, too few registers are left for it.
#[inline(never)]
fn list<'t>(
    shape: &ConvShape,
    input: &'t [i8],
    pixel: Pixel,
    padding: &'t [i8],
    taps: &mut Taps<'t>,
) -> Option<()> {
    taps.clear();
    let channels = shape.input[3];
    let top = (pixel.y * shape.stride[0]).wrapping_sub(shape.pad[0]);
    let left = (pixel.x * shape.stride[1]).wrapping_sub(shape.pad[1]);
    // Of every line of the window, so many columns lie in the padding before and in the input.
    let [width, step, columns] = [shape.input[2], shape.dilation[1], shape.kernel[1]];
    let (mut before, mut inside) = (0, columns);
    let right = left.wrapping_add(columns.saturating_sub(1) * step);
    if left >= width || right >= width {
        let is_inside = |kx: &usize| left.wrapping_add(*kx * step) < width;
        before = (0..columns).find(is_inside).unwrap_or(columns);
        inside = (before..columns).filter(is_inside).count();
    }
    let behind = columns - before - inside;
    let column = left.wrapping_add(before * step);
    for ky in 0..shape.kernel[0] {
        let y = top.wrapping_add(ky * shape.dilation[0]);
        if y >= shape.input[1] || inside == 0 {
            taps.push(padding, columns, 0)?;
            continue;
        }
        let start = (pixel.n * shape.input[1] + y) * width + column;
        taps.push(padding, before, 0)?;
        taps.push(input.get(start * channels..)?, inside, step * channels)?;
        taps.push(padding, behind, 0)?;
    }
    Some(())
}

fn run<I: Isa, const WHOLE: bool>(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    if call.terms.has_delta() {
        return if WHOLE { (KERNEL.run)(call) } else { Err(KernelError::Terms(call.op)) };
    }
    let (conv, error) = (QDepthwise::new(call)?, KernelError::Memory(call.op));
    let memory = core::mem::take(&mut call.workspace);
    let (out, mask) = call.out_and_mask::<i8>()?;
    fill::<I>(&conv, memory, out, mask).ok_or(error)
}

fn fill<I: Isa>(
    conv: &QDepthwise<'_>,
    memory: &mut [u8],
    out: &mut [i8],
    mut mask: Option<&mut [u8]>,
) -> Option<()> {
    let (shape, channels) = (&conv.shape, conv.shape.output[3]);
    let padding: &mut [i8] = bytes::cast_mut(memory.get_mut(..channels)?)?;
    padding.fill(conv.attrs.in_zero_point as i8);
    let padding = &*padding;
    let limits = Limits::new(conv.attrs);
    let plain = conv.terms.affine.is_none() && mask.is_none();
    let mut taps = Taps::new(channels, I::pairs_fit(conv.weight));
    let mut sums: Sums = [[0; WIDTH]; ROWS];
    let sums = sums.as_flattened_mut().get_mut(..I::CHANNELS)?;
    let [samples, height, width, _] = shape.output;
    let step = shape.stride[0] * shape.input[2] * channels;
    // Down a column, windows that lie between top and bottom are the one above, moved.
    for n in 0..samples {
        for x in 0..width {
            let mut moves = false;
            for y in 0..height {
                let inside = between(shape, y);
                if moves && inside {
                    taps.move_by(step, conv.input, padding)?;
                } else {
                    list(shape, conv.input, Pixel { n, y, x }, padding, &mut taps)?;
                }
                moves = inside;
                let index = (n * height + y) * width + x;
                for first in (0..channels).step_by(I::CHANNELS) {
                    let part = Part { at: index * channels + first, first, taps: &taps };
                    part.compute::<I>(conv, sums, &limits, out, mask.as_deref_mut(), plain)?;
                }
            }
        }
    }
    Some(())
}

/// Whether no row of a window at row `y` of the output lies in the padding.
#[inline(always)]
fn between(shape: &ConvShape, y: usize) -> bool {
    let top = (y * shape.stride[0]).wrapping_sub(shape.pad[0]);
    let bottom = top.wrapping_add(shape.kernel[0].saturating_sub(1) * shape.dilation[0]);
    top < shape.input[1] && bottom < shape.input[1]
}

/// Some channels of a pixel.
struct Part<'t> {
    /// Where they stand in the output.
    at: usize,
    /// First channel.
    first: usize,
    taps: &'t Taps<'t>,
}

impl Part<'_> {
    #[inline(always)]
    fn compute<I: Isa>(
        &self,
        conv: &QDepthwise<'_>,
        sums: &mut [i32],
        limits: &Limits,
        out: &mut [i8],
        mask: Option<&mut [u8]>,
        plain: bool,
    ) -> Option<()> {
        let bias = conv.bias.get(self.first..)?;
        let bias = bias.get(..I::CHANNELS).unwrap_or(bias);
        I::depthwise(self.taps, conv.weight, self.first, bias, sums)?;
        let (sums, multiplier) = (sums.get(..bias.len())?, conv.multiplier.get(self.first..)?);
        let out = out.get_mut(self.at..)?.get_mut(..bias.len())?;
        if plain {
            I::codes((sums, multiplier), None, limits, out);
            return Some(());
        }
        self.finish(conv, sums, limits, out, mask)
    }

    /// Codes with scale and shift, and their mask.
    fn finish(
        &self,
        conv: &QDepthwise<'_>,
        sums: &[i32],
        limits: &Limits,
        out: &mut [i8],
        mut mask: Option<&mut [u8]>,
    ) -> Option<()> {
        let (multiplier, inv) = (conv.multiplier.get(self.first..)?, 1.0 / conv.attrs.out_scale);
        for (c, ((o, sum), m)) in out.iter_mut().zip(sums).zip(multiplier).enumerate() {
            let mut v = *sum as f32 * m;
            if let Some(affine) = conv.terms.affine {
                let channel = self.first + c;
                v = v * affine.scale.get(channel)? + affine.shift.get(channel)? * inv;
            }
            *o = limits.code(v);
            if let Some(mask) = mask.as_deref_mut() {
                set_bit(mask, self.at + c, passes(v, limits.lo, limits.hi));
            }
        }
        Some(())
    }
}
