//! f32 convolution and linear layers, with adapter terms in the epilogue.
//!
//! What multiplies rows with weights is one of [`Products`]: in f32 here, in f16 in `half`.

pub(crate) mod half;
mod terms;

use core::arch::aarch64::*;

use ingraft_kernel::attrs::ConvAttrs;
use ingraft_kernel::conv::{Conv, KERNEL as REFERENCE};
use ingraft_kernel::terms::MAX_TERM_RANK;
use ingraft_kernel::window::ConvShape;
use ingraft_kernel::{Call, Kernel, KernelError, OpCode, Step};
use ingraft_tensor::{DType, bytes};

use crate::fma::{ROW_ALIGN, Sink, multiply};
use crate::lanes::{block, store_f32};
use crate::panel::{Layout, Panel, WIDTH, constant};
use crate::requantize;
use crate::tile::{BLOCK, Block, Rows, after_operands, in_place, take};
use terms::{add_affine, add_dense, add_low_rank, add_sparse, project};

/// f32 throughout.
pub(crate) const KERNEL: Kernel =
    Kernel::new("conv_f32_f32_f32__neon", OpCode::Conv, Some(DType::F32), Some(DType::F32), run)
        .checked(check)
        .with_workspace(workspace)
        .with_packed(packed, pack);

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    (REFERENCE.check)(step)?;
    constant::<f32>(step, 1).map(|_| ())
}

pub(crate) fn shape(step: &Step<'_>) -> Option<ConvShape> {
    let attrs: &ConvAttrs = step.attrs().ok()?;
    let (input, output) = (step.input(0).ok()?.shape, step.output(0).ok()?.shape);
    ConvShape::new(&attrs.window, attrs.groups as usize, input, output)
}

/// The panels of one group.
fn layout(shape: &ConvShape) -> Layout {
    Layout { depth: 1, len: shape.row(), channels: shape.out_group }
}

fn workspace(step: &Step<'_>) -> usize {
    shape(step).map_or(0, |shape| TERM_BYTES + patch(&shape) * 4)
}

fn packed(step: &Step<'_>) -> usize {
    shape(step).map_or(0, |shape| layout(&shape).elements() * shape.groups * 4)
}

fn pack(step: &Step<'_>, out: &mut [u8]) -> Result<(), KernelError> {
    let shape = shape(step).ok_or(KernelError::Operands(step.op))?;
    let (weight, layout) = (constant(step, 1)?, layout(&shape));
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
    let mut memory = core::mem::take(&mut call.workspace);
    let patches = take(&mut memory, patch(&conv.shape)).ok_or(error)?;
    let scratch = Scratch::new(&mut memory, &conv, patches, &mut []).ok_or(error)?;
    let packed = bytes::cast(call.packed).ok_or(error)?;
    write(call, &conv, &Floats { conv: &conv, layout: layout(&conv.shape), packed }, scratch)
}

/// Computes the whole output.
#[inline]
#[target_feature(enable = "neon")]
fn write<P: Products>(
    call: &mut Call<'_, '_>,
    conv: &Conv<'_>,
    products: &P,
    scratch: Scratch<'_, P::Element>,
) -> Result<(), KernelError> {
    let error = after_operands(call);
    let (out, mut mask) = call.out_and_mask::<f32>()?;
    let ConvAttrs { lo, hi, .. } = *conv.attrs;
    let channels = conv.shape.output[3];
    for_each_part(conv, products, scratch, |block, first, panel, values| {
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

/// How activations meet weights.
trait Products {
    /// An element of a row.
    type Element;
    /// The rows of a block.
    type Rows<'r>
    where
        Self: 'r;

    /// The rows of `block`, gathered into `patches` unless they are read in place.
    fn rows<'r>(&'r self, block: Block, patches: &'r mut [Self::Element]) -> Option<Self::Rows<'r>>;

    /// The same rows in f32, where they are.
    fn floats<'r>(rows: &Self::Rows<'r>) -> Option<Rows<'r, f32, ROW_ALIGN>>
    where
        Self: 'r;

    /// Writes bias plus products of every row of `block` with `panel`.
    ///
    /// # Safety
    /// The processor executes what the implementation stands for.
    unsafe fn multiply(
        &self,
        block: Block,
        rows: &Self::Rows<'_>,
        panel: Panel,
        bias: &[f32; WIDTH],
        values: &mut Values,
    ) -> Option<()>;
}

/// Products in f32.
struct Floats<'p> {
    conv: &'p Conv<'p>,
    layout: Layout,
    /// The panels of every group.
    packed: &'p [f32],
}

impl Products for Floats<'_> {
    type Element = f32;
    type Rows<'r>
        = Rows<'r, f32, ROW_ALIGN>
    where
        Self: 'r;

    #[inline(always)]
    fn rows<'r>(&'r self, block: Block, patches: &'r mut [f32]) -> Option<Self::Rows<'r>> {
        Rows::new(&self.conv.shape, self.conv.input, 0.0, block, patches)
    }

    #[inline(always)]
    fn floats<'r>(rows: &Self::Rows<'r>) -> Option<Rows<'r, f32, ROW_ALIGN>>
    where
        Self: 'r,
    {
        Some(*rows)
    }

    #[inline(always)]
    unsafe fn multiply(
        &self,
        block: Block,
        rows: &Rows<'_, f32, ROW_ALIGN>,
        panel: Panel,
        bias: &[f32; WIDTH],
        values: &mut Values,
    ) -> Option<()> {
        let weights =
            self.packed.get(block.group * self.layout.elements()..)?.get(self.layout.span(panel))?;
        // SAFETY: the caller's promise, NEON here.
        unsafe { multiply(block, rows, weights, panel.lanes(), bias, values) }
    }
}

/// Calls `visit(block, first channel, panel, values)` with the pre-activation values of every
/// part of the output.
#[inline]
#[target_feature(enable = "neon")]
fn for_each_part<P: Products>(
    conv: &Conv<'_>,
    products: &P,
    scratch: Scratch<'_, P::Element>,
    mut visit: impl FnMut(Block, usize, Panel, &[[f32; WIDTH]]) -> Option<()>,
) -> Option<()> {
    let layout = layout(&conv.shape);
    let mut values: Values = [[0.0; WIDTH]; BLOCK];
    // Scale and shift read no row.
    let terms_read_rows = conv.terms.two_factor.is_some() || conv.terms.has_delta();
    for group in 0..conv.shape.groups {
        for block_of in Block::all(&conv.shape, group, BLOCK) {
            let rows = products.rows(block_of, scratch.patches)?;
            let floats = match P::floats(&rows) {
                Some(floats) => floats,
                None if !terms_read_rows => Rows::EMPTY,
                None => Rows::new(&conv.shape, conv.input, 0.0, block_of, scratch.floats)?,
            };
            project(conv, block_of, &floats, scratch.latent)?;
            for panel in layout.panels() {
                let first = group * layout.channels + panel.first;
                let bias = block(conv.bias, first);
                // SAFETY: rows leave this crate only through functions whose arguments prove what they execute.
                unsafe { products.multiply(block_of, &rows, panel, &bias, &mut values) }?;
                let values = values.get_mut(..block_of.pixels)?;
                add_low_rank(conv, first, panel, scratch.latent, scratch.up, values)?;
                add_sparse(conv, first, panel, &floats, values)?;
                add_dense(conv, first, panel, &floats, values)?;
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

/// Memory for one block of pixels.
struct Scratch<'m, T> {
    /// Gathered patches.
    patches: &'m mut [T],
    /// Those in f32 that the terms read, where the products read others.
    floats: &'m mut [f32],
    /// `A·x` of a two-factor term, `[pixel][rank]`.
    latent: &'m mut [f32],
    /// `B` of a panel of channels, `[rank][channel]`.
    up: &'m mut [[f32; WIDTH]],
}

/// Bytes of what a term takes.
const TERM_BYTES: usize = MAX_TERM_RANK * (BLOCK + WIDTH) * 4;

impl<'m, T> Scratch<'m, T> {
    /// `memory` has [`TERM_BYTES`].
    fn new(
        memory: &mut &'m mut [u8],
        conv: &Conv<'_>,
        patches: &'m mut [T],
        floats: &'m mut [f32],
    ) -> Option<Self> {
        let rank = conv.terms.two_factor.map_or(0, |term| term.rank);
        (rank <= MAX_TERM_RANK).then_some(())?;
        let latent = take(memory, MAX_TERM_RANK * BLOCK)?;
        Some(Self { latent, up: take(memory, MAX_TERM_RANK)?, patches, floats })
    }
}

/// Elements of gathered patches: in place, only rows whose padding would pass the end of the input are gathered.
fn patch(shape: &ConvShape) -> usize {
    if in_place(shape) && shape.row().is_multiple_of(ROW_ALIGN) {
        0
    } else {
        Rows::<f32, ROW_ALIGN>::buffer(shape)
    }
}
