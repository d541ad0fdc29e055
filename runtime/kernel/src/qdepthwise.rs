//! int8 depthwise convolution: one filter per channel, weights `[kh, kw, C]`.
//!
//! Takes deltas, affine and patched terms; low-rank deltas of a depthwise
//! weight are materialized as a sparse overlay when the adapter is written.

use ingraft_tensor::DType;

use crate::attrs::QConvAttrs;
use crate::requantize::{passes, set_bit, to_code};
use crate::terms::{SiteTerms, SparseValues};
use crate::window::{ConvShape, Pixel, row};
use crate::{Call, Kernel, KernelError, OpCode, Step};

/// int8 output.
pub const KERNEL: Kernel =
    Kernel::new("qdepthwise_qs8_qc8w_qs8__scalar", OpCode::QDepthwise, Some(DType::I8), Some(DType::I8), run)
        .checked(check)
        .with_workspace(workspace);

/// The operands of an int8 depthwise convolution.
///
/// # Shapes
/// `input` `[N, H, W, C]`, `weight` `[kh, kw, C]`, `bias` and `multiplier` `[C]`.
#[derive(Clone, Copy, Debug)]
pub struct QDepthwise<'a> {
    /// Attributes; `groups` is C.
    pub attrs: &'a QConvAttrs,
    /// Extents.
    pub shape: ConvShape,
    /// Activation codes.
    pub input: &'a [i8],
    /// Weight codes.
    pub weight: &'a [i8],
    /// Bias with the zero-point term folded in.
    pub bias: &'a [i32],
    /// f32 multiplier per channel.
    pub multiplier: &'a [f32],
    /// Active terms.
    pub terms: SiteTerms<'a>,
}

impl<'a> QDepthwise<'a> {
    /// The operands of `call`, checked to agree.
    ///
    /// # Errors
    /// [`KernelError::Operands`]; [`KernelError::Terms`] for a two-factor term.
    pub fn new(call: &Call<'a, '_>) -> Result<Self, KernelError> {
        let error = KernelError::Operands(call.op);
        let attrs: &QConvAttrs = call.attrs()?;
        let output = call.outputs.first().ok_or(error)?.shape();
        let shape = depthwise_shape(attrs, call.input(0)?.shape(), output).ok_or(error)?;
        let (weight, bias) = match call.terms.patched {
            Some(patched) => (patched.weight, patched.bias),
            None => (call.slice(1)?, call.slice(2)?),
        };
        if call.terms.two_factor.is_some() {
            return Err(KernelError::Terms(call.op));
        }
        let it = Self {
            attrs,
            shape,
            input: call.slice(0)?,
            weight,
            bias,
            multiplier: call.slice(3)?,
            terms: call.terms,
        };
        let out = shape.output[3];
        let fits = weight.len() == shape.row().wrapping_mul(out)
            && bias.len() == out
            && it.multiplier.len() == out
            && call.terms.dense.is_none_or(|delta| delta.len() == weight.len());
        fits.then_some(it).ok_or(error)
    }

    /// Accumulators of all channels at `pixel`.
    #[inline(always)]
    fn accumulate(&self, pixel: Pixel, acc: &mut [i32]) -> Option<()> {
        let channels = self.shape.input[3];
        acc.iter_mut().zip(self.bias).for_each(|(a, b)| *a = *b);
        for ky in 0..self.shape.kernel[0] {
            for kx in 0..self.shape.kernel[1] {
                let tap = ky.wrapping_mul(self.shape.kernel[1]).wrapping_add(kx);
                let weight = row(self.weight, tap, channels)?;
                match self.shape.tap(pixel, ky, kx) {
                    Some(at) => {
                        let x = row(self.input, at, channels)?;
                        for ((a, w), x) in acc.iter_mut().zip(weight).zip(x) {
                            *a = a.wrapping_add(i32::from(*w).wrapping_mul(i32::from(*x)));
                        }
                    }
                    None => {
                        for (a, w) in acc.iter_mut().zip(weight) {
                            *a = a.wrapping_add(i32::from(*w).wrapping_mul(self.attrs.in_zero_point));
                        }
                    }
                }
            }
        }
        Some(())
    }

    /// The sparse term of `channel` at `pixel`: integer and real part of `Σ Δ·(x − zx)`.
    #[inline(always)]
    fn sparse(&self, pixel: Pixel, channel: usize) -> Option<(i32, f32)> {
        let sparse = self.terms.sparse?;
        let span = sparse.span(channel)?;
        let (channels, width) = (self.shape.input[3], self.shape.kernel[1]);
        let at = |i: &u16| {
            let ky = (*i as usize).checked_div(width).unwrap_or(0);
            let kx = (*i as usize).wrapping_sub(ky.wrapping_mul(width));
            let tap = self.shape.tap(pixel, ky, kx)?;
            let x = *self.input.get(tap.wrapping_mul(channels).wrapping_add(channel))?;
            Some(i32::from(x).wrapping_sub(self.attrs.in_zero_point))
        };
        let indices = sparse.indices.get(span.clone())?;
        Some(match sparse.values {
            SparseValues::I16(values) => {
                let pairs = indices.iter().zip(values.get(span)?);
                let sum = pairs
                    .fold(0i32, |s, (i, v)| s.wrapping_add(at(i).unwrap_or(0).wrapping_mul(i32::from(*v))));
                (sum, 0.0)
            }
            SparseValues::F32(values) => {
                let pairs = indices.iter().zip(values.get(span)?);
                (0, pairs.fold(0.0, |s, (i, v)| s + at(i).unwrap_or(0) as f32 * v))
            }
        })
    }

    /// `Σ Δ·(x − zx)` of the dense delta for `channel` at `pixel`.
    #[inline(always)]
    fn dense(&self, pixel: Pixel, channel: usize) -> Option<f32> {
        let delta = self.terms.dense?;
        let (channels, mut sum, mut at) = (self.shape.input[3], 0.0f32, channel);
        for ky in 0..self.shape.kernel[0] {
            for kx in 0..self.shape.kernel[1] {
                if let Some(tap) = self.shape.tap(pixel, ky, kx) {
                    let x = *self.input.get(tap.wrapping_mul(channels).wrapping_add(channel))?;
                    sum += delta.get(at)? * i32::from(x).wrapping_sub(self.attrs.in_zero_point) as f32;
                }
                at = at.wrapping_add(channels);
            }
        }
        Some(sum)
    }

    /// The pre-activation value of `channel` in output steps; the same order of
    /// operations as [`crate::qconv`].
    #[inline(always)]
    fn pre_activation(&self, pixel: Pixel, channel: usize, acc: i32, inv_out_scale: f32) -> f32 {
        let multiplier = self.multiplier.get(channel).copied().unwrap_or(0.0);
        let (integer, real) = self.sparse(pixel, channel).unwrap_or((0, 0.0));
        let mut v = acc.wrapping_add(integer) as f32 * multiplier;
        if self.terms.has_real_delta() {
            let real = real + self.dense(pixel, channel).unwrap_or(0.0);
            v += real * self.attrs.in_scale * inv_out_scale;
        }
        if let Some(affine) = self.terms.affine {
            let scale = affine.scale.get(channel).copied().unwrap_or(1.0);
            let shift = affine.shift.get(channel).copied().unwrap_or(0.0);
            v = v * scale + shift * inv_out_scale;
        }
        v
    }
}

/// The extents of a depthwise convolution, or `None` when `groups` is not the channel count.
pub fn depthwise_shape(
    attrs: &QConvAttrs,
    input: ingraft_tensor::Shape,
    output: ingraft_tensor::Shape,
) -> Option<ConvShape> {
    let shape = ConvShape::new(&attrs.window, attrs.groups as usize, input, output)?;
    (shape.in_group == 1 && shape.out_group == 1).then_some(shape)
}

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    let attrs: &QConvAttrs = step.attrs()?;
    depthwise_shape(attrs, step.input(0)?.shape, step.output(0)?.shape)
        .ok_or(KernelError::Operands(step.op))?;
    crate::qconv::check(step)
}

fn workspace(step: &Step<'_>) -> usize {
    step.input(0).map_or(0, |x| x.shape.dims().last().map_or(0, |c| (*c as usize).wrapping_mul(4)))
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let conv = QDepthwise::new(call)?;
    let inv = 1.0 / conv.attrs.out_scale;
    let error = call.operands();
    let scratch = core::mem::take(&mut call.workspace);
    let channels = conv.shape.output[3];
    let acc: &mut [i32] = ingraft_tensor::bytes::cast_mut(scratch).ok_or(error)?;
    let acc = acc.get_mut(..channels).ok_or(error)?;
    let (out, mut mask) = call.out_and_mask::<i8>()?;
    let QConvAttrs { lo, hi, out_zero_point, .. } = *conv.attrs;
    conv.shape.for_each_pixel(|index, pixel| {
        conv.accumulate(pixel, acc).ok_or(error)?;
        let first = index.wrapping_mul(channels);
        let pixels = out.get_mut(first..).ok_or(error)?.iter_mut();
        for (channel, (o, acc)) in pixels.zip(acc.iter()).enumerate() {
            let v = conv.pre_activation(pixel, channel, *acc, inv);
            *o = to_code(v, lo, hi, out_zero_point);
            if let Some(mask) = mask.as_deref_mut() {
                set_bit(mask, first.wrapping_add(channel), passes(v, lo, hi));
            }
        }
        Ok(())
    })
}
