//! The workspace of a convolution.

use ingraft_kernel::qconv::QConv;
use ingraft_kernel::window::ConvShape;

use super::low_rank::Latent;
use super::rank_space::RankSpace;
use crate::dot::ROW_ALIGN;
use crate::panel::WIDTH;
use crate::tile::{Rows, in_place, take};

/// Memory for one block of pixels. Its size does not depend on which terms are active.
pub(super) struct Scratch<'m> {
    /// Gathered patches.
    pub(super) patches: &'m mut [i8],
    /// A panel of patched weights.
    pub(super) panel: &'m mut [i8],
    /// Projections to rank space.
    pub(super) latent: Latent<'m>,
}

impl<'m> Scratch<'m> {
    /// Bytes that [`Self::new`] takes.
    pub(super) fn bytes(shape: &ConvShape) -> usize {
        Latent::bytes(shape) + panel_bytes(shape) + patch_bytes(shape)
    }

    /// `None` when `memory` is too small.
    pub(super) fn new<D: RankSpace>(mut memory: &'m mut [u8], conv: &QConv<'m>) -> Option<Self> {
        let shape = &conv.shape;
        Some(Self {
            latent: Latent::new::<D>(&mut memory, conv)?,
            panel: take(&mut memory, panel_bytes(shape))?,
            patches: take(&mut memory, patch_bytes(shape))?,
        })
    }
}

/// A panel of the greatest depth.
fn panel_bytes(shape: &ConvShape) -> usize {
    WIDTH * shape.row().next_multiple_of(ROW_ALIGN)
}

/// In place, only rows whose padding would pass the end of the input are gathered.
fn patch_bytes(shape: &ConvShape) -> usize {
    if in_place(shape) && shape.row().is_multiple_of(ROW_ALIGN) {
        0
    } else {
        Rows::<i8, ROW_ALIGN>::buffer(shape)
    }
}
