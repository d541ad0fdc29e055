//! f32 convolution and linear layers, with adapter terms in the epilogue.

use ingraft_kernel::attrs::ConvAttrs;
use ingraft_kernel::conv::{Conv, KERNEL as REFERENCE};
use ingraft_kernel::terms::{Factors, MAX_TERM_RANK, SparseValues};
use ingraft_kernel::window::ConvShape;
use ingraft_kernel::{Call, Kernel, KernelError, OpCode, Step};
use ingraft_tensor::DType;

use crate::avx2::dot::{Reals, products};
use crate::avx2::requantize;
use crate::avx2::tile::{PIXELS, Panels, Run, STRIP, Strip, Tile, after_operands};
use ingraft_vector::memory::take;

/// f32 throughout.
pub(crate) const KERNEL: Kernel =
    Kernel::new("conv_f32_f32_f32__avx2", OpCode::Conv, Some(DType::F32), Some(DType::F32), run)
        .checked(REFERENCE.check)
        .with_workspace(workspace);

pub(crate) fn workspace(step: &Step<'_>) -> usize {
    let shape = || {
        let attrs: &ConvAttrs = step.attrs().ok()?;
        let (input, output) = (step.input(0).ok()?.shape, step.output(0).ok()?.shape);
        ConvShape::new(&attrs.window, attrs.groups as usize, input, output)
    };
    shape().map_or(0, |shape| Scratch::bytes(&shape))
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through `target`, whose argument proves AVX2 and FMA.
    unsafe { compute(call) }
}

#[target_feature(enable = "avx2,fma")]
fn compute(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let conv = Conv::new(call)?;
    let error = after_operands(call);
    let scratch = core::mem::take(&mut call.workspace);
    let (out, mut mask) = call.out_and_mask::<f32>()?;
    let ConvAttrs { lo, hi, .. } = *conv.attrs;
    for_each_strip(&conv, scratch, |run, strip, y| {
        for (at, y) in run.rows(strip, &conv.shape, y) {
            requantize::clamped(y, lo, hi, out.get_mut(at..)?.get_mut(..y.len())?);
            if let Some(mask) = mask.as_deref_mut() {
                requantize::mask(y, lo, hi, mask, at);
            }
        }
        Some(())
    })
    .ok_or(error)
}

/// Calls `visit(run, strip, y)` for every tile with its pre-activation values.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn for_each_strip(
    conv: &Conv<'_>,
    memory: &mut [u8],
    mut visit: impl FnMut(Run, Strip, &Tile<f32>) -> Option<()>,
) -> Option<()> {
    let mut y = [[0.0f32; STRIP]; PIXELS];
    for group in 0..conv.shape.groups {
        for run in Run::all(&conv.shape, group) {
            let (mut scratch, buffer) = Scratch::new(memory, conv, run.pixels)?;
            run.for_each_patch(&conv.shape, conv.input, 0.0, buffer, |i, patch| {
                scratch.patches.fill(i, 0, patch, |x| x)
            })?;
            scratch.project(conv, run)?;
            for strip in run.strips(&conv.shape) {
                products(&scratch.patches, conv.weight, strip.channel, strip.count, &mut y)?;
                add_terms(conv, run, strip, &scratch, &mut y)?;
                visit(run, strip, &y)?;
            }
        }
    }
    Some(())
}

/// Adds the bias and the active terms to the products of a tile.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn add_terms(
    conv: &Conv<'_>,
    run: Run,
    strip: Strip,
    scratch: &Scratch<'_>,
    y: &mut Tile<f32>,
) -> Option<()> {
    let y = y.get_mut(..run.pixels)?;
    let bias = strip.of(conv.bias)?;
    for y in y.iter_mut() {
        y.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
    }
    if let Some(term) = conv.terms.two_factor {
        let Factors::F32 { up, .. } = term.factors else { return None };
        let mut sums = [[0.0f32; STRIP]; PIXELS];
        products(&scratch.latent, up, strip.channel, strip.count, &mut sums)?;
        for (y, sums) in y.iter_mut().zip(&sums) {
            y.iter_mut().zip(sums).take(strip.count).for_each(|(y, s)| *y += s);
        }
    }
    add_sparse(conv, strip, scratch, y)?;
    if let Some(delta) = conv.terms.dense {
        let mut sums = [[0.0f32; STRIP]; PIXELS];
        products(&scratch.patches, delta, strip.channel, strip.count, &mut sums)?;
        for (y, sums) in y.iter_mut().zip(&sums) {
            y.iter_mut().zip(sums).take(strip.count).for_each(|(y, s)| *y += s);
        }
    }
    if let Some(affine) = conv.terms.affine {
        let (scale, shift) = (strip.of(affine.scale)?, strip.of(affine.shift)?);
        for y in y.iter_mut() {
            y.iter_mut().zip(scale).zip(shift).for_each(|((y, scale), shift)| *y = *y * scale + shift);
        }
    }
    Some(())
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn add_sparse(conv: &Conv<'_>, strip: Strip, scratch: &Scratch<'_>, y: &mut [[f32; STRIP]]) -> Option<()> {
    let Some(sparse) = conv.terms.sparse else { return Some(()) };
    let SparseValues::F32(values) = sparse.values else { return None };
    for local in 0..strip.count {
        let span = sparse.span(strip.channel + local)?;
        let (indices, values) = (sparse.indices.get(span.clone())?, values.get(span)?);
        for (pixel, y) in y.iter_mut().enumerate() {
            let x = |index: &u16| scratch.patches.at(pixel, (*index).into()).unwrap_or(0.0);
            *y.get_mut(local)? += indices.iter().zip(values).fold(0.0f32, |s, (i, v)| s + x(i) * v);
        }
    }
    Some(())
}

/// The rows of a run.
struct Scratch<'m> {
    /// Patches.
    patches: Reals<'m>,
    /// `A·x` of a two-factor term.
    latent: Reals<'m>,
}

impl<'m> Scratch<'m> {
    fn bytes(shape: &ConvShape) -> usize {
        let len = shape.row();
        (Reals::blocks(len) + Reals::blocks(MAX_TERM_RANK)) * 32 + len * 4
    }

    /// The rows of `rows` pixels, and a buffer to gather one patch in.
    fn new(mut memory: &'m mut [u8], conv: &Conv<'_>, rows: usize) -> Option<(Self, &'m mut [f32])> {
        let len = conv.shape.row();
        let rank = conv.terms.two_factor.map_or(0, |term| term.rank);
        (rank <= MAX_TERM_RANK).then_some(())?;
        let scratch = Self {
            patches: Panels::new(take(&mut memory, Reals::blocks(len))?, len, rows)?,
            latent: Panels::new(take(&mut memory, Reals::blocks(MAX_TERM_RANK))?, rank, rows)?,
        };
        Some((scratch, take(&mut memory, len)?))
    }

    /// Computes `A·x` of every row for the two-factor term.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn project(&mut self, conv: &Conv<'_>, run: Run) -> Option<()> {
        let Some(term) = conv.terms.two_factor else { return Some(()) };
        let Factors::F32 { down, .. } = term.factors else { return None };
        let mut sums = [[0.0f32; STRIP]; PIXELS];
        for start in (0..term.rank).step_by(STRIP) {
            let count = STRIP.min(term.rank - start);
            products(&self.patches, down, run.group * term.rank + start, count, &mut sums)?;
            for (i, sums) in sums.iter().take(run.pixels).enumerate() {
                self.latent.fill(i, start, sums.get(..count)?, |s: f32| s)?;
            }
        }
        Some(())
    }
}
