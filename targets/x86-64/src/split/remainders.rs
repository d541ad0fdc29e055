//! What splitting leaves over, and where it lies behind the weights.

use super::LANES;
use super::order::{self, Order};
use crate::columns::Layout;
use crate::patches::STEP;

/// Steps of a vector for each remainder that an overlay has room for: some 4 in 100 weights may be changed.
const ROOM: usize = 32;

/// What is left of the weights of one vector of channels: four of each lane, the lanes' steps, and where these begin in a
/// patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Remainder<'r>(pub(super) &'r [u8; BYTES]);

/// Of a remainder.
pub(super) const BYTES: usize = 48;
/// Where its steps stand, and where these begin in a patch.
pub(super) const STEPS: usize = LANES * STEP;
pub(super) const PLACE: usize = STEPS + LANES;

impl<'r> Remainder<'r> {
    /// Four weights of each lane.
    #[inline(always)]
    pub(crate) fn weights(self) -> *const u8 {
        self.0.as_ptr()
    }

    /// The step of each lane, eight bytes.
    #[inline(always)]
    pub(crate) fn steps(self) -> *const u8 {
        self.0.as_ptr().wrapping_add(STEPS)
    }

    /// Bytes from the start of a patch to the first step that lanes choose from.
    #[inline(always)]
    pub(crate) fn place(self) -> usize {
        let [.., a, b, c, d, _, _, _, _] = *self.0;
        u32::from_le_bytes([a, b, c, d]) as usize
    }
}

/// The remainders of a layer, or of a group.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Remainders<'r> {
    /// Where those of each vector end.
    ends: &'r [[u8; 4]],
    all: &'r [[u8; BYTES]],
    /// The same of an overlay.
    more_ends: &'r [[u8; 4]],
    more: &'r [[u8; BYTES]],
    /// The order of every block of codes, where they have another one.
    orders: &'r [Order],
    /// First vector of what is at work.
    first: usize,
}

impl<'r> Remainders<'r> {
    /// What [`pack`](super::pack) put behind the weights.
    pub(crate) fn new(layout: &Layout, packed: &'r [u8]) -> Option<Self> {
        let [ends, more_ends, orders, all, more] = Parts::new(layout, packed.len())?.of(packed)?;
        let (ends, more_ends, orders) = (ends.as_chunks().0, more_ends.as_chunks().0, orders.as_chunks().0);
        let used = end(more_ends.last());
        let more = more.as_chunks().0.get(..used)?;
        Some(Self { ends, all: all.as_chunks().0, more_ends, more, orders, first: 0 })
    }

    /// The orders of the blocks of `group`, whose patches have `len` bytes; none where codes keep theirs.
    #[inline(always)]
    pub(crate) fn orders(self, group: usize, len: usize) -> &'r [Order] {
        let blocks = len / order::BLOCK;
        self.orders.get(group * blocks..).and_then(|orders| orders.get(..blocks)).unwrap_or(&[])
    }

    /// The same from `vectors` on.
    #[inline(always)]
    pub(crate) fn skip(self, vectors: usize) -> Self {
        Self { first: self.first + vectors, ..self }
    }

    /// Those of vector `n`.
    #[inline(always)]
    pub(crate) fn of(self, n: usize) -> impl Iterator<Item = Remainder<'r>> {
        part(self.ends, self.all, self.first + n)
    }

    /// Those that an overlay left of vector `n`.
    #[inline(always)]
    pub(crate) fn more_of(self, n: usize) -> impl Iterator<Item = Remainder<'r>> {
        let ends = if self.more.is_empty() { &[] } else { self.more_ends };
        part(ends, self.more, self.first + n)
    }
}

#[inline(always)]
fn part<'r>(
    ends: &[[u8; 4]],
    all: &'r [[u8; BYTES]],
    vector: usize,
) -> impl Iterator<Item = Remainder<'r>> + use<'r> {
    all.get(start(ends, vector)..end(ends.get(vector))).unwrap_or(&[]).iter().map(Remainder)
}

/// Where the remainders of a vector begin: where those of the one before end.
#[inline(always)]
pub(super) fn start(ends: &[[u8; 4]], vector: usize) -> usize {
    end(vector.checked_sub(1).and_then(|before| ends.get(before)))
}

/// What an end says; 0 of none.
#[inline(always)]
pub(super) fn end(end: Option<&[u8; 4]>) -> usize {
    end.map_or(0, |end| u32::from_le_bytes(*end) as usize)
}

/// Bytes of the parts behind [`Layout::bytes`]: ends, an overlay's, orders, remainders, and room for those of an overlay.
pub(super) struct Parts([usize; 5]);

impl Parts {
    /// Of `packed` bytes; `None` for too few.
    pub(super) fn new(layout: &Layout, packed: usize) -> Option<Self> {
        let (ends, orders) = (layout.columns.vectors() * layout.groups * 4, order::bytes(layout));
        let rest =
            packed.checked_sub(layout.bytes() + 2 * ends + orders)?.checked_sub(room(layout) * BYTES)?;
        Some(Self([ends, ends, orders, rest, room(layout) * BYTES]))
    }

    /// Bytes with `count` remainders.
    pub(super) fn bytes(layout: &Layout, count: usize) -> usize {
        let ends = layout.columns.vectors() * layout.groups * 4;
        2 * ends + order::bytes(layout) + (count + room(layout)) * BYTES
    }

    pub(super) fn of<'p>(&self, packed: &'p [u8]) -> Option<[&'p [u8]; 5]> {
        let mut rest = packed.get(packed.len().checked_sub(self.0.iter().sum())?..)?;
        let mut parts = [rest; 5];
        for (part, len) in parts.iter_mut().zip(self.0) {
            (*part, rest) = rest.split_at_checked(len)?;
        }
        Some(parts)
    }

    /// What is before the parts, and the parts.
    pub(super) fn of_mut<'p>(&self, packed: &'p mut [u8]) -> Option<(&'p mut [u8], [&'p mut [u8]; 5])> {
        let (head, rest) = packed.split_at_mut_checked(packed.len().checked_sub(self.0.iter().sum())?)?;
        let [a, b, c, d, _] = self.0;
        let (first, rest) = rest.split_at_mut_checked(a)?;
        let (second, rest) = rest.split_at_mut_checked(b)?;
        let (third, rest) = rest.split_at_mut_checked(c)?;
        let (fourth, fifth) = rest.split_at_mut_checked(d)?;
        Some((head, [first, second, third, fourth, fifth]))
    }
}

/// Remainders that there is room for beside the weights' own.
fn room(layout: &Layout) -> usize {
    (layout.columns.vectors() * layout.groups * layout.segments.total_steps()).div_ceil(ROOM)
}
