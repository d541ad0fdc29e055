//! f32 convolution and linear layers, with adapter terms in the epilogue.

use core::arch::aarch64::*;

use ingraft_kernel::attrs::ConvAttrs;
use ingraft_kernel::conv::{Conv, KERNEL as REFERENCE};
use ingraft_kernel::terms::{Factors, MAX_TERM_RANK, SparseValues, TwoFactor};
use ingraft_kernel::window::{ConvShape, row};
use ingraft_kernel::{Call, Kernel, KernelError, OpCode, Place, Step};
use ingraft_tensor::{DType, bytes};

use crate::fma::{ROW_ALIGN, Sink, multiply};
use crate::lanes::{block, store_f32};
use crate::panel::{Layout, Panel, WIDTH};
use crate::rank::{apply_reals, dot, transpose};
use crate::requantize;
use crate::tile::{BLOCK, Block, Rows, after_operands, in_place, take};

/// f32 throughout.
pub(crate) const KERNEL: Kernel =
    Kernel::new("conv_f32_f32_f32__neon", OpCode::Conv, Some(DType::F32), Some(DType::F32), run)
        .checked(check)
        .with_workspace(workspace)
        .with_packed(packed, pack);

/// Weights can be packed at bind only where the plan holds them.
fn check(step: &Step<'_>) -> Result<(), KernelError> {
    (REFERENCE.check)(step)?;
    constant(step).map(|_| ())
}

fn constant<'a>(step: &Step<'a>) -> Result<&'a [f32], KernelError> {
    match step.input(1)?.place {
        Place::Plan(weight) => bytes::cast(weight).ok_or(KernelError::Operands(step.op)),
        Place::Memory(_) => Err(KernelError::Operands(step.op)),
    }
}

fn shape(step: &Step<'_>) -> Option<ConvShape> {
    let attrs: &ConvAttrs = step.attrs().ok()?;
    let (input, output) = (step.input(0).ok()?.shape, step.output(0).ok()?.shape);
    ConvShape::new(&attrs.window, attrs.groups as usize, input, output)
}

/// The panels of one group.
fn layout(shape: &ConvShape) -> Layout {
    Layout { depth: 1, len: shape.row(), channels: shape.out_group }
}

fn workspace(step: &Step<'_>) -> usize {
    shape(step).map_or(0, |shape| Scratch::bytes(&shape))
}

fn packed(step: &Step<'_>) -> usize {
    shape(step).map_or(0, |shape| layout(&shape).elements() * shape.groups * 4)
}

fn pack(step: &Step<'_>, out: &mut [u8]) -> Result<(), KernelError> {
    let shape = shape(step).ok_or(KernelError::Operands(step.op))?;
    let (weight, layout) = (constant(step)?, layout(&shape));
    let error = KernelError::Memory(step.op);
    let out: &mut [f32] = bytes::cast_mut(out).ok_or(error)?;
    let mut groups = out.chunks_exact_mut(layout.elements().max(1));
    for weight in weight.chunks_exact((layout.len * layout.channels).max(1)) {
        layout.pack_all(weight, groups.next().ok_or(error)?).ok_or(error)?;
    }
    Ok(())
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through functions whose arguments prove NEON.
    unsafe { compute(call) }
}

#[target_feature(enable = "neon")]
fn compute(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let conv = Conv::new(call)?;
    let error = after_operands(call);
    let mut scratch = Scratch::new(core::mem::take(&mut call.workspace), &conv).ok_or(error)?;
    let packed = bytes::cast(call.packed).ok_or(error)?;
    let (out, mut mask) = call.out_and_mask::<f32>()?;
    let ConvAttrs { lo, hi, .. } = *conv.attrs;
    let channels = conv.shape.output[3];
    for_each_part(&conv, packed, &mut scratch, |block, first, panel, values| {
        for (i, values) in values.iter().enumerate() {
            let at = (block.first + i) * channels + first;
            let values = values.get(..panel.count)?;
            requantize::clamped(values, lo, hi, out.get_mut(at..)?.get_mut(..values.len())?);
            if let Some(mask) = mask.as_deref_mut() {
                requantize::mask(values, lo, hi, mask, at);
            }
        }
        Some(())
    })
    .ok_or(error)
}

/// The values of a part of the output.
type Values = [[f32; WIDTH]; BLOCK];

/// Calls `visit(block, first channel, panel, values)` with the pre-activation values of every
/// part of the output.
#[inline]
#[target_feature(enable = "neon")]
fn for_each_part(
    conv: &Conv<'_>,
    packed: &[f32],
    scratch: &mut Scratch<'_>,
    mut visit: impl FnMut(Block, usize, Panel, &[[f32; WIDTH]]) -> Option<()>,
) -> Option<()> {
    let layout = layout(&conv.shape);
    let mut values: Values = [[0.0; WIDTH]; BLOCK];
    for group in 0..conv.shape.groups {
        let packed = packed.get(group * layout.elements()..)?;
        for block_of in Block::all(&conv.shape, group, BLOCK) {
            let rows = Rows::new(&conv.shape, conv.input, 0.0, block_of, scratch.patches)?;
            project(conv, block_of, &rows, scratch.latent)?;
            for panel in layout.panels() {
                let weights = packed.get(layout.span(panel))?;
                let first = group * layout.channels + panel.first;
                let bias = block(conv.bias, first);
                multiply(block_of, &rows, weights, panel.lanes(), &bias, &mut values)?;
                let values = values.get_mut(..block_of.pixels)?;
                add_low_rank(conv, first, panel, scratch.latent, scratch.up, values)?;
                add_sparse(conv, first, panel, &rows, values)?;
                add_dense(conv, first, panel, &rows, values)?;
                add_affine(conv, first, values);
                visit(block_of, first, panel, values)?;
            }
        }
    }
    Some(())
}

impl Sink for Values {
    #[inline(always)]
    unsafe fn put<const P: usize, const N: usize>(
        &mut self,
        first: usize,
        count: usize,
        sums: [[float32x4_t; N]; P],
    ) -> Option<()> {
        for (out, sums) in self.get_mut(first..)?.iter_mut().zip(sums).take(count) {
            for (out, sum) in out.as_chunks_mut::<4>().0.iter_mut().zip(sums) {
                // SAFETY: the processor executes NEON.
                unsafe { store_f32(out, sum) };
            }
        }
        Some(())
    }
}

/// `A·x` of every pixel for the two-factor term.
#[target_feature(enable = "neon")]
fn project(conv: &Conv<'_>, block: Block, rows: &Rows<'_, f32, ROW_ALIGN>, latent: &mut [f32]) -> Option<()> {
    let Some(TwoFactor { rank, factors }) = conv.terms.two_factor else { return Some(()) };
    let Factors::F32 { down, .. } = factors else { return None };
    for (pixel, latent) in latent.chunks_exact_mut(rank.max(1)).take(block.pixels).enumerate() {
        let patch = rows.row(pixel)?.get(..rows.len)?;
        for (k, t) in latent.iter_mut().enumerate() {
            *t = dot(row(down, block.group * rank + k, rows.len)?, patch);
        }
    }
    Some(())
}

#[inline]
#[target_feature(enable = "neon")]
fn add_low_rank(
    conv: &Conv<'_>,
    first: usize,
    panel: Panel,
    latent: &[f32],
    transposed: &mut [[f32; WIDTH]],
    values: &mut [[f32; WIDTH]],
) -> Option<()> {
    let Some(TwoFactor { rank, factors }) = conv.terms.two_factor else { return Some(()) };
    let Factors::F32 { up, .. } = factors else { return None };
    let transposed = transposed.get_mut(..rank)?;
    transpose(up, rank, first..first + panel.count, transposed, |b| b)?;
    for (values, latent) in values.iter_mut().zip(latent.chunks_exact(rank.max(1))) {
        values.iter_mut().zip(apply_reals(latent, transposed)).for_each(|(v, s)| *v += s);
    }
    Some(())
}

#[inline]
#[target_feature(enable = "neon")]
fn add_sparse(
    conv: &Conv<'_>,
    first: usize,
    panel: Panel,
    rows: &Rows<'_, f32, ROW_ALIGN>,
    values: &mut [[f32; WIDTH]],
) -> Option<()> {
    let Some(sparse) = conv.terms.sparse else { return Some(()) };
    let SparseValues::F32(deltas) = sparse.values else { return None };
    for lane in 0..panel.count {
        let at = first + lane;
        let span = sparse.span(at)?;
        let (indices, deltas) = (sparse.indices.get(span.clone())?, deltas.get(span)?);
        for (pixel, values) in values.iter_mut().enumerate() {
            let x = |index: &u16| rows.at(pixel, (*index).into()).unwrap_or(0.0);
            *values.get_mut(lane)? += indices.iter().zip(deltas).fold(0.0f32, |s, (i, d)| s + x(i) * d);
        }
    }
    Some(())
}

#[inline]
#[target_feature(enable = "neon")]
fn add_dense(
    conv: &Conv<'_>,
    first: usize,
    panel: Panel,
    rows: &Rows<'_, f32, ROW_ALIGN>,
    values: &mut [[f32; WIDTH]],
) -> Option<()> {
    let Some(delta) = conv.terms.dense else { return Some(()) };
    let delta = delta.get(first * rows.len..)?.get(..panel.count * rows.len)?;
    for (pixel, values) in values.iter_mut().enumerate() {
        let patch = rows.row(pixel)?.get(..rows.len)?;
        let rows = delta.chunks_exact(rows.len.max(1));
        values.iter_mut().zip(rows).for_each(|(v, row)| *v += dot(row, patch));
    }
    Some(())
}

#[inline]
#[target_feature(enable = "neon")]
fn add_affine(conv: &Conv<'_>, first: usize, values: &mut [[f32; WIDTH]]) {
    let Some(affine) = conv.terms.affine else { return };
    let (scale, shift): ([f32; WIDTH], [f32; WIDTH]) =
        (block(affine.scale, first), block(affine.shift, first));
    for values in values {
        let pairs = scale.iter().zip(&shift);
        values.iter_mut().zip(pairs).for_each(|(v, (scale, shift))| *v = *v * scale + shift);
    }
}

/// Memory for one block of pixels.
struct Scratch<'m> {
    /// Gathered patches.
    patches: &'m mut [f32],
    /// `A·x` of a two-factor term, `[pixel][rank]`.
    latent: &'m mut [f32],
    /// `B` of a panel of channels, `[rank][channel]`.
    up: &'m mut [[f32; WIDTH]],
}

impl<'m> Scratch<'m> {
    fn bytes(shape: &ConvShape) -> usize {
        (MAX_TERM_RANK * (BLOCK + WIDTH) + Self::patch(shape)) * 4
    }

    fn new(mut memory: &'m mut [u8], conv: &Conv<'_>) -> Option<Self> {
        let rank = conv.terms.two_factor.map_or(0, |term| term.rank);
        (rank <= MAX_TERM_RANK).then_some(())?;
        Some(Self {
            latent: take(&mut memory, MAX_TERM_RANK * BLOCK)?,
            up: take(&mut memory, MAX_TERM_RANK)?,
            patches: take(&mut memory, Self::patch(&conv.shape))?,
        })
    }

    /// In place, only rows whose padding would pass the end of the input are gathered.
    fn patch(shape: &ConvShape) -> usize {
        if in_place(shape) && shape.row().is_multiple_of(ROW_ALIGN) {
            0
        } else {
            Rows::<f32, ROW_ALIGN>::buffer(shape)
        }
    }
}
