//! int8 depthwise convolution, vectorized over channels.
//!
//! # Numerics
//! Two taps at a time are interleaved, sign-extended to int16 and multiplied
//! and summed to int32 (`vpmaddwd`), which is exact; accumulators wrap.

use core::arch::x86_64::*;

use ingraft_kernel::attrs::QConvAttrs;
use ingraft_kernel::qdepthwise::{KERNEL as REFERENCE, QDepthwise};
use ingraft_kernel::terms::{Sparse, SparseValues};
use ingraft_kernel::window::{Pixel, row};
use ingraft_kernel::{Call, Kernel, KernelError, OpCode, Step};
use ingraft_tensor::DType;

use crate::avx2::depthwise::tap;
use crate::avx2::lanes::{load_i8, load_i32, store_i32};
use crate::avx2::requantize;
use crate::avx2::tile::after_operands;
use ingraft_vector::memory::take;

/// int8 output.
pub(crate) const KERNEL: Kernel =
    Kernel::new("qdepthwise_qs8_qc8w_qs8__avx2", OpCode::QDepthwise, Some(DType::I8), Some(DType::I8), run)
        .checked(check)
        .with_workspace(workspace);

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    let attrs: &QConvAttrs = step.attrs()?;
    (REFERENCE.check)(step)?;
    if requantize::rounds(attrs.lo, attrs.hi) { Ok(()) } else { Err(KernelError::Operands(step.op)) }
}

pub(crate) fn workspace(step: &Step<'_>) -> usize {
    let channels = step.input(0).ok().and_then(|x| x.shape.dims().last().copied()).unwrap_or(0);
    let weights = step.input(1).map_or(0, |weight| weight.shape.elements());
    channels as usize * CHANNEL_BYTES + weights * size_of::<f32>()
}

/// An accumulator, a pre-activation value, the sum of a sparse delta, a padding code and a zero weight.
const CHANNEL_BYTES: usize = 4 + 4 + 4 + 1 + 1;

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through `target`, whose argument proves AVX2.
    unsafe { compute(call) }
}

#[target_feature(enable = "avx2")]
fn compute(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (conv, error) = (QDepthwise::new(call)?, after_operands(call));
    let channels = conv.shape.output[3];
    let mut scratch = Scratch::new(core::mem::take(&mut call.workspace), &conv).ok_or(error)?;
    let (out, mut mask) = call.out_and_mask::<i8>()?;
    let QConvAttrs { lo, hi, out_zero_point, .. } = *conv.attrs;
    conv.shape.for_each_pixel(|index, pixel| {
        accumulate(&conv, pixel, &mut scratch).ok_or(error)?;
        pre_activation(&conv, pixel, &mut scratch).ok_or(error)?;
        let at = index * channels;
        let out = out.get_mut(at..).and_then(|out| out.get_mut(..channels)).ok_or(error)?;
        requantize::codes(scratch.v, lo, hi, out_zero_point, out);
        if let Some(mask) = mask.as_deref_mut() {
            requantize::mask(scratch.v, lo, hi, mask, at);
        }
        Ok(())
    })
}

/// One value per channel each.
struct Scratch<'m> {
    acc: &'m mut [i32],
    v: &'m mut [f32],
    /// What a sparse delta of real values adds, and the delta with all that is not in it, `[tap, channel]`.
    sums: &'m mut [f32],
    delta: &'m mut [f32],
    /// A row of padding.
    padding: &'m [i8],
    /// The weights of a tap that completes the last pair.
    nothing: &'m [i8],
}

impl<'m> Scratch<'m> {
    fn new(mut memory: &'m mut [u8], conv: &QDepthwise<'_>) -> Option<Self> {
        let channels = conv.shape.output[3];
        let (acc, v) = (take(&mut memory, channels)?, take(&mut memory, channels)?);
        let taps = if conv.terms.sparse.is_some() { conv.weight.len() } else { 0 };
        let (sums, delta) = (take(&mut memory, channels)?, take(&mut memory, taps)?);
        spread(conv, delta)?;
        let (padding, nothing): (&mut [i8], &mut [i8]) =
            (take(&mut memory, channels)?, take(&mut memory, channels)?);
        padding.fill(conv.attrs.in_zero_point as i8);
        nothing.fill(0);
        Some(Self { acc, v, sums, delta, padding, nothing })
    }
}

/// The accumulators of all channels at `pixel`, with bias.
#[inline]
#[target_feature(enable = "avx2")]
fn accumulate(conv: &QDepthwise<'_>, pixel: Pixel, scratch: &mut Scratch<'_>) -> Option<()> {
    let channels = scratch.acc.len();
    scratch.acc.copy_from_slice(conv.bias);
    let width = conv.shape.kernel[1];
    let taps = conv.shape.kernel[0] * width;
    let (padding, nothing) = (scratch.padding, scratch.nothing);
    let operands = |tap: usize| {
        let ky = tap.checked_div(width)?;
        let x = match conv.shape.tap(pixel, ky, tap - ky * width) {
            Some(at) => row(conv.input, at, channels)?,
            None => padding,
        };
        Some((x, row(conv.weight, tap, channels)?))
    };
    for tap in (0..taps).step_by(2) {
        let next = if tap + 1 < taps { operands(tap + 1)? } else { (padding, nothing) };
        add_pair(scratch.acc, operands(tap)?, next);
    }
    Some(())
}

/// `acc += x·w` of two taps, each `(x, w)`.
#[inline]
#[target_feature(enable = "avx2")]
fn add_pair(acc: &mut [i32], (x0, w0): (&[i8], &[i8]), (x1, w1): (&[i8], &[i8])) {
    let (acc, acc_rest) = acc.as_chunks_mut::<16>();
    let [x0, x1, w0, w1] = [x0, x1, w0, w1].map(|values| values.as_chunks::<16>());
    for ((((acc, x0), x1), w0), w1) in acc.iter_mut().zip(x0.0).zip(x1.0).zip(w0.0).zip(w1.0) {
        let (x0, x1, w0, w1) = (load_i8(x0), load_i8(x1), load_i8(w0), load_i8(w1));
        let low = multiply(_mm_unpacklo_epi8(x0, x1), _mm_unpacklo_epi8(w0, w1));
        let high = multiply(_mm_unpackhi_epi8(x0, x1), _mm_unpackhi_epi8(w0, w1));
        for (acc, sum) in acc.as_chunks_mut::<8>().0.iter_mut().zip([low, high]) {
            store_i32(acc, _mm256_add_epi32(load_i32(acc), sum));
        }
    }
    for ((((acc, x0), x1), w0), w1) in acc_rest.iter_mut().zip(x0.1).zip(x1.1).zip(w0.1).zip(w1.1) {
        let sum = i32::from(*x0) * i32::from(*w0) + i32::from(*x1) * i32::from(*w1);
        *acc = acc.wrapping_add(sum);
    }
}

/// Sums of the products of neighboring codes.
#[inline]
#[target_feature(enable = "avx2")]
fn multiply(x: __m128i, w: __m128i) -> __m256i {
    _mm256_madd_epi16(_mm256_cvtepi8_epi16(x), _mm256_cvtepi8_epi16(w))
}

/// Pre-activation values in output steps: the same operations in the same
/// order as in [`ingraft_kernel::qdepthwise`].
#[inline]
#[target_feature(enable = "avx2")]
fn pre_activation(conv: &QDepthwise<'_>, pixel: Pixel, scratch: &mut Scratch<'_>) -> Option<()> {
    let inv = 1.0 / conv.attrs.out_scale;
    add_integer_sparse(conv, pixel, scratch.acc)?;
    for ((v, acc), m) in scratch.v.iter_mut().zip(&*scratch.acc).zip(conv.multiplier) {
        *v = *acc as f32 * m;
    }
    add_real_sparse(conv, pixel, inv, scratch)?;
    add_dense(conv, pixel, inv, scratch.v)?;
    if let Some(affine) = conv.terms.affine {
        let channels = scratch.v.len();
        let (scale, shift) = (affine.scale.get(..channels)?, affine.shift.get(..channels)?);
        for ((v, scale), shift) in scratch.v.iter_mut().zip(scale).zip(shift) {
            *v = *v * scale + shift * inv;
        }
    }
    Some(())
}

#[inline(always)]
fn add_integer_sparse(conv: &QDepthwise<'_>, pixel: Pixel, acc: &mut [i32]) -> Option<()> {
    let Some(sparse) = conv.terms.sparse else { return Some(()) };
    let SparseValues::I16(values) = sparse.values else { return Some(()) };
    for (channel, (acc, span)) in acc.iter_mut().zip(sparse.indptr.windows(2)).enumerate() {
        let &[start, end] = span else { return None };
        let span = start as usize..end as usize;
        for (i, value) in sparse.indices.get(span.clone())?.iter().zip(values.get(span)?) {
            *acc = acc.wrapping_add(centered(conv, pixel, channel, *i).wrapping_mul(i32::from(*value)));
        }
    }
    Some(())
}

/// Adds `Σ Δ·(x − zx)` of a sparse delta: what is not in it adds zeros.
#[inline]
#[target_feature(enable = "avx2")]
fn add_real_sparse(conv: &QDepthwise<'_>, pixel: Pixel, inv: f32, scratch: &mut Scratch<'_>) -> Option<()> {
    let Some(Sparse { values: SparseValues::F32(_), .. }) = conv.terms.sparse else { return Some(()) };
    let channels = conv.shape.output[3];
    scratch.sums.fill(0.0);
    for (tap, delta) in scratch.delta.chunks_exact(channels.max(1)).enumerate() {
        let ky = tap.checked_div(conv.shape.kernel[1])?;
        let Some(at) = conv.shape.tap(pixel, ky, tap - ky * conv.shape.kernel[1]) else { continue };
        for ((sum, delta), x) in scratch.sums.iter_mut().zip(delta).zip(row(conv.input, at, channels)?) {
            *sum += i32::from(*x).wrapping_sub(conv.attrs.in_zero_point) as f32 * delta;
        }
    }
    for (v, sum) in scratch.v.iter_mut().zip(&*scratch.sums) {
        *v += sum * conv.attrs.in_scale * inv;
    }
    Some(())
}

/// Writes a sparse delta of real values between zeros, `[tap, channel]`.
fn spread(conv: &QDepthwise<'_>, delta: &mut [f32]) -> Option<()> {
    let Some(sparse) = conv.terms.sparse else { return Some(()) };
    let SparseValues::F32(values) = sparse.values else { return Some(()) };
    delta.fill(0.0);
    let channels = conv.shape.output[3];
    for channel in 0..channels {
        let span = sparse.span(channel)?;
        for (index, value) in sparse.indices.get(span.clone())?.iter().zip(values.get(span)?) {
            // Past the window the reference reads nothing.
            let entry = delta.get_mut(usize::from(*index) * channels + channel);
            entry.into_iter().for_each(|entry| *entry = *value);
        }
    }
    Some(())
}

/// Adds `Σ Δ·(x − zx)` of the dense delta, tap by tap.
#[inline]
#[target_feature(enable = "avx2")]
fn add_dense(conv: &QDepthwise<'_>, pixel: Pixel, inv: f32, v: &mut [f32]) -> Option<()> {
    let Some(delta) = conv.terms.dense else { return Some(()) };
    let (channels, scale) = (conv.shape.output[3], conv.attrs.in_scale * inv);
    for (tap, delta) in delta.chunks_exact(channels.max(1)).enumerate() {
        let ky = tap.checked_div(conv.shape.kernel[1])?;
        let Some(at) = conv.shape.tap(pixel, ky, tap - ky * conv.shape.kernel[1]) else { continue };
        for ((v, delta), x) in v.iter_mut().zip(delta).zip(row(conv.input, at, channels)?) {
            *v += delta * scale * i32::from(*x).wrapping_sub(conv.attrs.in_zero_point) as f32;
        }
    }
    Some(())
}

/// `x − zx` of `channel` under tap `index`; zero in the padding.
#[inline(always)]
fn centered(conv: &QDepthwise<'_>, pixel: Pixel, channel: usize, index: u16) -> i32 {
    let x = tap(&conv.shape, pixel, index).and_then(|at| conv.input.get(at * conv.shape.input[3] + channel));
    x.map_or(0, |x| i32::from(*x).wrapping_sub(conv.attrs.in_zero_point))
}
