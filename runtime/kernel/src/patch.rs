//! Writing integer overlays into weights, and taking them out again to the bit.
//!
//! A weight in memory that may be written is [`Patchable`], whatever its layout: the plan's, or one that a row packed.
//! The log keeps what stood at every changed place.

use core::ops::Range;

use crate::{KernelError, Sparse, SparseValues, Step};

/// One overwritten weight: its place and what stood there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UndoEntry {
    /// Output channel.
    pub channel: u32,
    /// Where the code stands in the memory that was patched.
    pub position: u32,
    /// The base's code.
    pub original: i8,
}

/// Where overwritten codes are kept.
#[derive(Debug)]
pub struct Log<'l> {
    entries: Option<&'l mut [UndoEntry]>,
    used: usize,
}

impl<'l> Log<'l> {
    /// A log in the caller's memory.
    pub fn new(entries: &'l mut [UndoEntry]) -> Self {
        Self { entries: Some(entries), used: 0 }
    }

    /// Keeps nothing: for weights that are thrown away when an overlay does not fit.
    pub fn none() -> Self {
        Self { entries: None, used: 0 }
    }

    /// How many entries were written.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Where the entries `block` of an overlay are kept; in `scratch` where none are.
    #[inline(always)]
    fn room<'r>(
        &'r mut self,
        block: Range<usize>,
        scratch: &'r mut [UndoEntry],
    ) -> Option<&'r mut [UndoEntry]> {
        match &mut self.entries {
            Some(entries) => entries.get_mut(block),
            None => scratch.get_mut(..block.len()),
        }
    }

    fn written(&self) -> &[UndoEntry] {
        self.entries.as_ref().and_then(|entries| entries.get(..self.used)).unwrap_or(&[])
    }
}

/// How a row writes overlays into the weights it packed.
#[derive(Clone, Copy, Debug)]
pub struct Patcher {
    /// Packs the weights as [`Self::write`] takes them, into as many bytes as the row packs them in.
    pub pack: fn(&Step<'_>, &mut [u8]) -> Result<(), KernelError>,
    /// Writes an overlay; `None` where it does not fit, with nothing changed as far as the log goes.
    pub write: fn(&Step<'_>, &mut [u8], &Sparse<'_>, &mut Log<'_>) -> Option<()>,
    /// Puts the logged codes back.
    pub revert: fn(&Step<'_>, &mut [u8], &[UndoEntry]) -> Option<()>,
}

/// An int8 weight that can be written, with what is kept of its rows.
pub trait Patchable {
    /// How the codes of neighboring channels are placed.
    type Run: Copy;

    /// All channels in order, in ranges whose codes are placed alike.
    fn runs(&self) -> impl Iterator<Item = (Range<usize>, Self::Run)> + use<Self>;
    /// Codes of a row.
    fn row_len(&self) -> usize;
    /// The codes, in the order of the memory.
    fn codes(&mut self) -> &mut [i8];
    /// Where code `index`, below [`Self::row_len`], of a `channel` of `run` stands.
    fn place(&self, run: Self::Run, channel: usize, index: usize) -> usize;
    /// Takes notice that a code of `channel`, of one of the runs, grew by `change`.
    fn grow(&mut self, channel: usize, change: i32);
    /// Has what stands at `place` fetched, on processors that can be told to: it is written soon.
    #[inline(always)]
    fn fetch(&self, _place: usize) {}
}

/// Entries that are written together.
const BLOCK: usize = 32;

/// Writes `overlay`.
///
/// `None` for real values, sums beyond int8, indices past a row, rows out of order or a log too short; everything in the
/// log is then put back.
#[inline(always)]
pub fn write(weight: &mut impl Patchable, overlay: &Sparse<'_>, log: &mut Log<'_>) -> Option<()> {
    let SparseValues::I16(values) = overlay.values else { return None };
    if overlay.indices.is_empty() {
        return Some(());
    }
    let done = write_blocks(weight, overlay, values, log);
    if done.is_none() {
        revert(weight, log.written());
        log.used = 0;
    }
    done
}

/// Writes block after block.
///
/// At a low density nearly every entry lies on a cache line of its own. A block is written when the next one's places are
/// known and its lines on their way.
#[inline(always)]
fn write_blocks(
    weight: &mut impl Patchable,
    overlay: &Sparse<'_>,
    values: &[i16],
    log: &mut Log<'_>,
) -> Option<()> {
    let [last, next] = &mut [[UndoEntry::default(); BLOCK]; 2];
    let (mut last, mut next) = (last.as_mut_slice(), next.as_mut_slice());
    let mut before = 0..0;
    for (channels, run) in weight.runs() {
        let mut rows = Rows::new(overlay, channels)?;
        while let Some((block, begun)) = rows.block() {
            let room = log.room(block.clone(), next)?;
            place(weight, run, &mut rows.channel, (overlay.indices.get(block.clone())?, &begun), room)?;
            commit(weight, values, before, log, last)?;
            core::mem::swap(&mut last, &mut next);
            before = block;
        }
    }
    commit(weight, values, before, log, last)
}

/// The entries of some rows in blocks.
///
/// At a low density rows have a few entries or none, so that a loop over each would end where no processor foresees.
/// Blocks come with the number of rows that begin at each entry instead.
struct Rows<'o> {
    channel: usize,
    start: usize,
    end: usize,
    border: usize,
    borders: core::slice::Iter<'o, u32>,
}

impl<'o> Rows<'o> {
    #[inline(always)]
    fn new(overlay: &Sparse<'o>, channels: Range<usize>) -> Option<Self> {
        let bounds = overlay.indptr.get(channels.start..=channels.end)?;
        let ([first, .., last], true) = (bounds, bounds.iter().is_sorted()) else { return None };
        let mut borders = bounds.iter();
        borders.next()?;
        let border = *borders.next()? as usize;
        Some(Self { channel: channels.start, start: *first as usize, end: *last as usize, border, borders })
    }

    /// The next block, and how many rows begin at each of its entries.
    #[inline(always)]
    fn block(&mut self) -> Option<(Range<usize>, [u32; BLOCK])> {
        (self.start < self.end).then_some(())?;
        let mut begun = [0u32; BLOCK];
        while let Some(rows) = begun.get_mut(self.border.wrapping_sub(self.start)) {
            *rows = rows.wrapping_add(1);
            self.border = self.borders.next().map_or(usize::MAX, |border| *border as usize);
        }
        let block = self.start..self.end.min(self.start.wrapping_add(BLOCK));
        self.start = block.end;
        Some((block, begun))
    }
}

/// Says where the entries of a block stand, and has what stands there fetched.
#[inline(always)]
fn place<W: Patchable>(
    weight: &W,
    run: W::Run,
    channel: &mut usize,
    (indices, begun): (&[u16], &[u32; BLOCK]),
    room: &mut [UndoEntry],
) -> Option<()> {
    for (entry, (index, rows)) in room.iter_mut().zip(indices.iter().zip(begun)) {
        *channel = channel.wrapping_add(*rows as usize);
        let index = usize::from(*index);
        (index < weight.row_len()).then_some(())?;
        let position = weight.place(run, *channel, index);
        weight.fetch(position);
        *entry = UndoEntry { channel: *channel as u32, position: position as u32, original: 0 };
    }
    Some(())
}

/// Writes a block whose places are known.
#[inline(always)]
fn commit(
    weight: &mut impl Patchable,
    values: &[i16],
    block: Range<usize>,
    log: &mut Log<'_>,
    scratch: &mut [UndoEntry],
) -> Option<()> {
    let (values, count) = (values.get(block.clone())?, block.len());
    let mut written = 0usize;
    for (entry, delta) in log.room(block, scratch)?.iter_mut().zip(values) {
        let delta = i32::from(*delta);
        let Some(code) = weight.codes().get_mut(entry.position as usize) else { break };
        let Ok(patched) = i8::try_from(i32::from(*code).wrapping_add(delta)) else { break };
        entry.original = core::mem::replace(code, patched);
        weight.grow(entry.channel as usize, delta);
        written = written.wrapping_add(1);
    }
    log.used = log.used.wrapping_add(written);
    (written == count).then_some(())
}

/// Puts the codes of `entries` back, the last first.
#[inline]
pub fn revert(weight: &mut impl Patchable, entries: &[UndoEntry]) {
    for entry in entries.iter().rev() {
        let Some(code) = weight.codes().get_mut(entry.position as usize) else { continue };
        let change = i32::from(entry.original).wrapping_sub(i32::from(*code));
        *code = entry.original;
        weight.grow(entry.channel as usize, change);
    }
}

/// A weight and its folded bias as the plan has them.
#[derive(Debug)]
pub struct PlanWeight<'w> {
    weight: &'w mut [i8],
    bias: &'w mut [i32],
    row: usize,
    /// Whether the codes of a channel stand one channel count apart: depthwise weights.
    interleaved: bool,
    zero_point: i32,
}

impl<'w> PlanWeight<'w> {
    /// The weight of a layer with `row` codes per channel and this input zero point; `None` for slices that do not agree.
    pub fn new(
        weight: &'w mut [i8],
        bias: &'w mut [i32],
        row: usize,
        interleaved: bool,
        zero_point: i32,
    ) -> Option<Self> {
        (weight.len() == bias.len().checked_mul(row)?).then_some(())?;
        Some(Self { weight, bias, row, interleaved, zero_point })
    }
}

impl<'w> Patchable for PlanWeight<'w> {
    type Run = ();

    fn runs(&self) -> impl Iterator<Item = (Range<usize>, ())> + use<'w> {
        core::iter::once((0..self.bias.len(), ()))
    }

    #[inline(always)]
    fn row_len(&self) -> usize {
        self.row
    }

    #[inline(always)]
    fn codes(&mut self) -> &mut [i8] {
        self.weight
    }

    #[inline(always)]
    fn place(&self, (): (), channel: usize, index: usize) -> usize {
        let (step, first) =
            if self.interleaved { (self.bias.len(), channel) } else { (1, channel.wrapping_mul(self.row)) };
        first.wrapping_add(index.wrapping_mul(step))
    }

    #[inline(always)]
    fn grow(&mut self, channel: usize, change: i32) {
        if let Some(bias) = self.bias.get_mut(channel) {
            *bias = bias.wrapping_sub(change.wrapping_mul(self.zero_point));
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec;
    use std::vec::Vec;

    use ingraft_tensor::Rng;

    use super::{Log, PlanWeight, UndoEntry, revert, write};
    use crate::{Sparse, SparseValues};

    const ZERO_POINT: i32 = 3;

    fn weight<'w>(codes: &'w mut [i8], bias: &'w mut [i32], row: usize, interleaved: bool) -> PlanWeight<'w> {
        PlanWeight::new(codes, bias, row, interleaved, ZERO_POINT).expect("sizes agree")
    }

    /// Rows from none to more entries than a block has, in both orders of codes.
    #[test]
    fn writes_what_a_loop_over_rows_does_and_takes_it_out() {
        let mut rng = Rng::new(1);
        for case in 0..300 {
            let (row, rows, density) = (1 + rng.below(90), 1 + rng.below(50), 1 + rng.below(40));
            let interleaved = case % 2 == 1;
            let base: Vec<i8> = (0..row * rows).map(|_| rng.below(101) as i8 - 50).collect();
            let (mut wanted, mut wanted_bias) = (base.clone(), vec![0i32; rows]);
            let (mut bounds, mut indices, mut values) = (vec![0u32], Vec::new(), Vec::new());
            for (channel, bias) in wanted_bias.iter_mut().enumerate() {
                for index in 0..row {
                    if rng.below(40) >= density {
                        continue;
                    }
                    let delta = rng.below(101) as i16 - 50;
                    let at = if interleaved { index * rows + channel } else { channel * row + index };
                    wanted[at] += delta as i8;
                    *bias -= i32::from(delta) * ZERO_POINT;
                    indices.push(index as u16);
                    values.push(delta);
                }
                bounds.push(indices.len() as u32);
            }
            let overlay = Sparse { indptr: &bounds, indices: &indices, values: SparseValues::I16(&values) };
            let (mut codes, mut bias) = (base.clone(), vec![0; rows]);
            let mut entries = vec![UndoEntry::default(); indices.len()];
            let mut log = Log::new(&mut entries);
            let done = write(&mut weight(&mut codes, &mut bias, row, interleaved), &overlay, &mut log);
            assert_eq!((done, log.used()), (Some(()), indices.len()));
            assert_eq!((&codes, &bias), (&wanted, &wanted_bias));
            revert(&mut weight(&mut codes, &mut bias, row, interleaved), &entries);
            assert_eq!((&codes, bias), (&base, vec![0; rows]));

            let mut unlogged = (base, vec![0; rows]);
            let mut copy = weight(&mut unlogged.0, &mut unlogged.1, row, interleaved);
            assert_eq!(write(&mut copy, &overlay, &mut Log::none()), Some(()));
            assert_eq!(unlogged, (wanted, wanted_bias));
        }
    }

    /// What does not fit leaves the weight as it was.
    #[test]
    fn what_does_not_fit_is_taken_back() {
        let (row, rows) = (50, 4);
        let bounds = [0u32, 40, 40, 60, 100];
        let indices: Vec<u16> = (0..40).chain(0..20).chain(10..50).collect();
        let values = vec![1i16; 100];
        let refused = |bounds: &[u32], indices: &[u16], values: &[i16], room: usize| {
            let overlay = Sparse { indptr: bounds, indices, values: SparseValues::I16(values) };
            let (mut codes, mut bias) = (vec![7i8; row * rows], vec![9i32; rows]);
            let mut entries = vec![UndoEntry::default(); room];
            let mut log = Log::new(&mut entries);
            let done = write(&mut weight(&mut codes, &mut bias, row, false), &overlay, &mut log);
            assert!(done.is_some() || log.used() == 0);
            assert!(done.is_some() || (codes, bias) == (vec![7; row * rows], vec![9; rows]));
            done.is_none()
        };
        let with = |at: usize, value: i16| {
            let mut values = values.clone();
            values[at] = value;
            values
        };
        let past = {
            let mut indices = indices.clone();
            indices[99] = 50;
            indices
        };
        assert!(!refused(&bounds, &indices, &values, 100));
        assert!(refused(&bounds, &indices, &values, 99), "the log is too short");
        assert!(refused(&bounds, &indices, &with(77, 121), 100), "128 is no code");
        assert!(refused(&bounds, &indices, &with(3, -136), 100), "-129 is no code");
        assert!(refused(&bounds, &past, &values, 100), "past the row");
        assert!(refused(&[0, 40, 39, 60, 100], &indices, &values, 100), "rows out of order");
        assert!(refused(&[0, 40, 40, 100], &indices, &values, 100), "a row is missing");
        assert!(refused(&[0, 40, 40, 60, 101], &indices, &values, 100), "past the entries");
    }
}
