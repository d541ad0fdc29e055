//! Constant weights in f16 beside the scales of their channels, and what rows that have them ask for at bind.

use ingraft_kernel::{Kernel, KernelError, Step};
use ingraft_tensor::bytes;

use super::{Channels, channel_scale, one};
use crate::lanes::block;
use crate::panel::{Layout, Panel, WIDTH, constant};

/// The check of a row in f16: what `reference` takes, with the inputs `constants` in the plan, where it pays.
pub(crate) fn check(
    step: &Step<'_>,
    reference: &Kernel,
    constants: &[usize],
    pays: impl FnOnce() -> Option<bool>,
) -> Result<(), KernelError> {
    (reference.check)(step)?;
    constants.iter().try_for_each(|index| constant::<f32>(step, *index).map(|_| ()))?;
    if pays() == Some(true) { Ok(()) } else { Err(KernelError::Operands(step.op)) }
}

/// Packed memory as a scale for each of `channels`, and the weights.
pub(crate) fn split(packed: &[u8], channels: usize) -> Option<(&[f32], &[u16])> {
    let (scales, weights) = packed.split_at_checked(channels * size_of::<f32>())?;
    bytes::cast(scales).zip(bytes::cast(weights))
}

/// The same, to be written.
pub(crate) fn split_mut(packed: &mut [u8], channels: usize) -> Option<(&mut [f32], &mut [u16])> {
    let (scales, weights) = packed.split_at_mut_checked(channels * size_of::<f32>())?;
    bytes::cast_mut(scales).zip(bytes::cast_mut(weights))
}

/// Writes the weights of a channel, and gives what sums of products with them are to be multiplied with.
#[target_feature(enable = "neon")]
pub(crate) fn pack<'a, 'p>(
    weights: impl Iterator<Item = &'a f32> + Clone,
    places: impl Iterator<Item = &'p mut u16>,
) -> f32 {
    let (factor, scale) = channel_scale(weights.clone());
    for (place, weight) in places.zip(weights) {
        *place = one(weight * factor);
    }
    scale
}

/// Rows of weights in panels of channels.
pub(crate) struct Panels<'p> {
    layout: Layout,
    /// Of every channel, padded as the channels are.
    scales: &'p [f32],
    weights: &'p [u16],
}

impl<'p> Panels<'p> {
    /// What [`Self::pack`] wrote.
    pub(crate) fn new(layout: Layout, packed: &'p [u8]) -> Option<Self> {
        let (scales, weights) = split(packed.get(..Self::bytes(&layout))?, Self::scales(&layout))?;
        Some(Self { layout, scales, weights })
    }

    /// Bytes of packed rows.
    pub(crate) fn bytes(layout: &Layout) -> usize {
        Self::scales(layout) * size_of::<f32>() + layout.elements() * size_of::<u16>()
    }

    fn scales(layout: &Layout) -> usize {
        layout.channels.next_multiple_of(WIDTH / 2)
    }

    /// Writes the rows `weight`; `None` when either is too short.
    #[target_feature(enable = "neon")]
    pub(crate) fn pack(layout: &Layout, weight: &[f32], out: &mut [u8]) -> Option<()> {
        let (scales, panels) = split_mut(out.get_mut(..Self::bytes(layout))?, Self::scales(layout))?;
        scales.fill(0.0);
        panels.fill(0);
        let weight = weight.get(..layout.len * layout.channels)?;
        for (index, (row, scale)) in weight.chunks_exact(layout.len.max(1)).zip(scales).enumerate() {
            let panel = layout.panels().nth(index / WIDTH)?;
            // A panel has the first element of all its channels, then the second of all.
            let places = panels.get_mut(layout.span(panel))?.iter_mut();
            *scale = pack(row.iter(), places.skip(index - panel.first).step_by(panel.lanes()));
        }
        Some(())
    }

    /// The channels of `panel`.
    pub(crate) fn channels(&self, panel: Panel, bias: [f32; WIDTH]) -> Option<Channels<'p>> {
        let weights = self.weights.get(self.layout.span(panel))?;
        Some(Channels { weights, lanes: panel.lanes(), scales: block(self.scales, panel.first), bias })
    }
}
