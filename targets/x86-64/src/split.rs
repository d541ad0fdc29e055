//! int8 weights in two parts, so that `vpmaddubsw` is exact.
//!
//! The instruction adds two products of a byte of 0…255 with an int8 and saturates the sum at 16 bits. Two weights next to
//! each other fit if their sum lies within ±128: then so does the sum of those of one sign, and 255 · 128 < 2¹⁵. Where it
//! does not, the second weight is packed as far as it fits, and what is left of it goes to a remainder: one vector more,
//! whose lanes choose their step of a patch by themselves, out of eight that follow each other. Neither part can saturate, so
//! together they are exact.
//!
//! How many pairs do not fit depends on which weights are neighbors, which [`order`] chooses where patches are copied.
//!
//! Behind what [`Layout::pack`] fills stand `[vector][end u32]` twice, the [orders](order), and in the order of the vectors they
//! belong to `[remainder]` of [`Remainder`]'s 48 bytes. At the end is room for more of them: what [overlays](overlay) leave over.

pub(crate) mod order;
pub(crate) mod overlay;
mod remainders;
mod search;
#[cfg(test)]
mod tests;

use self::remainders::{BYTES, PLACE, Parts, STEPS};
pub(crate) use self::remainders::{Remainder, Remainders};
use self::search::{Found, SEARCHED, choose, mark_packed, mark_rows, spans, vectors};
use crate::columns::{Layout, mark_split};
use crate::patches::{Patches, STEP, Segments};
use crate::simd::{Avx2Bytes, Splitting, Task, perform};

/// Steps of a patch that a remainder chooses from.
pub(crate) const CHOICE: usize = 8;

/// Lanes of a vector.
const LANES: usize = 8;

/// Remainders for each hundred vectors of weights beyond which products of 16-bit values are faster: a vector takes three
/// operations, four where codes are 16-bit values, and a remainder four and what it costs to go to it, measured as six to
/// seven.
const MOST_PERCENT: usize = 14;

/// Whether weight rows of these segments can be split: whole steps, enough for a remainder to choose from, and so many that a
/// tile's remainders are begun for the sake of a fair number of products.
pub(crate) fn suits(segments: Segments) -> bool {
    let whole = segments.step == STEP && segments.len.is_multiple_of(STEP);
    whole && segments.steps() >= CHOICE && segments.total_steps() >= 2 * CHOICE
}

/// Bytes behind [`Layout::bytes`] for the remainders of `weight`; 0 where they would be so many that splitting does not pay.
///
/// Counted in the order of the plan: another one leaves fewer.
pub(crate) fn bytes(layout: &Layout, weight: &[u8]) -> usize {
    if !suits(layout.segments) {
        return 0;
    }
    let most = most(layout);
    match perform::<Avx2Bytes, _>(Count { layout, weight, most }) {
        Some(count) => Parts::bytes(layout, count),
        None if order::bytes(layout) > 0 => Parts::bytes(layout, most),
        None => 0,
    }
}

fn most(layout: &Layout) -> usize {
    let vectors = layout.columns.vectors() * layout.groups * layout.segments.total_steps();
    vectors * MOST_PERCENT / 100
}

/// How many remainders a weight has in the order of the plan; `None` for more than `most`.
struct Count<'a> {
    layout: &'a Layout,
    weight: &'a [u8],
    most: usize,
}

impl<S: Splitting> Task<S> for Count<'_> {
    type Output = Option<usize>;

    #[inline(always)]
    fn run(self, _: S) -> Option<usize> {
        let Self { layout, weight, most } = self;
        let mut count = 0;
        for vector in vectors(layout) {
            for span in spans(layout.segments) {
                let mut marks = [0; SEARCHED];
                let marks = marks.get_mut(..span.steps)?;
                mark_rows(layout, weight, vector, &span, marks)?;
                choose(layout.segments, &span, marks, |_| {
                    count += 1;
                    (count <= most).then_some(())
                })?;
            }
        }
        Some(count)
    }
}

/// Says in packed weights with room for remainders whether an overlay had them packed whole.
pub(crate) fn mark_whole(packed: &mut [u8], whole: bool) {
    packed.iter_mut().rev().take(1).for_each(|last| *last = u8::from(whole));
}

/// Whether [`mark_whole`] said so.
pub(crate) fn is_whole(packed: &[u8]) -> bool {
    packed.last() == Some(&1)
}

/// Orders and splits weights that [`Layout::pack`] packed, and writes their remainders behind them; `None` where there is no
/// room for all.
pub(crate) fn pack(layout: &Layout, patches: &Patches, weight: &[u8], packed: &mut [u8]) -> Option<()> {
    perform::<Avx2Bytes, _>(Pack { layout, patches, weight, packed })
}

struct Pack<'a> {
    layout: &'a Layout,
    patches: &'a Patches,
    weight: &'a [u8],
    packed: &'a mut [u8],
}

impl<S: Splitting> Task<S> for Pack<'_> {
    type Output = Option<()>;

    #[inline(always)]
    fn run(self, simd: S) -> Option<()> {
        let Self { layout, patches, weight, packed } = self;
        let (head, parts) = Parts::new(layout, packed.len())?.of_mut(packed)?;
        let [ends, more_ends, orders, all, more] = parts;
        more_ends.fill(0);
        more.fill(0);
        if patches.in_blocks() {
            order::arrange(simd, layout, weight, head, orders)?;
        } else {
            order::keep(orders);
        }
        let (weights, _) = layout.parts_mut(head)?;
        let mut remainders = all.as_chunks_mut::<BYTES>().0.iter_mut();
        let mut count = 0u32;
        for (vector, end) in vectors(layout).zip(ends.as_chunks_mut::<4>().0) {
            let (start, pitch) = vector.place(layout);
            for span in spans(layout.segments) {
                let mut marks = [0; SEARCHED];
                let marks = marks.get_mut(..span.steps)?;
                let segment = start + span.segment * layout.segments.steps() * pitch;
                mark_packed(weights.get(segment + span.first * pitch..)?, pitch, marks);
                choose(layout.segments, &span, marks, |found| {
                    let remainder = remainders.next()?;
                    let place = u32::try_from(patches.place(span.segment, found.first)).ok()?;
                    split_off(remainder, weights.get_mut(segment + found.first * pitch..)?, pitch, &found)?;
                    *remainder.get_mut(PLACE..)?.first_chunk_mut()? = place.to_le_bytes();
                    count += 1;
                    Some(())
                })?;
            }
            *end = count.to_le_bytes();
        }
        mark_split(head);
        Some(())
    }
}

/// Fills `remainder` with what is left of the steps found, of vectors that lie in `weights` every `pitch` bytes.
fn split_off(remainder: &mut [u8; BYTES], weights: &mut [u8], pitch: usize, found: &Found) -> Option<()> {
    remainder.fill(0);
    for lane in (0..LANES).filter(|lane| found.lanes & (1 << lane) != 0) {
        let step = *found.steps.get(lane)?;
        let codes = weights.get_mut(usize::from(step) * pitch + lane * STEP..)?.first_chunk_mut()?;
        *remainder.get_mut(STEPS + lane)? = step;
        *remainder.get_mut(lane * STEP..)?.first_chunk_mut()? = parted(codes);
    }
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
