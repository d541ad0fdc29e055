//! int8 convolution and linear layers.
//!
//! Exact accumulators of a tile come first; the active terms and the
//! requantization then follow in the reference's order of operations, so that
//! everything but real-valued factors agrees with it to the bit.

mod low_rank;
mod scratch;

use ingraft_kernel::attrs::QConvAttrs;
use ingraft_kernel::qconv::{QConv, check as check_operands};
use ingraft_kernel::terms::{Factors, SparseValues};
use ingraft_kernel::window::ConvShape;
use ingraft_kernel::{Call, Kernel, KernelError, OpCode, Step};
use ingraft_tensor::DType;
use ingraft_tensor::bytes::Element;

use self::scratch::Scratch;
use crate::avx2::qdot::Codes;
use crate::avx2::tile::{PIXELS, Run, STRIP, Strip, Tile, after_operands};
use crate::avx2::{dot, qdot, requantize};

/// int8 output.
pub(crate) const KERNEL: Kernel = Kernel::new("qconv_qs8_qc8w_qs8__avx2", OpCode::QConv, I8, I8, run)
    .checked(check)
    .with_workspace(workspace);

/// f32 output.
pub(crate) const KERNEL_F32: Kernel =
    Kernel::new("qconv_qs8_qc8w_f32__avx2", OpCode::QConv, I8, Some(DType::F32), run_f32)
        .checked(check_operands)
        .with_workspace(workspace);

/// i32 output: the accumulators.
pub(crate) const KERNEL_I32: Kernel =
    Kernel::new("qconv_qs8_qc8w_s32__avx2", OpCode::QConv, I8, Some(DType::I32), run_i32)
        .checked(check_operands)
        .with_workspace(workspace);

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    let attrs: &QConvAttrs = step.attrs()?;
    check_operands(step)?;
    if requantize::rounds(attrs.lo, attrs.hi) { Ok(()) } else { Err(KernelError::Operands(step.op)) }
}

pub(crate) fn workspace(step: &Step<'_>) -> usize {
    let shape = || {
        let attrs: &QConvAttrs = step.attrs().ok()?;
        let (input, output) = (step.input(0).ok()?.shape, step.output(0).ok()?.shape);
        ConvShape::new(&attrs.window, attrs.groups as usize, input, output)
    };
    shape().map_or(0, |shape| Scratch::bytes(&shape))
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through `target`, whose argument proves AVX2 and FMA.
    unsafe {
        values(call, |v, attrs, out| requantize::codes(v, attrs.lo, attrs.hi, attrs.out_zero_point, out))
    }
}

fn run_f32(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through `target`, whose argument proves AVX2 and FMA.
    unsafe { values(call, |v, attrs, out| requantize::clamped(v, attrs.lo, attrs.hi, out)) }
}

fn run_i32(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through `target`, whose argument proves AVX2 and FMA.
    unsafe { accumulators(call) }
}

/// Runs a convolution whose output `finish` makes of pre-activation values.
#[target_feature(enable = "avx2,fma")]
fn values<T: Element>(
    call: &mut Call<'_, '_>,
    finish: impl Fn(&[f32], &QConvAttrs, &mut [T]),
) -> Result<(), KernelError> {
    let conv = QConv::new(call)?;
    let error = after_operands(call);
    let scratch = core::mem::take(&mut call.workspace);
    let (out, mut mask) = call.out_and_mask::<T>()?;
    let QConvAttrs { lo, hi, .. } = *conv.attrs;
    let mut v = [[0.0f32; STRIP]; PIXELS];
    for_each_strip(&conv, scratch, |run, strip, scratch, acc| {
        pre_activation(&conv, run, strip, scratch, acc, &mut v)?;
        for (at, v) in run.rows(strip, &conv.shape, &v) {
            finish(v, conv.attrs, out.get_mut(at..)?.get_mut(..v.len())?);
            if let Some(mask) = mask.as_deref_mut() {
                requantize::mask(v, lo, hi, mask, at);
            }
        }
        Some(())
    })
    .ok_or(error)
}

#[target_feature(enable = "avx2,fma")]
fn accumulators(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    if !call.terms.is_none() {
        return Err(KernelError::Terms(call.op));
    }
    let conv = QConv::new(call)?;
    let error = after_operands(call);
    let scratch = core::mem::take(&mut call.workspace);
    let out: &mut [i32] = call.slice_mut(0)?;
    for_each_strip(&conv, scratch, |run, strip, _, acc| {
        for (at, acc) in run.rows(strip, &conv.shape, acc) {
            out.get_mut(at..)?.get_mut(..acc.len())?.copy_from_slice(acc);
        }
        Some(())
    })
    .ok_or(error)
}

/// Calls `visit(run, strip, scratch, acc)` for every tile, with the exact
/// accumulators: bias, products and integer sparse deltas.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn for_each_strip(
    conv: &QConv<'_>,
    memory: &mut [u8],
    mut visit: impl FnMut(Run, Strip, &Scratch<'_>, &Tile<i32>) -> Option<()>,
) -> Option<()> {
    let zero = conv.attrs.in_zero_point as i8;
    let mut acc = [[0i32; STRIP]; PIXELS];
    let (mut scratch, buffer) = Scratch::new(memory, conv)?;
    for group in 0..conv.shape.groups {
        scratch.load(conv, group)?;
        for run in Run::all(&conv.shape, group) {
            scratch.set_rows(run.pixels)?;
            run.for_each_patch(&conv.shape, conv.input, zero, buffer, |i, patch| {
                scratch.fill(conv, i, patch)
            })?;
            scratch.project(conv, run, &mut acc)?;
            for strip in run.strips(&conv.shape) {
                qdot::products(&scratch.codes, conv.weight, strip.channel, strip.count, &mut acc)?;
                add_integers(conv, run, strip, &scratch.codes, &mut acc)?;
                visit(run, strip, &scratch, &acc)?;
            }
        }
    }
    Some(())
}

/// Adds the bias and the integer sparse term.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn add_integers(
    conv: &QConv<'_>,
    run: Run,
    strip: Strip,
    codes: &Codes<'_>,
    acc: &mut Tile<i32>,
) -> Option<()> {
    let bias = strip.of(conv.bias)?;
    for acc in acc.iter_mut().take(run.pixels) {
        acc.iter_mut().zip(bias).for_each(|(a, b)| *a = a.wrapping_add(*b));
    }
    let Some(sparse) = conv.terms.sparse else { return Some(()) };
    let SparseValues::I16(values) = sparse.values else { return Some(()) };
    for local in 0..strip.count {
        let span = sparse.span(strip.channel + local)?;
        for (index, value) in sparse.indices.get(span.clone())?.iter().zip(values.get(span)?) {
            for (pixel, acc) in acc.iter_mut().take(run.pixels).enumerate() {
                let delta = centered(conv, codes, pixel, *index).wrapping_mul(i32::from(*value));
                let acc = acc.get_mut(local)?;
                *acc = acc.wrapping_add(delta);
            }
        }
    }
    Some(())
}

/// `x − zx` at `index` of the patch of `pixel`; zero past the patch.
#[inline(always)]
fn centered(conv: &QConv<'_>, codes: &Codes<'_>, pixel: usize, index: u16) -> i32 {
    codes.at(pixel, index.into()).map_or(0, |x| i32::from(x).wrapping_sub(conv.attrs.in_zero_point))
}

/// The pre-activation values of a tile in output steps: the same operations in
/// the same order as in [`ingraft_kernel::qconv`].
#[inline]
#[target_feature(enable = "avx2,fma")]
fn pre_activation(
    conv: &QConv<'_>,
    run: Run,
    strip: Strip,
    scratch: &Scratch<'_>,
    acc: &Tile<i32>,
    v: &mut Tile<f32>,
) -> Option<()> {
    let inv = 1.0 / conv.attrs.out_scale;
    match &scratch.low_rank {
        Some(term) if term.is_narrow() => term.values(conv, run, strip, acc, v)?,
        _ => {
            let multiplier = strip.of(conv.multiplier)?;
            for (v, acc) in v.iter_mut().zip(acc).take(run.pixels) {
                v.iter_mut().zip(acc).zip(multiplier).for_each(|((v, a), m)| *v = *a as f32 * m);
            }
            add_two_factor(conv, run, strip, scratch, inv, v)?;
        }
    }
    add_real_sparse(conv, run, strip, scratch, inv, v)?;
    add_dense(conv, run, strip, scratch, inv, v)?;
    if let Some(affine) = conv.terms.affine {
        let (scale, shift) = (strip.of(affine.scale)?, strip.of(affine.shift)?);
        for v in v.iter_mut().take(run.pixels) {
            v.iter_mut().zip(scale).zip(shift).for_each(|((v, scale), shift)| *v = *v * scale + shift * inv);
        }
    }
    Some(())
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn add_two_factor(
    conv: &QConv<'_>,
    run: Run,
    strip: Strip,
    scratch: &Scratch<'_>,
    inv: f32,
    v: &mut Tile<f32>,
) -> Option<()> {
    let Some(term) = conv.terms.two_factor else { return Some(()) };
    match term.factors {
        Factors::F32 { up, .. } => {
            let mut sums = [[0.0f32; STRIP]; PIXELS];
            dot::products(&scratch.latent, up, strip.channel, strip.count, &mut sums)?;
            for (v, sums) in v.iter_mut().zip(&sums).take(run.pixels) {
                v.iter_mut().zip(sums).take(strip.count).for_each(|(v, s)| *v += s * inv);
            }
        }
        Factors::I8 { up, up_scale, .. } => {
            let mut sums = [[0i32; STRIP]; PIXELS];
            qdot::products(&scratch.latent_codes, up, strip.channel, strip.count, &mut sums)?;
            let scale = strip.of(up_scale)?;
            for (v, sums) in v.iter_mut().zip(&sums).take(run.pixels) {
                v.iter_mut().zip(sums).zip(scale).for_each(|((v, s), scale)| *v += *s as f32 * scale);
            }
        }
    }
    Some(())
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn add_real_sparse(
    conv: &QConv<'_>,
    run: Run,
    strip: Strip,
    scratch: &Scratch<'_>,
    inv: f32,
    v: &mut Tile<f32>,
) -> Option<()> {
    let Some(sparse) = conv.terms.sparse else { return Some(()) };
    let SparseValues::F32(values) = sparse.values else { return Some(()) };
    for local in 0..strip.count {
        let span = sparse.span(strip.channel + local)?;
        let (indices, values) = (sparse.indices.get(span.clone())?, values.get(span)?);
        for (pixel, v) in v.iter_mut().take(run.pixels).enumerate() {
            let pairs = indices.iter().zip(values);
            let sum = pairs.fold(0.0f32, |s, (index, value)| {
                s + centered(conv, &scratch.codes, pixel, *index) as f32 * value
            });
            *v.get_mut(local)? += sum * conv.attrs.in_scale * inv;
        }
    }
    Some(())
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn add_dense(
    conv: &QConv<'_>,
    run: Run,
    strip: Strip,
    scratch: &Scratch<'_>,
    inv: f32,
    v: &mut Tile<f32>,
) -> Option<()> {
    let Some(delta) = conv.terms.dense else { return Some(()) };
    let mut sums = [[0.0f32; STRIP]; PIXELS];
    dot::products(&scratch.reals, delta, strip.channel, strip.count, &mut sums)?;
    for (v, sums) in v.iter_mut().zip(&sums).take(run.pixels) {
        let pairs = v.iter_mut().zip(sums).take(strip.count);
        pairs.for_each(|(v, sum)| *v += sum * conv.attrs.in_scale * inv);
    }
    Some(())
}

const I8: Option<DType> = Some(DType::I8);
