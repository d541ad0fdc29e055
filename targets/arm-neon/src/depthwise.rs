//! f32 depthwise convolution, vectorized over channels.
//!
//! Strips of neighboring pixels (`strip`) compute the windows that have code, in f32 here, in f16 in `half`. Others, and steps
//! with terms or a mask, are computed pixel by pixel.
//!
//! # Numerics
//! Taps are added in the reference's order by fused multiply-adds, terms without.
//!
//! # Limits
//! Pixel by pixel, sums of 32 channels stay in registers over all taps: a load of weights and one of activations for every
//! `FMLA`, which a core that loads two vectors a cycle issues one of.

pub(crate) mod half;
mod strip;

use core::arch::aarch64::*;

use ingraft_kernel::attrs::ConvAttrs;
use ingraft_kernel::conv::check_float_terms;
use ingraft_kernel::depthwise::KERNEL as REFERENCE;
use ingraft_kernel::terms::{SiteTerms, SparseValues};
use ingraft_kernel::window::{ConvShape, Pixel, row};
use ingraft_kernel::{Call, Kernel, KernelError, OpCode};
use ingraft_tensor::DType;
use ingraft_tensor::bytes::cast_mut;

use crate::lanes::store_f32;
use crate::requantize;
use crate::tile::{after_operands, tap};
use strip::{Layer, Strip, Taps, has_code};

/// f32 throughout.
pub(crate) const KERNEL: Kernel =
    Kernel::new("depthwise_f32_f32_f32__neon", OpCode::Depthwise, Some(DType::F32), Some(DType::F32), run)
        .checked(REFERENCE.check)
        .with_workspace(REFERENCE.workspace);

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through functions whose arguments prove NEON.
    unsafe { compute(call) }
}

#[target_feature(enable = "neon")]
fn compute(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (conv, error) = (Depthwise::new(call)?, after_operands(call));
    let ConvAttrs { lo, hi, .. } = *conv.attrs;
    if conv.is_plain(call) && has_code(&conv.shape, Floats::BLOCK) {
        let Depthwise { shape, input, weight, bias, .. } = &conv;
        let layer = Layer { shape, input, weight, taps: Floats { bias }, bounds: [lo, hi] };
        // SAFETY: this function runs only with NEON, and there is a bias for every channel.
        return unsafe { layer.compute(call.slice_mut(0)?) }.ok_or(error);
    }
    let channels = conv.shape.output[3];
    let y: &mut [f32] = cast_mut(core::mem::take(&mut call.workspace)).ok_or(error)?;
    let y = y.get_mut(..channels).ok_or(error)?;
    let (out, mut mask) = call.out_and_mask::<f32>()?;
    conv.shape.for_each_pixel(|index, pixel| {
        conv.accumulate(pixel, y).ok_or(error)?;
        conv.add_terms(pixel, y).ok_or(error)?;
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

    /// Whether nothing but outputs are wanted, and of the base alone.
    fn is_plain(&self, call: &Call<'_, '_>) -> bool {
        self.terms.is_none() && call.outputs.len() == 1
    }

    /// The bias and the taps of every channel at `pixel`.
    #[inline]
    #[target_feature(enable = "neon")]
    fn accumulate(&self, pixel: Pixel, y: &mut [f32]) -> Option<()> {
        y.copy_from_slice(self.bias.get(..y.len())?);
        let mut taps = [Tap::default(); MAX_TAPS];
        let mut count = 0;
        for index in 0..self.shape.row() {
            let Some(at) = tap(&self.shape, pixel, u16::try_from(index).ok()?) else { continue };
            let x = row(self.input, at, y.len())?;
            for weight in [Some(self.weight), self.terms.dense].into_iter().flatten() {
                *taps.get_mut(count)? = Tap { x, w: row(weight, index, y.len())? };
                count += 1;
                if count == MAX_TAPS {
                    add(y, &taps)?;
                    count = 0;
                }
            }
        }
        add(y, taps.get(..count)?)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn add_terms(&self, pixel: Pixel, y: &mut [f32]) -> Option<()> {
        let channels = y.len();
        if let Some(sparse) = self.terms.sparse
            && let SparseValues::F32(values) = sparse.values
        {
            for (channel, (y, span)) in y.iter_mut().zip(sparse.indptr.windows(2)).enumerate() {
                let &[start, end] = span else { return None };
                let span = start as usize..end as usize;
                for (i, v) in sparse.indices.get(span.clone())?.iter().zip(values.get(span)?) {
                    if let Some(at) = tap(&self.shape, pixel, *i) {
                        *y += self.input.get(at * channels + channel)? * v;
                    }
                }
            }
        }
        if let Some(affine) = self.terms.affine {
            let (scale, shift) = (affine.scale.get(..channels)?, affine.shift.get(..channels)?);
            y.iter_mut().zip(scale).zip(shift).for_each(|((y, scale), shift)| *y = *y * scale + shift);
        }
        Some(())
    }
}

/// Products in f32.
struct Floats<'a> {
    bias: &'a [f32],
}

impl Taps for Floats<'_> {
    type Element = f32;
    type Vector = float32x4_t;
    type Channels = [float32x4_t; 2];
    type Reals = [float32x4_t; 2];
    const BLOCK: usize = 8;

    #[inline(always)]
    unsafe fn channels(&self, first: usize) -> [float32x4_t; 2] {
        // SAFETY: the caller's contract.
        unsafe { Self::load(self.bias.as_ptr().wrapping_add(first)) }
    }

    #[inline(always)]
    unsafe fn start(bias: &[float32x4_t; 2]) -> [float32x4_t; 2] {
        *bias
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> [float32x4_t; 2] {
        // SAFETY: the caller's contract.
        unsafe { [vld1q_f32(from), vld1q_f32(from.add(4))] }
    }

    #[inline(always)]
    unsafe fn add(sum: float32x4_t, w: float32x4_t, x: float32x4_t) -> float32x4_t {
        // SAFETY: the caller's contract.
        unsafe { vfmaq_f32(sum, w, x) }
    }

    #[inline(always)]
    unsafe fn finish(_: &[float32x4_t; 2], sums: [float32x4_t; 2]) -> [float32x4_t; 2] {
        sums
    }

    #[inline(always)]
    unsafe fn enter<const WIDTH: usize, const STRIDE: usize, const MASKED: bool>(strip: &Strip<'_, Self>) {
        // SAFETY: the caller's contract.
        unsafe { floats::<WIDTH, STRIDE, MASKED>(strip) }
    }
}

/// # Safety
/// Those of [`Strip::compute`].
#[inline(never)]
#[target_feature(enable = "neon")]
unsafe fn floats<const WIDTH: usize, const STRIDE: usize, const MASKED: bool>(strip: &Strip<'_, Floats<'_>>) {
    // SAFETY: the caller's contract.
    unsafe { strip.compute::<WIDTH, STRIDE, MASKED>() }
}

/// Taps gathered before they are added up.
const MAX_TAPS: usize = 25;

/// What one tap of the window multiplies, every channel of it.
#[derive(Clone, Copy, Default)]
struct Tap<'a> {
    x: &'a [f32],
    w: &'a [f32],
}

/// Adds the products of `taps` to `y`, as many channels.
#[inline]
#[target_feature(enable = "neon")]
fn add(y: &mut [f32], taps: &[Tap<'_>]) -> Option<()> {
    let whole = taps.iter().all(|tap| tap.x.len() == y.len() && tap.w.len() == y.len());
    whole.then_some(())?;
    let (blocks, rest) = y.as_chunks_mut::<32>();
    for (i, y) in blocks.iter_mut().enumerate() {
        let (quads, _) = y.as_chunks_mut::<4>();
        // SAFETY: the lengths were compared; a whole block of channels from `32·i` on is there.
        unsafe { products::<8>(quads, taps, i * 32) };
    }
    let at = blocks.len() * 32;
    let (quads, rest) = rest.as_chunks_mut::<4>();
    for (i, y) in quads.iter_mut().enumerate() {
        // SAFETY: as above, for four channels.
        unsafe { products::<1>(core::slice::from_mut(y), taps, at + 4 * i) };
    }
    let at = at + quads.len() * 4;
    for Tap { x, w } in taps {
        let pairs = x.get(at..)?.iter().zip(w.get(at..)?);
        rest.iter_mut().zip(pairs).for_each(|(y, (x, w))| *y += w * x);
    }
    Some(())
}

/// Adds the products of the `4·N` channels from `at` on.
///
/// # Safety
/// Every tap has these channels.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn products<const N: usize>(y: &mut [[f32; 4]], taps: &[Tap<'_>], at: usize) {
    let mut sums = [vdupq_n_f32(0.0); N];
    for (sum, y) in sums.iter_mut().zip(y.iter()) {
        // SAFETY: the reference covers the 16 bytes read.
        *sum = unsafe { vld1q_f32(y.as_ptr()) };
    }
    for tap in taps {
        // SAFETY: the caller's promise.
        let (x, w) = unsafe { (tap.x.as_ptr().add(at), tap.w.as_ptr().add(at)) };
        for (n, sum) in sums.iter_mut().enumerate() {
            // SAFETY: as above.
            *sum = unsafe { vfmaq_f32(*sum, vld1q_f32(w.add(4 * n)), vld1q_f32(x.add(4 * n))) };
        }
    }
    y.iter_mut().zip(sums).for_each(|(y, sum)| store_f32(y, sum));
}
