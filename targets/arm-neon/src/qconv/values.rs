//! Convolutions whose sums pass through memory: with terms, a mask, or an output
//! other than int8.

use core::arch::aarch64::int32x4_t;

use ingraft_kernel::attrs::QConvAttrs;
use ingraft_kernel::qconv::QConv;
use ingraft_kernel::terms::SparseValues;
use ingraft_kernel::{Call, KernelError};
use ingraft_tensor::bytes::Element;

use super::low_rank::Latent;
use super::rank_space::RankSpace;
use super::scratch::Scratch;
use super::{Part, for_each_part};
use crate::dot::Sink;
use crate::lanes::{block, store_i32};
use crate::panel::WIDTH;
use crate::rank::dot;
use crate::requantize;
use crate::tile::{BLOCK, after_operands};

/// The sums of a part of the output.
type Sums = [[i32; WIDTH]; BLOCK];

/// Runs a convolution whose output `finish` makes of pre-activation values.
///
/// # Safety
/// The processor executes what `D` stands for.
#[target_feature(enable = "neon")]
pub(super) unsafe fn run<D: RankSpace, T: Element>(
    call: &mut Call<'_, '_>,
    finish: impl Fn(&[f32], &QConvAttrs, &mut [T]),
) -> Result<(), KernelError> {
    let conv = QConv::new(call)?;
    let (error, packed) = (after_operands(call), call.packed);
    let memory = core::mem::take(&mut call.workspace);
    let (out, mask) = call.out_and_mask::<T>()?;
    // SAFETY: the caller's promise.
    unsafe { fill::<D, T>(&conv, packed, memory, out, mask, finish) }.ok_or(error)
}

/// Computes every element of `out`, and of its mask, by `finish`.
///
/// # Safety
/// The processor executes what `D` stands for.
#[target_feature(enable = "neon")]
pub(super) unsafe fn fill<D: RankSpace, T>(
    conv: &QConv<'_>,
    packed: &[u8],
    memory: &mut [u8],
    out: &mut [T],
    mut mask: Option<&mut [u8]>,
    finish: impl Fn(&[f32], &QConvAttrs, &mut [T]),
) -> Option<()> {
    let mut scratch = Scratch::new::<D>(memory, conv)?;
    let QConvAttrs { lo, hi, .. } = *conv.attrs;
    let (mut sums, mut values) = ([[0; WIDTH]; BLOCK], [[0.0; WIDTH]; BLOCK]);
    for_each_part::<D>(conv, packed, &mut scratch, |part, latent| {
        // SAFETY: the caller's promise.
        unsafe { products::<D>(conv, part, &mut sums)? };
        let values = values.get_mut(..part.block.pixels)?;
        pre_activation(conv, part, latent, &sums, values)?;
        for (i, values) in values.iter().enumerate() {
            let (at, values) = (part.start(&conv.shape, i), values.get(..part.panel.count)?);
            finish(values, conv.attrs, out.get_mut(at..)?.get_mut(..values.len())?);
            if let Some(mask) = mask.as_deref_mut() {
                requantize::mask(values, lo, hi, mask, at);
            }
        }
        Some(())
    })
}

/// Computes the codes of a part, `out` from its first channel of its first pixel on.
///
/// # Safety
/// The processor executes what `D` stands for.
#[target_feature(enable = "neon")]
pub(super) unsafe fn codes<D: RankSpace>(
    conv: &QConv<'_>,
    part: &Part<'_>,
    latent: &mut Latent<'_>,
    out: &mut [i8],
) -> Option<()> {
    let (mut sums, mut values) = ([[0; WIDTH]; BLOCK], [[0.0; WIDTH]; BLOCK]);
    // SAFETY: the caller's promise.
    unsafe { products::<D>(conv, part, &mut sums)? };
    let values = values.get_mut(..part.block.pixels)?;
    pre_activation(conv, part, latent, &sums, values)?;
    for (i, values) in values.iter().enumerate() {
        let (at, values) = (i * conv.shape.output[3], values.get(..part.panel.count)?);
        requantize::codes(values, conv.attrs, out.get_mut(at..)?.get_mut(..values.len())?);
    }
    Some(())
}

/// Runs a convolution to its accumulators.
///
/// # Safety
/// The processor executes what `D` stands for.
#[target_feature(enable = "neon")]
pub(super) unsafe fn accumulators<D: RankSpace>(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    if !call.terms.is_none() {
        return Err(KernelError::Terms(call.op));
    }
    let conv = QConv::new(call)?;
    let error = after_operands(call);
    let mut scratch = Scratch::new::<D>(core::mem::take(&mut call.workspace), &conv).ok_or(error)?;
    let packed = call.packed;
    let out: &mut [i32] = call.slice_mut(0)?;
    let mut sums = [[0; WIDTH]; BLOCK];
    for_each_part::<D>(&conv, packed, &mut scratch, |part, _| {
        // SAFETY: the caller's promise.
        unsafe { products::<D>(&conv, part, &mut sums)? };
        for (i, sums) in sums.iter().take(part.block.pixels).enumerate() {
            let (at, sums) = (part.start(&conv.shape, i), sums.get(..part.panel.count)?);
            out.get_mut(at..)?.get_mut(..sums.len())?.copy_from_slice(sums);
        }
        Some(())
    })
    .ok_or(error)
}

/// Exact accumulators: bias, products and integer sparse deltas.
///
/// # Safety
/// The processor executes what `D` stands for.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn products<D: RankSpace>(conv: &QConv<'_>, part: &Part<'_>, sums: &mut Sums) -> Option<()> {
    let bias = block(conv.bias, part.channel);
    // SAFETY: the caller's promise.
    unsafe { D::multiply(part.block, &part.rows, part.weights, part.panel.lanes(), &bias, sums)? };
    let Some(sparse) = conv.terms.sparse else { return Some(()) };
    let SparseValues::I16(values) = sparse.values else { return Some(()) };
    for lane in 0..part.panel.count {
        let span = sparse.span(part.channel + lane)?;
        for (index, value) in sparse.indices.get(span.clone())?.iter().zip(values.get(span)?) {
            for (pixel, sums) in sums.iter_mut().take(part.block.pixels).enumerate() {
                let delta = centered(conv, part, pixel, *index).wrapping_mul(i32::from(*value));
                let sum = sums.get_mut(lane)?;
                *sum = sum.wrapping_add(delta);
            }
        }
    }
    Some(())
}

impl Sink for Sums {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn put<const P: usize, const N: usize>(
        &mut self,
        first: usize,
        count: usize,
        sums: [[int32x4_t; N]; P],
    ) -> Option<()> {
        for (out, sums) in self.get_mut(first..)?.iter_mut().zip(sums).take(count) {
            for (out, sum) in out.as_chunks_mut::<4>().0.iter_mut().zip(sums) {
                store_i32(out, sum);
            }
        }
        Some(())
    }
}

/// The pre-activation values of a part in output steps: the same operations in the
/// same order as in [`ingraft_kernel::qconv`].
#[inline]
#[target_feature(enable = "neon")]
fn pre_activation(
    conv: &QConv<'_>,
    part: &Part<'_>,
    latent: &mut Latent<'_>,
    sums: &Sums,
    values: &mut [[f32; WIDTH]],
) -> Option<()> {
    let inv = 1.0 / conv.attrs.out_scale;
    let multiplier: [f32; WIDTH] = block(conv.multiplier, part.channel);
    for (values, sums) in values.iter_mut().zip(sums) {
        values.iter_mut().zip(sums).zip(&multiplier).for_each(|((v, s), m)| *v = *s as f32 * m);
    }
    if !conv.shift.is_empty() {
        let shift: [f32; WIDTH] = block(conv.shift, part.channel);
        for values in values.iter_mut() {
            values.iter_mut().zip(&shift).for_each(|(v, s)| *v += s);
        }
    }
    latent.prepare(conv, part)?;
    latent.add(conv, part, 0, values)?;
    add_real_sparse(conv, part, inv, values)?;
    add_dense(conv, part, latent, inv, values)?;
    if let Some(affine) = conv.terms.affine {
        let scale: [f32; WIDTH] = block(affine.scale, part.channel);
        let shift: [f32; WIDTH] = block(affine.shift, part.channel);
        for values in values.iter_mut() {
            let pairs = scale.iter().zip(&shift);
            values.iter_mut().zip(pairs).for_each(|(v, (scale, shift))| *v = *v * scale + shift * inv);
        }
    }
    Some(())
}

#[inline]
#[target_feature(enable = "neon")]
fn add_real_sparse(conv: &QConv<'_>, part: &Part<'_>, inv: f32, values: &mut [[f32; WIDTH]]) -> Option<()> {
    let Some(sparse) = conv.terms.sparse else { return Some(()) };
    let SparseValues::F32(deltas) = sparse.values else { return Some(()) };
    for lane in 0..part.panel.count {
        let span = sparse.span(part.channel + lane)?;
        let (indices, deltas) = (sparse.indices.get(span.clone())?, deltas.get(span)?);
        for (pixel, values) in values.iter_mut().enumerate() {
            let pairs = indices.iter().zip(deltas);
            let sum = pairs
                .fold(0.0f32, |s, (index, delta)| s + centered(conv, part, pixel, *index) as f32 * delta);
            *values.get_mut(lane)? += sum * conv.attrs.in_scale * inv;
        }
    }
    Some(())
}

#[inline]
#[target_feature(enable = "neon")]
fn add_dense(
    conv: &QConv<'_>,
    part: &Part<'_>,
    latent: &mut Latent<'_>,
    inv: f32,
    values: &mut [[f32; WIDTH]],
) -> Option<()> {
    let Some(delta) = conv.terms.dense else { return Some(()) };
    let len = part.rows.len;
    let delta = delta.get(part.channel * len..)?.get(..part.panel.count * len)?;
    for (pixel, values) in values.iter_mut().enumerate() {
        let patch = latent.centered(conv, part.rows.row(pixel)?.get(..len)?)?;
        let rows = delta.chunks_exact(len.max(1));
        values.iter_mut().zip(rows).for_each(|(v, row)| *v += dot(row, patch) * conv.attrs.in_scale * inv);
    }
    Some(())
}

/// `x − zx` at `index` of the patch of `pixel`; zero past the patch.
#[inline(always)]
fn centered(conv: &QConv<'_>, part: &Part<'_>, pixel: usize, index: u16) -> i32 {
    part.rows.at(pixel, index.into()).map_or(0, |x| i32::from(x).wrapping_sub(conv.attrs.in_zero_point))
}
