//! Weights whose neighbors are too large together, and the remainders that they need.

use super::{CHOICE, LANES};
use crate::columns::{Chunk, Layout};
use crate::patches::{STEP, Segments};

/// Steps of a weight row that are searched together.
pub(super) const SEARCHED: usize = 256;

/// A vector of channels.
#[derive(Clone, Copy)]
pub(super) struct Vector {
    pub(super) group: usize,
    chunk: Chunk,
    n: usize,
}

impl Vector {
    /// Where its weights begin among those packed, and how far apart its steps are.
    pub(super) fn place(self, layout: &Layout) -> (usize, usize) {
        let (of_chunk, vector) = (layout.start_of(self.group, self.chunk), LANES * STEP);
        (of_chunk + self.n * vector, self.chunk.vectors * vector)
    }
}

/// All vectors, in the order of the packed weights.
pub(super) fn vectors(layout: &Layout) -> impl Iterator<Item = Vector> + use<> {
    let columns = layout.columns;
    (0..layout.groups).flat_map(move |group| {
        columns.chunks().flat_map(move |chunk| (0..chunk.vectors).map(move |n| Vector { group, chunk, n }))
    })
}

/// Steps of a segment that are searched together.
pub(super) struct Span {
    pub(super) segment: usize,
    pub(super) first: usize,
    /// Number of steps, at most [`SEARCHED`].
    pub(super) steps: usize,
}

/// The spans of a row, in order.
pub(super) fn spans(segments: Segments) -> impl Iterator<Item = Span> {
    let steps = segments.steps();
    (0..segments.count).flat_map(move |segment| {
        let span = move |first| Span { segment, first, steps: SEARCHED.min(steps - first) };
        (0..steps).step_by(SEARCHED).map(span)
    })
}

/// Marks steps of a vector whose weights are too large, by the plan's rows: a bit for each lane.
#[inline(always)]
pub(super) fn mark_rows(
    layout: &Layout,
    weight: &[u8],
    vector: Vector,
    span: &Span,
    marks: &mut [u8],
) -> Option<()> {
    let (Segments { len, .. }, row) = (layout.segments, layout.segments.row());
    let first = vector.chunk.first + vector.n * LANES;
    let count = LANES.min(layout.columns.count.checked_sub(first)?);
    let rows = weight.get((vector.group * layout.columns.count + first) * row..)?.get(..count * row)?;
    for (lane, row) in rows.chunks_exact(row).enumerate() {
        let codes = row.get(span.segment * len + span.first * STEP..)?.as_chunks().0;
        for (mark, codes) in marks.iter_mut().zip(codes) {
            *mark |= u8::from(is_too_large(*codes)) << lane;
        }
    }
    Some(())
}

/// As [`mark_rows`], by packed weights, whose steps lie every `pitch` bytes.
#[inline(always)]
pub(super) fn mark_packed(weights: &[u8], pitch: usize, marks: &mut [u8]) {
    for (mark, vector) in marks.iter_mut().zip(weights.chunks(pitch)) {
        for (lane, codes) in vector.as_chunks().0.iter().take(LANES).enumerate() {
            *mark |= u8::from(is_too_large(*codes)) << lane;
        }
    }
}

/// Steps whose weights are too large in some lanes.
pub(super) struct Found {
    /// The first of [`CHOICE`] steps of the segment.
    pub(super) first: usize,
    /// A bit for each lane that has one, and which it is.
    pub(super) lanes: u8,
    pub(super) steps: [u8; LANES],
}

/// Gives what the marked steps need remainders for, each lane's first step that is not yet served with those near it.
#[inline(always)]
pub(super) fn choose(
    segments: Segments,
    span: &Span,
    marks: &mut [u8],
    mut found: impl FnMut(Found) -> Option<()>,
) -> Option<()> {
    let mut at = 0;
    while let Some(next) = marks.get(at..)?.iter().position(|mark| *mark != 0) {
        at += next;
        let first = (span.first + at).min(segments.steps() - CHOICE);
        let mut one = Found { first, lanes: 0, steps: [0; LANES] };
        for (step, mark) in (span.first + at - first..CHOICE).zip(marks.get_mut(at..)?) {
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
    Some(())
}

/// Whether a pair of four weights has a sum beyond ±128.
#[inline(always)]
pub(super) fn is_too_large(codes: [u8; STEP]) -> bool {
    // Codes plus 128, and sums of two plus 256, in 16 bits each: a sum above 384 or below 128 sets the highest of them.
    const EACH: u32 = 0x0001_0001;
    let moved = u32::from_le_bytes(codes) ^ 0x8080_8080;
    let sums = (moved & (0xff * EACH)) + ((moved >> 8) & (0xff * EACH));
    let (above, below) = (sums + (0x7fff - 384) * EACH, (0x8000 + 127) * EACH - sums);
    (above | below) & (0x8000 * EACH) != 0
}
