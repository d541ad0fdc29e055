//! int8 weights in two parts, so that `vpmaddubsw` is exact.
//!
//! The instruction adds two products of a byte of 0…255 with an int8 and saturates the sum at 16 bits. Two weights next to
//! each other fit if their sum lies within ±128: then so does the sum of those of one sign, and 255 · 128 < 2¹⁵. Where it
//! does not, the second weight is packed as far as it fits, and what is left of it goes to a remainder: one vector more,
//! whose lanes choose their step of a patch by themselves, out of eight that follow each other. Neither part can saturate, so
//! together they are exact.
//!
//! Remainders stand behind what [`Layout::pack`] fills, in the order of the vectors they belong to:
//! `[vector][end u32]`, then `[remainder]` of [`Remainder`]'s 48 bytes.

#[cfg(test)]
mod tests;

use crate::columns::{Chunk, Layout, mark_split};
use crate::patches::{STEP, Segments};

/// Steps of a patch that a remainder chooses from.
pub(crate) const CHOICE: usize = 8;

/// Lanes of a vector.
const LANES: usize = 8;

/// Steps of a weight row that are searched together.
const SEARCHED: usize = 256;

/// Remainders for each hundred vectors of weights beyond which products of 16-bit values are faster: a remainder takes four
/// operations, a vector three, and four where codes are 16-bit values.
const MOST_PERCENT: usize = 20;

/// Where the steps of a remainder begin in a patch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Row of the window, and segment within it.
    pub(crate) line: u16,
    pub(crate) column: u16,
    /// Bytes from the start of the segment.
    pub(crate) byte: u32,
}

/// What is left of the weights of one vector of channels: four of each lane, the lanes' steps, and their [`Place`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Remainder<'r>(&'r [u8; BYTES]);

/// Of a remainder.
const BYTES: usize = 48;
/// Where its steps begin.
const STEPS: usize = LANES * STEP;

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

    #[inline(always)]
    pub(crate) fn place(self) -> Place {
        let [.., a, b, c, d, e, f, g, h] = *self.0;
        Place {
            line: u16::from_le_bytes([a, b]),
            column: u16::from_le_bytes([c, d]),
            byte: u32::from_le_bytes([e, f, g, h]),
        }
    }
}

/// The remainders of a layer, or of a group.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Remainders<'r> {
    /// Where those of each vector end.
    ends: &'r [[u8; 4]],
    all: &'r [[u8; BYTES]],
    /// First vector of what is at work.
    first: usize,
}

impl<'r> Remainders<'r> {
    /// What [`pack`] put behind the weights.
    pub(crate) fn new(layout: &Layout, packed: &'r [u8]) -> Option<Self> {
        let (ends, all) = packed.get(layout.bytes()..)?.split_at_checked(ends_bytes(layout))?;
        Some(Self { ends: ends.as_chunks().0, all: all.as_chunks().0, first: 0 })
    }

    /// The same from `vectors` on.
    #[inline(always)]
    pub(crate) fn skip(self, vectors: usize) -> Self {
        Self { first: self.first + vectors, ..self }
    }

    /// Those of vector `n`.
    #[inline(always)]
    pub(crate) fn of(self, n: usize) -> impl Iterator<Item = Remainder<'r>> {
        let end = |vector: usize| self.ends.get(vector).map_or(0, |end| u32::from_le_bytes(*end) as usize);
        let vector = self.first + n;
        let start = vector.checked_sub(1).map_or(0, end);
        self.all.get(start..end(vector)).unwrap_or(&[]).iter().map(Remainder)
    }
}

fn ends_bytes(layout: &Layout) -> usize {
    layout.columns.vectors() * layout.groups * 4
}

/// Whether weight rows of these segments can be split: whole steps, and enough for a remainder to choose from.
pub(crate) fn suits(segments: Segments) -> bool {
    segments.step == STEP && segments.len.is_multiple_of(STEP) && segments.steps() >= CHOICE
}

/// Bytes behind [`Layout::bytes`] for the remainders of `weight`; 0 where they would be so many that splitting does not pay.
pub(crate) fn bytes(layout: &Layout, weight: &[u8]) -> usize {
    let most = most(layout);
    let mut count = 0;
    let searched = suits(layout.segments).then(|| {
        vectors(layout).try_for_each(|vector| {
            search(layout, weight, vector, |_| {
                count += 1;
                (count <= most).then_some(())
            })
        })
    });
    match searched {
        Some(Some(())) => ends_bytes(layout) + count * BYTES,
        _ => 0,
    }
}

fn most(layout: &Layout) -> usize {
    let vectors = layout.columns.vectors() * layout.groups * layout.segments.total_steps();
    vectors * MOST_PERCENT / 100
}

/// Splits weights that [`Layout::pack`] packed, and writes their remainders behind them; `None` where there is no room for all.
pub(crate) fn pack(layout: &Layout, inner: usize, weight: &[u8], packed: &mut [u8]) -> Option<()> {
    let (head, rest) = packed.split_at_mut_checked(layout.bytes())?;
    let (ends, rest) = rest.split_at_mut_checked(ends_bytes(layout))?;
    let (weights, _) = layout.parts_mut(head)?;
    let mut remainders = rest.as_chunks_mut::<BYTES>().0.iter_mut();
    let mut count = 0u32;
    for (vector, end) in vectors(layout).zip(ends.as_chunks_mut::<4>().0) {
        let Vector { group, chunk, n } = vector;
        let start = layout.start_of(group, chunk) + n * LANES * STEP;
        let (pitch, steps) = (chunk.vectors * LANES * STEP, layout.segments.steps());
        search(layout, weight, vector, |found| {
            let remainder = remainders.next()?;
            remainder.fill(0);
            let (line, column) = (found.segment / inner.max(1), found.segment % inner.max(1));
            let (line, column) = (u16::try_from(line).ok()?, u16::try_from(column).ok()?);
            let byte = u32::try_from(found.first * STEP).ok()?;
            remainder[STEPS + LANES..][..2].copy_from_slice(&line.to_le_bytes());
            remainder[STEPS + LANES + 2..][..2].copy_from_slice(&column.to_le_bytes());
            remainder[STEPS + LANES + 4..].copy_from_slice(&byte.to_le_bytes());
            for lane in (0..LANES).filter(|lane| found.lanes & (1 << lane) != 0) {
                let step = usize::from(*found.steps.get(lane)?);
                let at = start + (found.segment * steps + found.first + step) * pitch + lane * STEP;
                let codes = weights.get_mut(at..)?.first_chunk_mut::<STEP>()?;
                *remainder.get_mut(STEPS + lane)? = step as u8;
                remainder.get_mut(lane * STEP..)?.first_chunk_mut::<STEP>()?.copy_from_slice(&parted(codes));
            }
            count += 1;
            Some(())
        })?;
        *end = count.to_le_bytes();
    }
    mark_split(head);
    Some(())
}

/// Leaves of four weights what fits, and gives the rest.
fn parted(codes: &mut [u8; STEP]) -> [u8; STEP] {
    let mut rest = [0; STEP];
    for (pair, rest) in codes.as_chunks_mut::<2>().0.iter_mut().zip(rest.as_chunks_mut::<2>().0) {
        let [first, second] = pair.map(|code| i32::from(code as i8));
        let kept = second.clamp(-128 - first.min(0), 128 - first.max(0));
        pair[1] = kept as i8 as u8;
        rest[1] = (second - kept) as i8 as u8;
    }
    rest
}

/// A vector of channels.
#[derive(Clone, Copy)]
struct Vector {
    group: usize,
    chunk: Chunk,
    n: usize,
}

fn vectors(layout: &Layout) -> impl Iterator<Item = Vector> + use<> {
    let columns = layout.columns;
    (0..layout.groups).flat_map(move |group| {
        columns.chunks().flat_map(move |chunk| (0..chunk.vectors).map(move |n| Vector { group, chunk, n }))
    })
}

/// Steps whose weights are too large in some lanes.
struct Found {
    segment: usize,
    /// The first of [`CHOICE`] steps.
    first: usize,
    /// A bit for each lane that has one, and which it is.
    lanes: u8,
    steps: [u8; LANES],
}

/// Gives what a vector needs remainders for, each lane's first step that is not yet served with those near it.
fn search(
    layout: &Layout,
    weight: &[u8],
    Vector { group, chunk, n }: Vector,
    mut found: impl FnMut(Found) -> Option<()>,
) -> Option<()> {
    let (segments, columns) = (layout.segments, layout.columns);
    let (row, len, steps) = (segments.row(), segments.len, segments.steps());
    let first = chunk.first + n * LANES;
    let count = LANES.min(columns.count.checked_sub(first)?);
    let rows = weight.get((group * columns.count + first) * row..)?.get(..count * row)?;
    let mut marks = [0u8; SEARCHED];
    for segment in 0..segments.count {
        for start in (0..steps).step_by(SEARCHED) {
            let marks = marks.get_mut(..SEARCHED.min(steps - start))?;
            marks.fill(0);
            for (lane, row) in rows.chunks_exact(row).enumerate() {
                let codes = row.get(segment * len + start * STEP..)?.as_chunks().0;
                for (mark, codes) in marks.iter_mut().zip(codes) {
                    *mark |= u8::from(is_too_large(*codes)) << lane;
                }
            }
            let mut at = 0;
            while let Some(next) = marks.get(at..)?.iter().position(|mark| *mark != 0) {
                at += next;
                let first = (start + at).min(steps - CHOICE);
                let mut one = Found { segment, first, lanes: 0, steps: [0; LANES] };
                for (step, mark) in (start + at - first..CHOICE).zip(marks.get_mut(at..)?) {
                    let new = *mark & !one.lanes;
                    *mark &= !new;
                    one.lanes |= new;
                    for (lane, chosen) in one.steps.iter_mut().enumerate() {
                        if new & (1 << lane) != 0 {
                            *chosen = step as u8;
                        }
                    }
                }
                found(one)?;
            }
        }
    }
    Some(())
}

/// Whether a pair of four weights has a sum beyond ±128.
#[inline(always)]
fn is_too_large(codes: [u8; STEP]) -> bool {
    // Codes plus 128, and sums of two plus 256, in 16 bits each: a sum above 384 or below 128 sets the highest of them.
    const EACH: u32 = 0x0001_0001;
    let moved = u32::from_le_bytes(codes) ^ 0x8080_8080;
    let sums = (moved & (0xff * EACH)) + ((moved >> 8) & (0xff * EACH));
    let (above, below) = (sums + (0x7fff - 384) * EACH, (0x8000 + 127) * EACH - sums);
    (above | below) & (0x8000 * EACH) != 0
}
