//! Overlays on split weights, under the log of [`patch`](ingraft_kernel::patch).
//!
//! A changed weight is packed as far as it fits beside its neighbor. What is left goes to remainders behind the weights' own,
//! which stand in the order of the vectors as entries do, and are emptied when the overlay is taken out. More than there is
//! room for is [told](SplitWeights::lacks_room): the caller then packs weights that are not split.

use core::ops::Range;

use ingraft_kernel::patch::Patchable;

use super::order::{BLOCK, MIRRORED, Order};
use super::remainders::{BYTES, PLACE, Parts, Remainder, STEPS, end, start};
use super::{CHOICE, LANES};
use crate::columns::Layout;
use crate::patches::{Patches, STEP};

/// Split weights that an overlay is written into, over those that are not split, `W`.
pub(crate) struct SplitWeights<'w, W> {
    of: W,
    layout: Layout,
    patches: Patches,
    chunks: Chunks,
    /// The plan's weight.
    plan: &'w [i8],
    orders: &'w [Order],
    ends: &'w mut [[u8; 4]],
    more: &'w mut [[u8; BYTES]],
    /// Remainders in use, and the vector that the last of them belongs to.
    used: usize,
    vector: usize,
    lacks_room: bool,
}

/// A place among the packed weights.
struct Located {
    vector: usize,
    channel: usize,
    group: usize,
    lane: usize,
    segment: usize,
    step: usize,
    byte: usize,
}

/// How the vectors of a group are cut into chunks: those of one vector more stand first.
#[derive(Clone, Copy)]
struct Chunks {
    /// Bytes of a vector for all steps.
    of_vector: usize,
    /// Chunks of one vector more.
    larger: usize,
    size: usize,
}

/// Bytes of a vector for one step.
const VECTOR: usize = LANES * STEP;

/// Quotient and remainder of a number below `parts · by`.
#[inline(always)]
fn divided(number: usize, by: usize, parts: usize) -> (usize, usize) {
    if parts == 1 { (0, number) } else { (number / by, number % by) }
}

impl<'w, W: Patchable> SplitWeights<'w, W> {
    /// `packed` holds the split weights of `plan`, of which `of` makes the part that is not particular to splitting.
    pub(crate) fn new(
        layout: Layout,
        patches: Patches,
        plan: &'w [i8],
        packed: &'w mut [u8],
        of: impl FnOnce(&'w mut [u8]) -> Option<W>,
    ) -> Option<Self> {
        let (head, [_, ends, orders, _, more]) = Parts::new(&layout, packed.len())?.of_mut(packed)?;
        let (ends, more) = (ends.as_chunks_mut().0, more.as_chunks_mut().0);
        let orders: &'w [u8] = orders;
        let orders = orders.as_chunks().0;
        let vectors = layout.columns.vectors();
        let parts = vectors.div_ceil(layout.columns.widest).max(1);
        let of_vector = layout.segments.total_steps() * VECTOR;
        let chunks = Chunks { of_vector, larger: vectors % parts, size: vectors / parts };
        Some(Self {
            chunks,
            of: of(head)?,
            layout,
            patches,
            plan,
            orders,
            ends,
            more,
            used: 0,
            vector: 0,
            lacks_room: false,
        })
    }

    /// Whether an overlay was refused for want of room alone.
    pub(crate) fn lacks_room(&self) -> bool {
        self.lacks_room
    }

    /// Ends an overlay that was written.
    pub(crate) fn finish(&mut self) {
        if self.used > 0 {
            self.go_to(self.layout.columns.vectors() * self.layout.groups);
        }
    }

    /// Empties the remainders of an overlay that is not there any more.
    pub(crate) fn clear(&mut self) {
        let last = end(self.ends.last());
        self.more.iter_mut().take(last.max(self.used)).for_each(|remainder| remainder.fill(0));
        self.ends.fill([0; 4]);
        (self.used, self.vector) = (0, 0);
    }

    fn go_to(&mut self, vector: usize) {
        let ends = self.ends.get_mut(self.vector..vector).unwrap_or(&mut []);
        ends.fill((self.used as u32).to_le_bytes());
        self.vector = self.vector.max(vector);
    }

    fn locate(&self, place: usize) -> Located {
        let (layout, Chunks { of_vector, larger, size }) = (&self.layout, self.chunks);
        let vectors = layout.columns.vectors();
        // Divisions take long, and most layers have one group and rows of one segment.
        let (group, place) = divided(place, vectors * of_vector, layout.groups);
        let of_larger = larger * (size + 1) * of_vector;
        let (first, width, place) = if place < of_larger {
            (0, size + 1, place)
        } else {
            (larger * (size + 1), size, place - of_larger)
        };
        let (chunk, place) = (place / (width * of_vector), place % (width * of_vector));
        // A chunk has one vector or two.
        let shift = VECTOR.trailing_zeros() + width.trailing_zeros();
        let (step, place) = (place >> shift, place & ((1 << shift) - 1));
        let vector = first + chunk * width + place / VECTOR;
        let lane = place % VECTOR / STEP;
        let (segment, step) = divided(step, layout.segments.steps(), layout.segments.count);
        let (channel, byte) = (group * layout.columns.count + vector * LANES + lane, place % STEP);
        Located { vector: group * vectors + vector, channel, group, lane, segment, step, byte }
    }

    /// The order of the block that holds code `code` of a row of the group, if there is one.
    fn order(&self, group: usize, code: usize) -> Option<&'w Order> {
        let blocks = self.layout.segments.len / BLOCK;
        let block = code / BLOCK;
        if block < blocks { self.orders.get(group * blocks + block) } else { None }
    }

    /// Keeps what is left of a weight.
    fn keep(&mut self, at: &Located, rest: i8) -> Option<()> {
        if at.vector > self.vector {
            self.go_to(at.vector);
        }
        let start = start(self.ends, at.vector);
        let place = self.patches.place(at.segment, at.step);
        let fits = |remainder: &[u8; BYTES]| {
            let distance = place.checked_sub(Remainder(remainder).place())?;
            let free = remainder.get(at.lane * STEP..)?.first_chunk::<STEP>()? == &[0; STEP];
            (free && distance.is_multiple_of(STEP) && distance < CHOICE * STEP).then_some(distance / STEP)
        };
        let of_vector = self.more.get(start..self.used)?;
        let found =
            of_vector.iter().enumerate().find_map(|(n, remainder)| Some((start + n, fits(remainder)?)));
        let (number, step) = match found {
            Some(found) => found,
            None => {
                let first = at.step.min(self.layout.segments.steps() - CHOICE);
                let begin = u32::try_from(self.patches.place(at.segment, first)).ok()?;
                let remainder = self.more.get_mut(self.used)?;
                *remainder.get_mut(PLACE..)?.first_chunk_mut()? = begin.to_le_bytes();
                self.used += 1;
                (self.used - 1, at.step - first)
            }
        };
        let remainder = self.more.get_mut(number)?;
        *remainder.get_mut(STEPS + at.lane)? = step as u8;
        *remainder.get_mut(at.lane * STEP + at.byte)? = rest as u8;
        Some(())
    }

    /// The code at the place of `order` that a code goes to, with its mirror, if it has one.
    #[inline(always)]
    fn goes(&self, channel: usize, index: usize) -> Option<u8> {
        let (group, _) = divided(channel, self.layout.columns.count, self.layout.groups);
        self.order(group, index)?.get(2 * BLOCK + index % BLOCK).copied()
    }

    /// Keeps the rest of a weight that was changed by `delta`, of which a part may be kept already; what stood at `place`, and
    /// whether the sum is a code.
    #[inline(never)]
    fn add_rest(
        &mut self,
        place: usize,
        [sign, before, neighbor]: [i32; 3],
        [rest, delta]: [i32; 2],
    ) -> Option<(i8, bool)> {
        let at = self.locate(place);
        let mut weight = sign * before;
        if (before + neighbor).abs() == 128 {
            let code = at.step * STEP + at.byte;
            let from = self
                .order(at.group, code)
                .and_then(|order| order.get(code % BLOCK))
                .map_or(code % BLOCK, |from| usize::from(*from));
            let index = at.segment * self.layout.segments.len + code - code % BLOCK + from;
            weight = i32::from(*self.plan.get(at.channel * self.of.row_len() + index)?);
        }
        let fits = i8::try_from(weight + delta).is_ok();
        if fits && rest != 0 {
            let rest = i8::try_from(rest).ok();
            self.lacks_room |= rest.and_then(|rest| self.keep(&at, rest)).is_none();
        }
        Some((before as i8, fits && !self.lacks_room))
    }
}

impl<'w, W: Patchable> Patchable for SplitWeights<'w, W> {
    type Run = W::Run;

    fn runs(&self) -> impl Iterator<Item = (Range<usize>, W::Run)> + use<'w, W> {
        self.of.runs()
    }

    #[inline(always)]
    fn channels(&self) -> usize {
        self.of.channels()
    }

    #[inline(always)]
    fn row_len(&self) -> usize {
        self.of.row_len()
    }

    #[inline(always)]
    fn codes(&mut self) -> &mut [i8] {
        self.of.codes()
    }

    #[inline(always)]
    fn place(&self, run: Self::Run, channel: usize, index: usize) -> usize {
        let index =
            self.goes(channel, index).map_or(index, |to| index - index % BLOCK + usize::from(to & !MIRRORED));
        self.of.place(run, channel, index)
    }

    /// Whether the code is mirrored.
    #[inline(always)]
    fn mark(&self, channel: usize, index: usize) -> u8 {
        self.goes(channel, index).map_or(0, |to| to & MIRRORED)
    }

    #[inline(always)]
    fn kept(&mut self, channel: usize) -> Option<&mut i32> {
        self.of.kept(channel)
    }

    #[inline(always)]
    fn slope(&self, mark: u8) -> i32 {
        self.of.slope(0) - if mark == 0 { 0 } else { 255 }
    }

    #[inline(always)]
    fn fetch(&self, place: usize) {
        self.of.fetch(place);
    }

    #[inline(always)]
    fn add(&mut self, place: usize, mark: u8, delta: i16) -> Option<(i8, bool)> {
        let codes = self.of.codes();
        let neighbor = i32::from(*codes.get(place ^ 1)?);
        let packed = codes.get_mut(place)?;
        let before = *packed;
        let sign = if mark == 0 { 1 } else { -1 };
        let wanted = i32::from(before) + sign * i32::from(delta);
        let fitting = wanted.clamp(-128 - neighbor.min(0), 128 - neighbor.max(0)).clamp(-128, 127);
        *packed = fitting as i8;
        // Else a part of the weight may be with the remainders.
        if (i32::from(before) + neighbor).abs() != 128 && wanted == fitting {
            return Some((before, i8::try_from(sign * wanted).is_ok() && !self.lacks_room));
        }
        self.add_rest(place, [sign, i32::from(before), neighbor], [wanted - fitting, i32::from(delta)])
    }
}
