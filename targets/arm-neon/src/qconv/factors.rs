//! Integer factors as the kernels read them, packed when an adapter is.

use ingraft_kernel::attrs::QConvAttrs;
use ingraft_kernel::terms::{Factors, MAX_TERM_RANK, TwoFactor};
use ingraft_kernel::window::{ConvShape, row};
use ingraft_kernel::{KernelError, Step};
use ingraft_tensor::bytes;

use super::Part;
use super::fused::RUN;
use crate::dot::Dot;
use crate::panel::{Layout, Panel, WIDTH};
use crate::rank::transpose;

/// The panels of one group's `A`.
pub(super) fn layout<D: Dot>(shape: &ConvShape, rank: usize) -> Layout {
    Layout { depth: D::DEPTH, len: shape.row(), channels: rank }
}

/// Values of a pixel in rank space, with padding.
pub(super) fn stride(rank: usize) -> usize {
    rank.next_multiple_of(RUN)
}

/// `−zx·Σa` of the rows of a panel: what makes sums over codes sums over `x − zx`.
pub(super) fn offsets(zero_point: i32, down: &[i8], panel: Panel, len: usize) -> Option<[i32; WIDTH]> {
    let mut offsets = [0i32; WIDTH];
    for (lane, offset) in offsets.iter_mut().take(panel.count).enumerate() {
        let sum = row(down, panel.first + lane, len)?.iter().map(|a| i32::from(*a)).sum::<i32>();
        *offset = sum.wrapping_mul(zero_point).wrapping_neg();
    }
    Some(offsets)
}

/// What [`pack`] wrote.
pub(super) struct Packed<'f> {
    /// Of every panel of `A`.
    offsets: &'f [[i32; WIDTH]],
    /// `B` of every panel of channels, `[rank][channel]`.
    up: &'f [[i16; WIDTH]],
    /// `A` of every group.
    down: &'f [i8],
}

impl<'f> Packed<'f> {
    /// `None` where nothing was packed.
    pub(super) fn new<D: Dot>(shape: &ConvShape, rank: usize, packed: &'f [u8]) -> Option<Self> {
        let [offsets, up, _] = sizes::<D>(shape, rank);
        let (offsets, rest) = packed.split_at_checked(offsets)?;
        let (up, down) = rest.split_at_checked(up)?;
        let (offsets, up): (&[i32], &[i16]) = (bytes::cast(offsets)?, bytes::cast(up)?);
        Some(Self { offsets: offsets.as_chunks().0, up: up.as_chunks().0, down: bytes::cast(down)? })
    }

    /// A panel of `A`, and its offsets.
    pub(super) fn down(
        &self,
        layout: &Layout,
        group: usize,
        panel: Panel,
    ) -> Option<(&'f [i8], [i32; WIDTH])> {
        let offsets = self.offsets.get(group * layout.channels.div_ceil(WIDTH) + panel.first / WIDTH)?;
        let down = self.down.get(group * layout.elements()..)?.get(layout.span(panel))?;
        Some((down, *offsets))
    }

    /// `B` of the channels of `part`.
    pub(super) fn up(&self, shape: &ConvShape, part: &Part<'_>, rank: usize) -> Option<&'f [[i16; WIDTH]]> {
        let panel = part.block.group * shape.out_group.div_ceil(WIDTH) + part.panel.first / WIDTH;
        self.up.get(panel * stride(rank)..)?.get(..stride(rank))
    }
}

/// Bytes of the three parts.
fn sizes<D: Dot>(shape: &ConvShape, rank: usize) -> [usize; 3] {
    let offsets = rank.div_ceil(WIDTH) * WIDTH * size_of::<i32>();
    let up = shape.out_group.div_ceil(WIDTH) * WIDTH * stride(rank) * size_of::<i16>();
    [offsets, up, layout::<D>(shape, rank).elements()].map(|bytes| bytes * shape.groups)
}

/// Bytes of packed factors; none of real ones.
pub(super) fn bytes<D: Dot>(step: &Step<'_>, term: &TwoFactor<'_>) -> usize {
    let integer = matches!(term.factors, Factors::I8 { .. }) && term.rank <= MAX_TERM_RANK;
    let shape = super::shape(step).filter(|_| integer);
    shape.map_or(0, |shape| sizes::<D>(&shape, term.rank).iter().sum())
}

/// Packs integer factors into as many bytes as [`bytes`] says.
pub(super) fn pack<D: Dot>(step: &Step<'_>, term: &TwoFactor<'_>, out: &mut [u8]) -> Result<(), KernelError> {
    let attrs: &QConvAttrs = step.attrs()?;
    let shape = super::shape(step).ok_or(KernelError::Operands(step.op))?;
    write::<D>(&shape, attrs.in_zero_point, term, out).ok_or(KernelError::Memory(step.op))
}

fn write<D: Dot>(shape: &ConvShape, zero_point: i32, term: &TwoFactor<'_>, out: &mut [u8]) -> Option<()> {
    let (rank, Factors::I8 { down, up, .. }) = (term.rank, term.factors) else { return None };
    let [offsets_bytes, up_bytes, _] = sizes::<D>(shape, rank);
    let (all_offsets, rest) = out.split_at_mut_checked(offsets_bytes)?;
    let (all_up, all_down) = rest.split_at_mut_checked(up_bytes)?;
    let (all_offsets, all_up): (&mut [i32], &mut [i16]) =
        (bytes::cast_mut(all_offsets)?, bytes::cast_mut(all_up)?);
    let (mut all_offsets, layout) = (all_offsets.as_chunks_mut().0.iter_mut(), layout::<D>(shape, rank));
    let groups = bytes::cast_mut::<i8>(all_down)?.chunks_exact_mut(layout.elements().max(1));
    for (group, out) in groups.enumerate() {
        let down = down.get(group * rank * layout.len..)?.get(..rank * layout.len)?;
        layout.pack_all(down, out)?;
        for panel in layout.panels() {
            *all_offsets.next()? = offsets(zero_point, down, panel, layout.len)?;
        }
    }
    let panels = all_up.as_chunks_mut().0.chunks_exact_mut(stride(rank).max(1));
    let each = |group: usize| {
        let channels = group * shape.out_group..(group + 1) * shape.out_group;
        channels.clone().step_by(WIDTH).map(move |first| first..channels.end.min(first + WIDTH))
    };
    for (channels, out) in (0..shape.groups).flat_map(each).zip(panels) {
        transpose(up, rank, channels, out, i16::from)?;
    }
    Some(())
}
