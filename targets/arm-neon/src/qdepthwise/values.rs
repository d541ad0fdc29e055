//! Depthwise convolutions whose sums pass through memory: with terms or a mask.

use core::arch::aarch64::int32x4_t;

use ingraft_kernel::attrs::QConvAttrs;
use ingraft_kernel::qdepthwise::QDepthwise;
use ingraft_kernel::terms::SparseValues;
use ingraft_kernel::window::{Pixel, row};
use ingraft_kernel::{Call, KernelError};

use super::taps::Taps;
use super::{Scratch, Sink};
use crate::lanes::store_i32;
use crate::requantize;
use crate::tile::{after_operands, tap};

#[target_feature(enable = "neon")]
pub(super) fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (conv, error) = (QDepthwise::new(call)?, after_operands(call));
    let channels = conv.shape.output[3];
    let Scratch { sums, values, padding } =
        Scratch::new(core::mem::take(&mut call.workspace), &conv).ok_or(error)?;
    let (out, mut mask) = call.out_and_mask::<i8>()?;
    let QConvAttrs { lo, hi, .. } = *conv.attrs;
    let taps = Taps::new(&conv, padding).ok_or(error)?;
    let [_, height, width, _] = conv.shape.output;
    taps.for_each_run(1, |run| {
        taps.sums(run, &mut Sums(sums))?;
        let (line, x) = (run.index / width, run.index % width);
        pre_activation(&conv, Pixel { n: line / height, y: line % height, x }, sums, values)?;
        let at = run.index * channels;
        requantize::codes(values, conv.attrs, out.get_mut(at..)?.get_mut(..channels)?);
        if let Some(mask) = mask.as_deref_mut() {
            requantize::mask(values, lo, hi, mask, at);
        }
        Some(())
    })
    .ok_or(error)
}

/// The sums of a pixel.
struct Sums<'s>(&'s mut [i32]);

impl Sink for Sums<'_> {
    type Channels<const N: usize> = ();

    #[inline(always)]
    unsafe fn load<const N: usize>(&self, _: usize) {}

    #[inline(always)]
    unsafe fn put<const N: usize>(
        &mut self,
        _: &(),
        _: usize,
        channel: usize,
        sums: [int32x4_t; N],
    ) -> Option<()> {
        let out = self.0.get_mut(channel..)?.get_mut(..4 * N)?;
        for (out, sum) in out.as_chunks_mut::<4>().0.iter_mut().zip(sums) {
            // SAFETY: the processor executes NEON.
            unsafe { store_i32(out, sum) };
        }
        Some(())
    }

    #[inline(always)]
    unsafe fn put_one(&mut self, _: usize, channel: usize, sum: i32) -> Option<()> {
        *self.0.get_mut(channel)? = sum;
        Some(())
    }
}

/// Pre-activation values in output steps: the same operations in the same
/// order as in [`ingraft_kernel::qdepthwise`].
#[inline]
#[target_feature(enable = "neon")]
fn pre_activation(conv: &QDepthwise<'_>, pixel: Pixel, sums: &mut [i32], values: &mut [f32]) -> Option<()> {
    let inv = 1.0 / conv.attrs.out_scale;
    add_integer_sparse(conv, pixel, sums)?;
    for ((v, sum), m) in values.iter_mut().zip(sums).zip(conv.multiplier) {
        *v = *sum as f32 * m;
    }
    add_real_sparse(conv, pixel, inv, values)?;
    add_dense(conv, pixel, inv, values)?;
    if let Some(affine) = conv.terms.affine {
        let (scale, shift) = (affine.scale.get(..values.len())?, affine.shift.get(..values.len())?);
        for ((v, scale), shift) in values.iter_mut().zip(scale).zip(shift) {
            *v = *v * scale + shift * inv;
        }
    }
    Some(())
}

#[inline(always)]
fn add_integer_sparse(conv: &QDepthwise<'_>, pixel: Pixel, sums: &mut [i32]) -> Option<()> {
    let Some(sparse) = conv.terms.sparse else { return Some(()) };
    let SparseValues::I16(values) = sparse.values else { return Some(()) };
    for (channel, (sum, span)) in sums.iter_mut().zip(sparse.indptr.windows(2)).enumerate() {
        let &[start, end] = span else { return None };
        let span = start as usize..end as usize;
        for (i, value) in sparse.indices.get(span.clone())?.iter().zip(values.get(span)?) {
            *sum = sum.wrapping_add(centered(conv, pixel, channel, *i).wrapping_mul(i32::from(*value)));
        }
    }
    Some(())
}

#[inline(always)]
fn add_real_sparse(conv: &QDepthwise<'_>, pixel: Pixel, inv: f32, values: &mut [f32]) -> Option<()> {
    let Some(sparse) = conv.terms.sparse else { return Some(()) };
    let SparseValues::F32(deltas) = sparse.values else { return Some(()) };
    for (channel, (v, span)) in values.iter_mut().zip(sparse.indptr.windows(2)).enumerate() {
        let &[start, end] = span else { return None };
        let span = start as usize..end as usize;
        let pairs = sparse.indices.get(span.clone())?.iter().zip(deltas.get(span)?);
        let sum = pairs.fold(0.0f32, |s, (i, d)| s + centered(conv, pixel, channel, *i) as f32 * d);
        *v += sum * conv.attrs.in_scale * inv;
    }
    Some(())
}

/// Adds `Σ Δ·(x − zx)` of the dense delta, tap by tap.
#[inline]
#[target_feature(enable = "neon")]
fn add_dense(conv: &QDepthwise<'_>, pixel: Pixel, inv: f32, values: &mut [f32]) -> Option<()> {
    let Some(delta) = conv.terms.dense else { return Some(()) };
    let (channels, scale) = (conv.shape.output[3], conv.attrs.in_scale * inv);
    for (tap, delta) in delta.chunks_exact(channels.max(1)).enumerate() {
        let ky = tap.checked_div(conv.shape.kernel[1])?;
        let Some(at) = conv.shape.tap(pixel, ky, tap - ky * conv.shape.kernel[1]) else { continue };
        for ((v, delta), x) in values.iter_mut().zip(delta).zip(row(conv.input, at, channels)?) {
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
