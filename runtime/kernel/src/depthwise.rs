//! f32 depthwise convolution: one filter per channel, weights `[kh, kw, C]`.

use ingraft_tensor::DType;
use ingraft_tensor::bytes::cast_mut;

use crate::attrs::ConvAttrs;
use crate::conv::check_float_terms;
use crate::requantize::{clamp, passes, set_bit};
use crate::terms::{SiteTerms, Sparse, SparseValues};
use crate::window::{ConvShape, Pixel, row};
use crate::{Call, Kernel, KernelError, OpCode, Step};

/// f32 throughout.
pub const KERNEL: Kernel =
    Kernel::new("depthwise_f32_f32_f32__scalar", OpCode::Depthwise, Some(DType::F32), Some(DType::F32), run)
        .checked(check)
        .with_workspace(workspace);

/// The operands of an f32 depthwise convolution.
struct Depthwise<'a> {
    shape: ConvShape,
    input: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    terms: SiteTerms<'a>,
}

impl Depthwise<'_> {
    #[inline(always)]
    fn accumulate(&self, pixel: Pixel, acc: &mut [f32]) -> Option<()> {
        let channels = self.shape.input[3];
        acc.iter_mut().zip(self.bias).for_each(|(a, b)| *a = *b);
        for ky in 0..self.shape.kernel[0] {
            for kx in 0..self.shape.kernel[1] {
                let Some(at) = self.shape.tap(pixel, ky, kx) else { continue };
                let tap = ky.wrapping_mul(self.shape.kernel[1]).wrapping_add(kx);
                let x = row(self.input, at, channels)?;
                for weight in [Some(self.weight), self.terms.dense].into_iter().flatten() {
                    let weight = row(weight, tap, channels)?;
                    acc.iter_mut().zip(weight).zip(x).for_each(|((a, w), x)| *a += w * x);
                }
            }
        }
        Some(())
    }

    #[inline(always)]
    fn with_terms(&self, pixel: Pixel, channel: usize, mut y: f32) -> Option<f32> {
        if let Some(sparse @ Sparse { values: SparseValues::F32(values), .. }) = self.terms.sparse {
            let span = sparse.span(channel)?;
            let width = self.shape.kernel[1];
            for (i, v) in sparse.indices.get(span.clone())?.iter().zip(values.get(span)?) {
                let ky = (*i as usize).checked_div(width)?;
                let kx = (*i as usize).wrapping_sub(ky.wrapping_mul(width));
                if let Some(at) = self.shape.tap(pixel, ky, kx) {
                    y += self.input.get(at.wrapping_mul(self.shape.input[3]).wrapping_add(channel))? * v;
                }
            }
        }
        if let Some(affine) = self.terms.affine {
            y = y * affine.scale.get(channel)? + affine.shift.get(channel)?;
        }
        Some(y)
    }
}

fn step_shape(step: &Step<'_>) -> Option<ConvShape> {
    let attrs: &ConvAttrs = step.attrs().ok()?;
    let (input, output) = (step.input(0).ok()?.shape, step.output(0).ok()?.shape);
    let shape = ConvShape::new(&attrs.window, attrs.groups as usize, input, output)?;
    (shape.in_group == 1 && shape.out_group == 1).then_some(shape)
}

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    let error = KernelError::Operands(step.op);
    let shape = step_shape(step).ok_or(error)?;
    let out = shape.output[3];
    let fits = step.input_dtype(1) == Some(DType::F32)
        && step.input_dtype(2) == Some(DType::F32)
        && step.input(1)?.shape.elements() == shape.row().wrapping_mul(out)
        && step.input(2)?.shape.elements() == out;
    fits.then_some(()).ok_or(error)
}

fn workspace(step: &Step<'_>) -> usize {
    step_shape(step).map_or(0, |s| s.output[3].wrapping_mul(4))
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let error = call.operands();
    let attrs: &ConvAttrs = call.attrs()?;
    let output = call.outputs.first().ok_or(error)?.shape();
    let shape =
        ConvShape::new(&attrs.window, attrs.groups as usize, call.input(0)?.shape(), output).ok_or(error)?;
    check_float_terms(call.op, &call.terms)?;
    let weights = call.input(1)?.shape().elements();
    if call.terms.two_factor.is_some() || call.terms.dense.is_some_and(|delta| delta.len() != weights) {
        return Err(KernelError::Terms(call.op));
    }
    let conv = Depthwise {
        shape,
        input: call.slice(0)?,
        weight: call.slice(1)?,
        bias: call.slice(2)?,
        terms: call.terms,
    };
    let channels = shape.output[3];
    let scratch = core::mem::take(&mut call.workspace);
    let acc: &mut [f32] = cast_mut(scratch).ok_or(error)?;
    let acc = acc.get_mut(..channels).ok_or(error)?;
    let (out, mut mask) = call.out_and_mask::<f32>()?;
    shape.for_each_pixel(|index, pixel| {
        conv.accumulate(pixel, acc).ok_or(error)?;
        let first = index.wrapping_mul(channels);
        let pixels = out.get_mut(first..).ok_or(error)?.iter_mut();
        for (channel, (o, acc)) in pixels.zip(acc.iter()).enumerate() {
            let y = conv.with_terms(pixel, channel, *acc).ok_or(error)?;
            *o = clamp(y, attrs.lo, attrs.hi);
            if let Some(mask) = mask.as_deref_mut() {
                set_bit(mask, first.wrapping_add(channel), passes(y, attrs.lo, attrs.hi));
            }
        }
        Ok(())
    })
}
