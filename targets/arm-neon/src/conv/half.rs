//! The same by products in f16, for who asks for it; all else in f32.

use ingraft_kernel::conv::{Conv, KERNEL as REFERENCE};
use ingraft_kernel::window::ConvShape;
use ingraft_kernel::{Call, Kernel, KernelError, OpCode, Step};
use ingraft_tensor::{DType, bytes};

use super::{Products, Scratch, TERM_BYTES, Values, constant, layout, patch, shape, write};
use crate::fma::ROW_ALIGN;
use crate::half::{Channels, ROW_ALIGN as HALF_ALIGN, activations, channel_scale, eight, multiply};
use crate::lanes::block;
use crate::panel::{Layout, Panel, WIDTH};
use crate::tile::{Block, Rows, after_operands, take};

/// f32 in and out, products in f16.
pub(crate) const KERNEL: Kernel =
    Kernel::new("conv_f32_f32_f32__fp16", OpCode::Conv, Some(DType::F32), Some(DType::F32), run)
        .checked(check)
        .with_workspace(workspace)
        .with_packed(packed, pack);

/// With fewer channels than a panel has, rounding activations takes what is gained.
fn check(step: &Step<'_>) -> Result<(), KernelError> {
    (REFERENCE.check)(step)?;
    constant(step)?;
    match shape(step) {
        Some(shape) if shape.out_group >= WIDTH => Ok(()),
        _ => Err(KernelError::Operands(step.op)),
    }
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
    shape(step).map_or(0, |shape| Group::bytes(&layout(&shape)) * shape.groups)
}

fn pack(step: &Step<'_>, out: &mut [u8]) -> Result<(), KernelError> {
    let shape = shape(step).ok_or(KernelError::Operands(step.op))?;
    let (weight, layout) = (constant(step)?, layout(&shape));
    let groups = out.chunks_exact_mut(Group::bytes(&layout).max(1));
    let mut weights = weight.chunks_exact((layout.len * layout.channels).max(1));
    groups
        .take(shape.groups)
        // SAFETY: rows leave this crate only through functions whose arguments prove NEON.
        .try_for_each(|out| unsafe { pack_group(&layout, weights.next()?, out) })
        .ok_or(KernelError::Memory(step.op))
}

#[target_feature(enable = "neon")]
fn pack_group(layout: &Layout, weight: &[f32], out: &mut [u8]) -> Option<()> {
    let (scales, panels) = out.split_at_mut_checked(Group::scales(layout) * 4)?;
    let (scales, panels): (&mut [f32], &mut [u16]) = (bytes::cast_mut(scales)?, bytes::cast_mut(panels)?);
    scales.fill(0.0);
    panels.fill(0);
    for (index, (row, scale)) in weight.chunks_exact(layout.len.max(1)).zip(scales).enumerate() {
        let panel = layout.panels().nth(index / WIDTH)?;
        // A panel has the first element of all its channels, then the second of all.
        let places = panels.get_mut(layout.span(panel))?.iter_mut();
        let mut places = places.skip(index - panel.first).step_by(panel.lanes());
        let factor;
        (factor, *scale) = channel_scale(row);
        for at in (0..row.len()).step_by(8) {
            let half = eight(&block(row, at), factor).into_iter().take(row.len() - at);
            half.zip(places.by_ref()).for_each(|(h, p)| *p = h);
        }
    }
    Some(())
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
    /// Every [`Group`].
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
        block_of: Block,
        rows: &Rows<'_, u16, HALF_ALIGN>,
        panel: Panel,
        bias: &[f32; WIDTH],
        values: &mut Values,
    ) -> Option<()> {
        let layout = layout(&self.shape);
        let Group { scales, panels } = Group::of(&layout, self.packed, block_of.group)?;
        let weights = panels.get(layout.span(panel))?;
        let scales = block(scales, panel.first);
        let channels = Channels { weights, lanes: panel.lanes(), scales, bias: *bias };
        // SAFETY: the caller's promise, f16 arithmetic here.
        unsafe { multiply(block_of, rows, &channels, values) }
    }
}

/// The packed weights of a group.
struct Group<'p> {
    /// What the products of a channel are to be multiplied with, padded as the channels are.
    scales: &'p [f32],
    panels: &'p [u16],
}

impl<'p> Group<'p> {
    fn of(layout: &Layout, packed: &'p [u8], group: usize) -> Option<Self> {
        let bytes = Self::bytes(layout);
        let (scales, panels) =
            packed.get(group * bytes..)?.get(..bytes)?.split_at_checked(Self::scales(layout) * 4)?;
        Some(Self { scales: bytes::cast(scales)?, panels: bytes::cast(panels)? })
    }

    fn scales(layout: &Layout) -> usize {
        layout.channels.next_multiple_of(WIDTH / 2)
    }

    fn bytes(layout: &Layout) -> usize {
        Self::scales(layout) * 4 + layout.elements() * 2
    }
}
