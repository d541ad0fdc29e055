//! The same by products in f16, for who asks for it; all else in f32.

use ingraft_kernel::conv::{Conv, KERNEL as REFERENCE};
use ingraft_kernel::window::ConvShape;
use ingraft_kernel::{Call, Kernel, KernelError, OpCode, Step};
use ingraft_tensor::DType;

use super::{Products, Scratch, TERM_BYTES, Values, layout, patch, shape, write};
use crate::fma::ROW_ALIGN;
use crate::half::weights::{self, Panels};
use crate::half::{ROW_ALIGN as HALF_ALIGN, activations, multiply};
use crate::panel::{Panel, WIDTH, constant};
use crate::tile::{Block, Rows, after_operands, take};

/// f32 in and out, products in f16.
pub(crate) const KERNEL: Kernel =
    Kernel::new("conv_f32_f32_f32__fp16", OpCode::Conv, Some(DType::F32), Some(DType::F32), run)
        .checked(check)
        .with_workspace(workspace)
        .with_packed(packed, pack);

/// With fewer channels than a panel has, rounding activations takes what is gained.
fn check(step: &Step<'_>) -> Result<(), KernelError> {
    weights::check(step, &REFERENCE, &[1], || Some(shape(step)?.out_group >= WIDTH))
}

fn workspace(step: &Step<'_>) -> usize {
    shape(step).map_or(0, |shape| {
        let halves = copy(&shape) + Rows::<u16, HALF_ALIGN>::buffer(&shape);
        TERM_BYTES + patch(&shape) * 4 + halves * 2
    })
}

/// Elements of the input in f16, its last row readable as far as rows are.
fn copy(shape: &ConvShape) -> usize {
    (shape.input.iter().product::<usize>() + HALF_ALIGN).next_multiple_of(HALF_ALIGN)
}

fn packed(step: &Step<'_>) -> usize {
    shape(step).map_or(0, |shape| Panels::bytes(&layout(&shape)) * shape.groups)
}

fn pack(step: &Step<'_>, out: &mut [u8]) -> Result<(), KernelError> {
    let shape = shape(step).ok_or(KernelError::Operands(step.op))?;
    let (weight, layout) = (constant(step, 1)?, layout(&shape));
    let groups = out.chunks_exact_mut(Panels::bytes(&layout).max(1));
    let mut weights = weight.chunks_exact((layout.len * layout.channels).max(1));
    groups
        .take(shape.groups)
        // SAFETY: rows leave this crate only through functions whose arguments prove NEON.
        .try_for_each(|out| unsafe { Panels::pack(&layout, weights.next()?, out) })
        .ok_or(KernelError::Memory(step.op))
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
    let input = take(&mut memory, copy(&conv.shape)).ok_or(error)?;
    let patches = take(&mut memory, Rows::<u16, HALF_ALIGN>::buffer(&conv.shape)).ok_or(error)?;
    let floats = take(&mut memory, patch(&conv.shape)).ok_or(error)?;
    let scratch = Scratch::new(&mut memory, &conv, patches, floats).ok_or(error)?;
    activations(conv.input, input);
    write(call, &conv, &Halves { shape: conv.shape, packed: call.packed, input }, scratch)
}

/// Products in f16.
struct Halves<'p> {
    shape: ConvShape,
    /// The [`Panels`] of every group.
    packed: &'p [u8],
    input: &'p [u16],
}

impl Products for Halves<'_> {
    type Element = u16;
    type Rows<'r>
        = Rows<'r, u16, HALF_ALIGN>
    where
        Self: 'r;

    #[inline(always)]
    fn rows<'r>(&'r self, block: Block, patches: &'r mut [u16]) -> Option<Self::Rows<'r>> {
        Rows::new(&self.shape, self.input, 0, block, patches)
    }

    #[inline(always)]
    fn floats<'r>(_: &Self::Rows<'r>) -> Option<Rows<'r, f32, ROW_ALIGN>>
    where
        Self: 'r,
    {
        None
    }

    #[inline(always)]
    unsafe fn multiply(
        &self,
        block: Block,
        rows: &Rows<'_, u16, HALF_ALIGN>,
        panel: Panel,
        bias: &[f32; WIDTH],
        values: &mut Values,
    ) -> Option<()> {
        let layout = layout(&self.shape);
        let packed = self.packed.get(block.group * Panels::bytes(&layout)..)?;
        let channels = Panels::new(layout, packed)?.channels(panel, *bias)?;
        // SAFETY: the caller's promise, f16 arithmetic here.
        unsafe { multiply(block, rows, &channels, values) }
    }
}
