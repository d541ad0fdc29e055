//! Gradient of a depthwise convolution and of the terms at its site.
//!
//! The equations are those of [`conv`](super::conv) with one filter per
//! channel: every product runs over the channels of one tap. Weights and dense
//! deltas are `[kh, kw, C]`; sparse indices count the taps of one channel. There is
//! no low-rank term.

use ingraft_tensor::bytes::cast_mut;

use super::layer::{Layer, check_quantized, check_real};
use super::rows::{Code, add};
use super::trained::Trained;
use super::{F32, gradient};
use crate::window::{ConvShape, Pixel, row, row_mut};
use crate::{Call, Kernel, KernelError, OpCode, SiteGrads, Step, check};

/// Through an f32 layer.
///
/// # Shapes
/// Inputs `dy` `[N, OH, OW, C]`, optionally its mask, `x` `[N, H, W, C]`, `weight`
/// `[kh, kw, C]`, `bias` `[C]`; output, if the input's gradient is wanted, `[N, H, W, C]`.
///
/// # Numerics
/// As [`conv::KERNEL`](super::conv::KERNEL).
///
/// # Errors
/// [`KernelError::Terms`] for a two-factor term or one with integer parameters.
pub const KERNEL: Kernel =
    Kernel::new("depthwise_backward_f32_f32_f32__scalar", OpCode::DepthwiseBackward, F32, None, run)
        .checked(|step| filter_per_channel(step, check_real(step)?))
        .with_workspace(|step| check_real(step).map_or(0, |shape| workspace(&shape)));

/// Through an int8 layer.
///
/// # Shapes
/// As [`KERNEL`], with x and weight int8, bias i32, and a fifth forward operand,
/// the f32 multiplier `[C]`.
///
/// # Numerics
/// As [`KERNEL`]. The pre-affine value is recomputed in f32, where a sum of few
/// codes is exact.
///
/// # Errors
/// As [`KERNEL`].
pub const KERNEL_Q: Kernel = Kernel::new(
    "depthwise_backward_f32_qc8w_f32__scalar",
    OpCode::DepthwiseBackward,
    F32,
    None,
    run_quantized,
)
.checked(|step| filter_per_channel(step, check_quantized(step)?))
.with_workspace(|step| check_quantized(step).map_or(0, |shape| workspace(&shape)));

/// [`KERNEL`], for a target to compile with its own instructions.
///
/// # Errors
/// As [`KERNEL`].
#[inline(always)]
pub fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    backward(call, Layer::real(call)?)
}

/// [`KERNEL_Q`], for a target to compile with its own instructions.
///
/// # Errors
/// As [`KERNEL`].
#[inline(always)]
pub fn run_quantized(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    backward(call, Layer::quantized(call)?)
}

fn filter_per_channel(step: &Step<'_>, shape: ConvShape) -> Result<(), KernelError> {
    check::require(step, shape.in_group == 1 && shape.out_group == 1)
}

fn workspace(shape: &ConvShape) -> usize {
    shape.output[3].wrapping_mul(ROWS).wrapping_mul(4)
}

#[inline(always)]
fn backward<T: Code>(call: &mut Call<'_, '_>, layer: Layer<'_, T>) -> Result<(), KernelError> {
    let error = call.operands();
    let terms = Trained::new(call, &layer.shape)?;
    if terms.low_rank.is_some() {
        return Err(KernelError::Terms(call.op));
    }
    if layer.shape.in_group != 1 || layer.shape.out_group != 1 {
        return Err(error);
    }
    let site = Site { layer, terms };
    let grads = core::mem::take(&mut call.grads);
    let workspace = core::mem::take(&mut call.workspace);
    let dx = if call.outputs.is_empty() { None } else { Some(gradient(call)?) };
    let mut work = Work::new(workspace, layer.shape.output[3], grads, dx).ok_or(error)?;
    site.backward_all(&mut work).ok_or(error)
}

/// Everything that is only read.
struct Site<'a, T> {
    layer: Layer<'a, T>,
    terms: Trained<'a>,
}

/// Everything that is written, reused for each output pixel.
struct Work<'w> {
    grads: SiteGrads<'w>,
    /// Gradient of the layer's input.
    dx: Option<&'w mut [f32]>,
    /// Gradient of the output channels.
    dz: &'w mut [f32],
    /// The same times the weight scale.
    scaled: &'w mut [f32],
    /// Dequantized input channels under one tap, or sums over taps.
    x: &'w mut [f32],
}

impl<'w> Work<'w> {
    fn new(
        workspace: &'w mut [u8],
        channels: usize,
        grads: SiteGrads<'w>,
        dx: Option<&'w mut [f32]>,
    ) -> Option<Self> {
        let (dz, rest) = cast_mut::<f32>(workspace)?.split_at_mut_checked(channels)?;
        let (scaled, rest) = rest.split_at_mut_checked(channels)?;
        Some(Self { grads, dx, dz, scaled, x: rest.get_mut(..channels)? })
    }
}

impl<T: Code> Site<'_, T> {
    /// Adds the gradients of every output pixel. Plain loops: a closure handed
    /// on would not be compiled with the instructions of the calling target.
    #[inline(always)]
    fn backward_all(&self, work: &mut Work<'_>) -> Option<()> {
        let [samples, height, width, _] = self.layer.shape.output;
        let mut index = 0usize;
        for n in 0..samples {
            for y in 0..height {
                for x in 0..width {
                    self.backward(work, index, Pixel { n, y, x })?;
                    index = index.wrapping_add(1);
                }
            }
        }
        Some(())
    }

    /// Adds the gradients of output pixel `index`; `None` for operands out of range.
    #[inline(always)]
    fn backward(&self, work: &mut Work<'_>, index: usize, pixel: Pixel) -> Option<()> {
        let start = index.wrapping_mul(self.layer.shape.output[3]);
        if !self.layer.incoming.read(start, work.dz)? {
            return Some(());
        }
        self.scale(work, pixel)?;
        if let Some(shift) = &mut work.grads.shift {
            add(shift, work.dz);
        }
        if let Some(affine) = self.terms.affine {
            work.dz.iter_mut().zip(affine.scale).for_each(|(dz, scale)| *dz *= scale);
        }
        self.sparse(work, pixel)?;
        self.taps(work, pixel)
    }

    /// Gradient of the affine scale: the incoming gradient times the recomputed pre-affine value.
    #[inline(always)]
    fn scale(&self, work: &mut Work<'_>, pixel: Pixel) -> Option<()> {
        let Work { grads, dz, x: sums, .. } = work;
        let Some(scale) = &mut grads.scale else { return Some(()) };
        let Layer { shape, input, weight, zero, .. } = &self.layer;
        let zero: f32 = (*zero).into();
        sums.fill(0.0);
        for (tap, weight) in super::rows::rows(weight, sums.len()).enumerate() {
            let sums = sums.iter_mut().zip(weight);
            match tap_position(shape, pixel, tap) {
                Some(at) => {
                    let x = row(input, at, shape.input[3])?;
                    sums.zip(x).for_each(|((sum, w), x)| *sum += (*w).into() * (*x).into());
                }
                None => sums.for_each(|(sum, w)| *sum += (*w).into() * zero),
            }
        }
        let channels = scale.iter_mut().zip(dz.iter()).zip(sums.iter());
        for (channel, ((scale, dv), sum)) in channels.enumerate().filter(|(_, ((_, dv), _))| **dv != 0.0) {
            let deltas = self.sparse_value(channel, pixel)? + self.dense_value(channel, pixel)?;
            *scale += dv * (self.layer.value(channel, *sum)? + deltas);
        }
        Some(())
    }

    /// `Δ·x` of `channel`, of the dense delta.
    #[inline(always)]
    fn dense_value(&self, channel: usize, pixel: Pixel) -> Option<f32> {
        let Some(delta) = self.terms.dense else { return Some(0.0) };
        let (mut sum, mut at) = (0.0, channel);
        for tap in 0..self.layer.shape.row() {
            sum += delta.get(at)? * self.real(channel, tap, pixel)?;
            at = at.wrapping_add(self.layer.shape.input[3]);
        }
        Some(sum)
    }

    /// `Δ·x` of `channel`, of the sparse delta.
    #[inline(always)]
    fn sparse_value(&self, channel: usize, pixel: Pixel) -> Option<f32> {
        let Some(sparse) = self.terms.sparse else { return Some(0.0) };
        sparse
            .deltas(channel)?
            .try_fold(0.0, |sum, delta| Some(sum + delta.value * self.real(channel, delta.index, pixel)?))
    }

    /// The dequantized input of `channel` under `tap`, 0 in the padding.
    #[inline(always)]
    fn real(&self, channel: usize, tap: usize, pixel: Pixel) -> Option<f32> {
        let shape = &self.layer.shape;
        let Some(at) = tap_position(shape, pixel, tap) else { return Some(0.0) };
        let stored = *self.layer.input.get(at.wrapping_mul(shape.input[3]).wrapping_add(channel))?;
        Some(self.layer.dequantized(stored))
    }

    /// Gradients of the sparse values, and through them of the input.
    #[inline(always)]
    fn sparse(&self, work: &mut Work<'_>, pixel: Pixel) -> Option<()> {
        let Some(sparse) = self.terms.sparse else { return Some(()) };
        let shape = &self.layer.shape;
        let Work { grads, dx, dz, .. } = work;
        for (channel, dz) in dz.iter().enumerate().filter(|(_, dz)| **dz != 0.0) {
            for delta in sparse.deltas(channel)? {
                let Some(at) = tap_position(shape, pixel, delta.index) else { continue };
                let at = at.wrapping_mul(shape.input[3]).wrapping_add(channel);
                if let Some(values) = &mut grads.sparse {
                    *values.get_mut(delta.at)? += dz * self.layer.dequantized(*self.layer.input.get(at)?);
                }
                if let Some(dx) = dx {
                    *dx.get_mut(at)? += dz * delta.value;
                }
            }
        }
        Some(())
    }

    /// Gradients of the input through the weight and its dense delta, and of the weight.
    #[inline(always)]
    fn taps(&self, work: &mut Work<'_>, pixel: Pixel) -> Option<()> {
        let Work { grads, dx, dz, scaled, x } = work;
        let Layer { shape, input, weight, .. } = &self.layer;
        let channels = shape.input[3];
        for (channel, (scaled, dz)) in scaled.iter_mut().zip(dz.iter()).enumerate() {
            *scaled = dz * self.layer.weight_scale(channel);
        }
        for (tap, weight) in super::rows::rows(weight, channels).enumerate() {
            let Some(at) = tap_position(shape, pixel, tap) else { continue };
            if let Some(dx) = &mut *dx {
                let dx = row_mut(dx, at, channels)?.iter_mut();
                dx.zip(scaled.iter()).zip(weight).for_each(|((dx, dz), w)| *dx += dz * (*w).into());
            }
            if let (Some(dx), Some(delta)) = (&mut *dx, self.terms.dense) {
                let (dx, delta) = (row_mut(dx, at, channels)?.iter_mut(), row(delta, tap, channels)?);
                dx.zip(dz.iter()).zip(delta).for_each(|((dx, dz), delta)| *dx += dz * delta);
            }
            if let Some(dense) = &mut grads.dense {
                self.layer.dequantize(row(input, at, channels)?, x);
                let dense = row_mut(dense, tap, channels)?.iter_mut();
                dense.zip(dz.iter()).zip(x.iter()).for_each(|((dense, dz), x)| *dense += dz * x);
            }
        }
        Some(())
    }
}

/// The input pixel under tap `tap`, counted along the rows of the window, or `None` in the padding.
#[inline(always)]
fn tap_position(shape: &ConvShape, pixel: Pixel, tap: usize) -> Option<usize> {
    let ky = tap.checked_div(shape.kernel[1])?;
    let kx = tap.wrapping_sub(ky.wrapping_mul(shape.kernel[1]));
    shape.tap(pixel, ky, kx)
}

/// Rows of channels in the workspace.
const ROWS: usize = 3;
