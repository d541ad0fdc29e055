//! f32 depthwise convolution, vectorized over channels.
//!
//! # Numerics
//! Taps are added in the reference's order without contraction, so results equal it to the bit. Deltas are added to the
//! weights before, where the reference adds their products: within a few units of the last place of `Σ|a·b|`.

use ingraft_kernel::attrs::ConvAttrs;
use ingraft_kernel::conv::check_float_terms;
use ingraft_kernel::depthwise::KERNEL as REFERENCE;
use ingraft_kernel::terms::{SiteTerms, Sparse, SparseValues};
use ingraft_kernel::window::{ConvShape, Pixel, row};
use ingraft_kernel::{Call, Kernel, KernelError, OpCode, Step};
use ingraft_tensor::DType;
use ingraft_vector::memory::take;

use crate::avx2::requantize;
use crate::avx2::tile::after_operands;

/// f32 throughout.
pub(crate) const KERNEL: Kernel =
    Kernel::new("depthwise_f32_f32_f32__avx2", OpCode::Depthwise, Some(DType::F32), Some(DType::F32), run)
        .checked(REFERENCE.check)
        .with_workspace(workspace);

/// The values of a pixel, and the weights with what deltas add to them.
pub(crate) fn workspace(step: &Step<'_>) -> usize {
    let weights = step.input(1).map_or(0, |weight| weight.shape.elements() * size_of::<f32>());
    (REFERENCE.workspace)(step).next_multiple_of(16) + weights
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through `target`, whose argument proves AVX2.
    unsafe { compute(call) }
}

#[target_feature(enable = "avx2")]
fn compute(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (mut conv, error) = (Depthwise::new(call)?, after_operands(call));
    let ConvAttrs { lo, hi, .. } = *conv.attrs;
    let channels = conv.shape.output[3];
    let mut memory = core::mem::take(&mut call.workspace);
    let y: &mut [f32] = take(&mut memory, channels).ok_or(error)?;
    conv.change_weights(memory).ok_or(error)?;
    let (out, mut mask) = call.out_and_mask::<f32>()?;
    conv.shape.for_each_pixel(|index, pixel| {
        conv.accumulate(pixel, y).ok_or(error)?;
        conv.scale(y).ok_or(error)?;
        let at = index * channels;
        let out = out.get_mut(at..).and_then(|out| out.get_mut(..channels)).ok_or(error)?;
        requantize::clamped(y, lo, hi, out);
        if let Some(mask) = mask.as_deref_mut() {
            requantize::mask(y, lo, hi, mask, at);
        }
        Ok(())
    })
}

/// The operands: `input` `[N, H, W, C]`, `weight` `[kh, kw, C]`, `bias` `[C]`.
struct Depthwise<'a> {
    attrs: &'a ConvAttrs,
    shape: ConvShape,
    input: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    terms: SiteTerms<'a>,
}

impl<'a> Depthwise<'a> {
    fn new(call: &Call<'a, '_>) -> Result<Self, KernelError> {
        let error = call.operands();
        let attrs: &ConvAttrs = call.attrs()?;
        let output = call.outputs.first().ok_or(error)?.shape();
        let shape = ConvShape::new(&attrs.window, attrs.groups as usize, call.input(0)?.shape(), output)
            .filter(|shape| shape.in_group == 1 && shape.out_group == 1)
            .ok_or(error)?;
        check_float_terms(call.op, &call.terms)?;
        if call.terms.two_factor.is_some() {
            return Err(KernelError::Terms(call.op));
        }
        let (input, weight, bias): (_, &[f32], &[f32]) = (call.slice(0)?, call.slice(1)?, call.slice(2)?);
        let out = shape.output[3];
        let terms = call.terms;
        let fits = weight.len() == shape.row() * out
            && bias.len() == out
            && terms.dense.is_none_or(|delta| delta.len() == weight.len());
        fits.then_some(Self { attrs, shape, input, weight, bias, terms }).ok_or(error)
    }

    /// Puts weights with the deltas added into the place of the base's, where there are deltas.
    fn change_weights(&mut self, mut memory: &'a mut [u8]) -> Option<()> {
        let SiteTerms { dense, sparse, .. } = self.terms;
        if dense.is_none() && sparse.is_none() {
            return Some(());
        }
        let changed: &mut [f32] = take(&mut memory, self.weight.len())?;
        changed.copy_from_slice(self.weight);
        if let Some(delta) = dense {
            changed.iter_mut().zip(delta).for_each(|(weight, delta)| *weight += delta);
        }
        if let Some(Sparse { values: SparseValues::F32(values), indices, .. }) = sparse {
            let channels = self.shape.output[3];
            for channel in 0..channels {
                let span = sparse?.span(channel)?;
                for (index, value) in indices.get(span.clone())?.iter().zip(values.get(span)?) {
                    // Past the window the reference reads nothing.
                    let weight = changed.get_mut(usize::from(*index) * channels + channel);
                    weight.into_iter().for_each(|weight| *weight += value);
                }
            }
        }
        self.weight = changed;
        Some(())
    }

    /// The bias and the taps of every channel at `pixel`.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn accumulate(&self, pixel: Pixel, y: &mut [f32]) -> Option<()> {
        let channels = y.len();
        y.copy_from_slice(self.bias.get(..channels)?);
        for ky in 0..self.shape.kernel[0] {
            for kx in 0..self.shape.kernel[1] {
                let Some(at) = self.shape.tap(pixel, ky, kx) else { continue };
                let x = row(self.input, at, channels)?;
                let weight = row(self.weight, ky * self.shape.kernel[1] + kx, channels)?;
                y.iter_mut().zip(weight).zip(x).for_each(|((y, w), x)| *y += w * x);
            }
        }
        Some(())
    }

    /// The affine term of every channel.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn scale(&self, y: &mut [f32]) -> Option<()> {
        let channels = y.len();
        if let Some(affine) = self.terms.affine {
            let (scale, shift) = (affine.scale.get(..channels)?, affine.shift.get(..channels)?);
            y.iter_mut().zip(scale).zip(shift).for_each(|((y, scale), shift)| *y = *y * scale + shift);
        }
        Some(())
    }
}

/// The input position under tap `index`, counted along rows of the window; `None` in the padding.
#[inline(always)]
pub(crate) fn tap(shape: &ConvShape, pixel: Pixel, index: u16) -> Option<usize> {
    let (index, width) = (usize::from(index), shape.kernel[1]);
    let ky = index.checked_div(width)?;
    shape.tap(pixel, ky, index - ky * width)
}
