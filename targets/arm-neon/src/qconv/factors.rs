//! Integer factors as the kernels read them, packed when an adapter is.

use core::ops::Range;

use ingraft_kernel::attrs::QConvAttrs;
use ingraft_kernel::terms::{Factors, MAX_TERM_RANK, TwoFactor};
use ingraft_kernel::window::{ConvShape, row};
use ingraft_kernel::{KernelError, Step};
use ingraft_tensor::bytes;

use super::Part;
use super::rank_space::{RUN, RankSpace, lanes, stride};
use crate::panel::WIDTH;

/// `−zx·Σa` of each row: what makes sums over codes sums over `x − zx`.
fn offset(zero_point: i32, row: &[i8]) -> i32 {
    row.iter().map(|a| i32::from(*a)).sum::<i32>().wrapping_mul(zero_point).wrapping_neg()
}

/// Rows of `A` that are multiplied together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Down {
    rank: usize,
    /// Codes of a row.
    len: usize,
    /// Codes of a row with padding.
    padded: usize,
}

impl Down {
    pub(super) fn new<D: RankSpace>(shape: &ConvShape, rank: usize) -> Self {
        Self { rank, len: shape.row(), padded: shape.row().next_multiple_of(D::CODES) }
    }

    /// The first row of each part.
    pub(super) fn firsts(&self) -> impl Iterator<Item = usize> + use<> {
        (0..self.rank).step_by(lanes(self.rank))
    }

    /// Elements of a part.
    pub(super) fn elements(&self) -> usize {
        lanes(self.rank) * self.padded
    }

    /// Writes the part from `first` on of the rows `down` of a group into `out`, unless it is `packed` already, and minus
    /// `zero_point` times their sums into `offsets`.
    pub(super) fn pack<D: RankSpace>(
        &self,
        zero_point: i32,
        down: &[i8],
        first: usize,
        out: &mut [i8],
        offsets: &mut [i32],
        packed: bool,
    ) -> Option<()> {
        let alternating = D::alternating(lanes(self.rank));
        offsets.fill(0);
        if !packed {
            out.fill(0);
        }
        for (i, offset_of) in offsets.iter_mut().enumerate().take(self.rank - first) {
            let row = row(down, first + i, self.len)?;
            *offset_of = offset(zero_point, row);
            if packed {
                continue;
            }
            let out = out.get_mut(i / alternating * alternating * self.padded..)?;
            let runs = out.chunks_exact_mut(D::CODES).skip(i % alternating).step_by(alternating);
            for (out, codes) in runs.zip(row.chunks(D::CODES)) {
                out.iter_mut().zip(codes).for_each(|(out, code)| *out = *code);
            }
        }
        Some(())
    }
}

/// Writes `B` of sixteen channels, as many of them as `channels` has, into `out`.
pub(super) fn pack_up<D: RankSpace>(
    up: &[i8],
    rank: usize,
    channels: Range<usize>,
    out: &mut [u8],
) -> Option<()> {
    let each = (0..WIDTH / 4).flat_map(|n| (0..stride(rank) / RUN).map(move |run| (n, run)));
    for ((n, run), out) in each.zip(out.chunks_exact_mut(D::UP)) {
        let mut four = [[0; RUN]; 4];
        for (channel, four) in (channels.start + 4 * n..channels.end).zip(&mut four) {
            let row = row(up, channel, rank)?.get(run * RUN..).unwrap_or(&[]);
            four.iter_mut().zip(row).for_each(|(out, b)| *out = *b);
        }
        D::pack_up(&four, out);
    }
    Some(())
}

/// Bytes of `B` for sixteen channels.
pub(super) fn up_bytes<D: RankSpace>(rank: usize) -> usize {
    WIDTH / 4 * (stride(rank) / RUN) * D::UP
}

/// What [`pack`] wrote.
#[derive(Clone, Copy)]
pub(super) struct Packed<'f> {
    /// Of every row of `A`.
    offsets: &'f [i32],
    /// `B` of every panel of channels.
    up: &'f [u8],
    /// `A` of every group.
    down: &'f [i8],
}

impl<'f> Packed<'f> {
    /// `None` where nothing was packed.
    pub(super) fn new<D: RankSpace>(shape: &ConvShape, rank: usize, packed: &'f [u8]) -> Option<Self> {
        let [offsets, up, _] = sizes::<D>(shape, rank);
        let (offsets, rest) = packed.split_at_checked(offsets)?;
        let (up, down) = rest.split_at_checked(up)?;
        Some(Self { offsets: bytes::cast(offsets)?, up, down: bytes::cast(down)? })
    }

    /// The part of `A` from row `first` of `group` on, and its offsets.
    pub(super) fn down(&self, layout: &Down, group: usize, first: usize) -> Option<(&'f [i8], &'f [i32])> {
        let row = group * stride(layout.rank) + first;
        let down = self.down.get(row * layout.padded..)?.get(..layout.elements())?;
        Some((down, self.offsets.get(row..)?.get(..lanes(layout.rank))?))
    }

    /// `B` of the channels of `part`.
    pub(super) fn up<D: RankSpace>(
        &self,
        shape: &ConvShape,
        part: &Part<'_>,
        rank: usize,
    ) -> Option<&'f [u8]> {
        let panel = part.block.group * shape.out_group.div_ceil(WIDTH) + part.panel.first / WIDTH;
        self.up.get(panel * up_bytes::<D>(rank)..)?.get(..up_bytes::<D>(rank))
    }
}

/// Bytes of the three parts.
fn sizes<D: RankSpace>(shape: &ConvShape, rank: usize) -> [usize; 3] {
    let down = stride(rank) * Down::new::<D>(shape, rank).padded;
    let up = shape.out_group.div_ceil(WIDTH) * up_bytes::<D>(rank);
    [stride(rank) * size_of::<i32>(), up, down].map(|bytes| bytes * shape.groups)
}

/// Bytes of packed factors; none of real ones.
pub(super) fn bytes<D: RankSpace>(step: &Step<'_>, term: &TwoFactor<'_>) -> usize {
    let integer = matches!(term.factors, Factors::I8 { .. }) && term.rank <= MAX_TERM_RANK;
    let shape = super::shape(step).filter(|_| integer);
    shape.map_or(0, |shape| sizes::<D>(&shape, term.rank).iter().sum())
}

/// Packs integer factors into as many bytes as [`bytes`] says.
pub(super) fn pack<D: RankSpace>(
    step: &Step<'_>,
    term: &TwoFactor<'_>,
    out: &mut [u8],
) -> Result<(), KernelError> {
    let attrs: &QConvAttrs = step.attrs()?;
    let shape = super::shape(step).ok_or(KernelError::Operands(step.op))?;
    write::<D>(&shape, attrs.in_zero_point, term, out).ok_or(KernelError::Memory(step.op))
}

fn write<D: RankSpace>(
    shape: &ConvShape,
    zero_point: i32,
    term: &TwoFactor<'_>,
    out: &mut [u8],
) -> Option<()> {
    let (rank, Factors::I8 { down, up, .. }) = (term.rank, term.factors) else { return None };
    let [offsets_bytes, up_all, _] = sizes::<D>(shape, rank);
    let (offsets, rest) = out.split_at_mut_checked(offsets_bytes)?;
    let (all_up, all_down) = rest.split_at_mut_checked(up_all)?;
    let layout = Down::new::<D>(shape, rank);
    let mut offsets = bytes::cast_mut::<i32>(offsets)?.chunks_exact_mut(lanes(rank));
    let mut parts = bytes::cast_mut::<i8>(all_down)?.chunks_exact_mut(layout.elements().max(1));
    for group in 0..shape.groups {
        let down = down.get(group * rank * layout.len..)?.get(..rank * layout.len)?;
        for first in layout.firsts() {
            layout.pack::<D>(zero_point, down, first, parts.next()?, offsets.next()?, false)?;
        }
    }
    let panels = all_up.chunks_exact_mut(up_bytes::<D>(rank).max(1));
    let each = |group: usize| {
        let channels = group * shape.out_group..(group + 1) * shape.out_group;
        channels.clone().step_by(WIDTH).map(move |first| first..channels.end.min(first + WIDTH))
    };
    for (channels, out) in (0..shape.groups).flat_map(each).zip(panels) {
        pack_up::<D>(up, rank, channels, out)?;
    }
    Some(())
}
