//! Writing integer overlays into weights, and taking them out again to the bit.
//!
//! A weight in memory that may be written is [`Patchable`], whatever its layout: the plan's, or one that a row packed.
//! The log keeps what stood at every changed place: a word for each entry of the overlay, its place and the former code,
//! and behind them a word for each channel, what was kept of its row.

use core::ops::Range;

use crate::{KernelError, Sparse, SparseValues, Step};

/// Words of log that writing `overlay` takes: one for each entry, one for each channel; none without entries.
#[inline]
pub fn log_words(overlay: &Sparse<'_>) -> usize {
    match overlay.indices.len() {
        0 => 0,
        entries => entries.saturating_add(overlay.indptr.len()).saturating_sub(1),
    }
}

/// Where what stood in a weight is kept, if anywhere.
pub type Log<'l> = Option<&'l mut [u32]>;

/// How a row writes overlays into the weights it packed.
#[derive(Clone, Copy, Debug)]
pub struct Patcher {
    /// Packs the weights as [`Self::write`] takes them, into as many bytes as the row packs them in.
    pub pack: fn(&Step<'_>, &mut [u8]) -> Result<(), KernelError>,
    /// As [`write()`].
    pub write: fn(&Step<'_>, &mut [u8], &Sparse<'_>, Log<'_>) -> Option<usize>,
    /// As [`revert`]; `None` for weights of another step.
    pub revert: fn(&Step<'_>, &mut [u8], &[u32]) -> Option<()>,
}

/// An int8 weight that can be written, with what is kept of its rows.
pub trait Patchable {
    /// How the codes of neighboring channels are placed.
    type Run: Copy;

    /// All channels in order, in ranges whose codes are placed alike.
    fn runs(&self) -> impl Iterator<Item = (Range<usize>, Self::Run)> + use<Self>;
    /// Channels of all runs.
    fn channels(&self) -> usize;
    /// Codes of a row.
    fn row_len(&self) -> usize;
    /// The codes, in the order of the memory.
    fn codes(&mut self) -> &mut [i8];
    /// Where code `index`, below [`Self::row_len`], of a `channel` of `run` stands.
    fn place(&self, run: Self::Run, channel: usize, index: usize) -> usize;
    /// What is kept of the row of `channel`.
    fn kept(&mut self, channel: usize) -> Option<&mut i32>;
    /// What a kept value falls by where a code of its row with this [`Self::mark`] grows by one.
    fn slope(&self, mark: u8) -> i32;
    /// What else is known of a code where its place is found: [`Self::add`] is told.
    #[inline(always)]
    fn mark(&self, _channel: usize, _index: usize) -> u8 {
        0
    }
    /// Has what stands at `place` fetched, on processors that can be told to: it is written soon.
    #[inline(always)]
    fn fetch(&self, _place: usize) {}

    /// Adds `delta` to the code at `place` with this [`Self::mark`]; what stood there, and whether the sum is a code. `None` past
    /// the end.
    ///
    /// Places come in the order of the entries.
    #[inline(always)]
    fn add(&mut self, place: usize, _mark: u8, delta: i16) -> Option<(i8, bool)> {
        let code = self.codes().get_mut(place)?;
        let (before, sum) = (*code, i32::from(*code).wrapping_add(i32::from(delta)));
        *code = sum as i8;
        Some((before, i32::from(*code) == sum))
    }

    /// Takes notice that a code of `channel` with this [`Self::mark`] grew by `change`.
    #[inline(always)]
    fn grow(&mut self, channel: usize, mark: u8, change: i32) {
        let slope = self.slope(mark);
        if let Some(kept) = self.kept(channel) {
            *kept = kept.wrapping_sub(change.wrapping_mul(slope));
        }
    }
}

/// Bits of a word for the place; those above hold the code that stood there.
const PLACE_BITS: u32 = 24;
/// A place past the end of every weight that is patched.
const NOWHERE: u32 = (1 << PLACE_BITS) - 1;
/// Entries between the one whose line is asked for and the one that is written: what a processor has under way, twice.
const AHEAD: usize = 64;

/// Writes `overlay`, and gives the words of `log` that [`revert`] needs. Without a log nothing can be put back: for weights
/// that are thrown away when an overlay does not fit.
///
/// `None` for real values, sums beyond int8, indices past a row, rows out of order or missing, a log of fewer words than
/// [`log_words`] and, under a log, weights of 16 MiB and more; with a log, nothing is then changed.
#[inline(always)]
pub fn write(weight: &mut impl Patchable, overlay: &Sparse<'_>, log: Log<'_>) -> Option<usize> {
    let SparseValues::I16(values) = overlay.values else { return None };
    let (entries, bounds) = (overlay.indices.len(), overlay.indptr);
    if entries == 0 {
        return Some(0);
    }
    let most = overlay.indices.iter().fold(0, |most: u16, index| most.max(*index));
    let rows = bounds.len().checked_sub(1)? == weight.channels() && bounds.iter().is_sorted();
    let covered = bounds.first() == Some(&0) && bounds.last().is_some_and(|end| *end as usize == entries);
    (rows && covered && values.len() == entries && usize::from(most) < weight.row_len()).then_some(())?;
    let Some(log) = log else {
        return write_unlogged(weight, overlay, values).map(|()| 0);
    };
    let log = log.get_mut(..log_words(overlay))?;
    (weight.codes().len() < NOWHERE as usize).then_some(())?;
    let (words, kept) = log.split_at_mut_checked(entries)?;
    for (channel, word) in kept.iter_mut().enumerate() {
        *word = weight.kept(channel).map_or(0, |kept| *kept as u32);
    }
    words.fill(NOWHERE);
    let fits = write_logged(weight, overlay, values, words);
    if !fits {
        revert(weight, log);
    }
    fits.then_some(log.len())
}

/// Writes a checked overlay, each word naming its entry's place and what stood there; `false` where a sum left int8.
///
/// At a low density nearly every entry lies on a cache line of its own, and rows have a few entries or none, so that a
/// loop over each row would end where no processor foresees. One loop goes over the entries of all rows of a run: it finds
/// the place of one, has its line fetched, and writes the one that lies [`AHEAD`] behind.
#[inline(always)]
fn write_logged(
    weight: &mut impl Patchable,
    overlay: &Sparse<'_>,
    values: &[i16],
    words: &mut [u32],
) -> bool {
    let mut fits = true;
    for (channels, run) in weight.runs() {
        let mut channel = channels.start;
        for at in begin_rows(overlay, channels, words) {
            let entry = overlay.indices.get(at).zip(values.get(at)).zip(words.get_mut(at));
            let Some(((index, delta), word)) = entry else { continue };
            channel = channel.wrapping_add(*word as usize);
            let index = usize::from(*index);
            let (place, mark) = (weight.place(run, channel, index), weight.mark(channel, index));
            weight.fetch(place);
            *word = place as u32 | u32::from(mark) << PLACE_BITS;
            weight.grow(channel, mark, i32::from(*delta));
            let behind = at.wrapping_sub(AHEAD);
            if let Some((word, delta)) = words.get_mut(behind).zip(values.get(behind)) {
                fits &= exchange(weight, word, *delta);
            }
        }
    }
    let last = words.len().saturating_sub(AHEAD);
    let rest = words.iter_mut().zip(values);
    for (word, delta) in rest.skip(last) {
        fits &= exchange(weight, word, *delta);
    }
    fits
}

/// Puts at every entry of `channels` how many rows begin there behind the first, and gives the entries.
#[inline(always)]
fn begin_rows(overlay: &Sparse<'_>, channels: Range<usize>, words: &mut [u32]) -> Range<usize> {
    let Some([first, inner @ .., last]) = overlay.indptr.get(channels.start..=channels.end) else {
        return 0..0;
    };
    let entries = *first as usize..*last as usize;
    if let Some(words) = words.get_mut(entries.clone()) {
        words.fill(0);
        for border in inner {
            if let Some(rows) = words.get_mut((*border as usize).wrapping_sub(entries.start)) {
                *rows = rows.wrapping_add(1);
            }
        }
    }
    entries
}

/// Adds `delta` to the code at the place in `word`, and keeps what stood there in place of the mark; `false` where the sum is
/// no code.
#[inline(always)]
fn exchange(weight: &mut impl Patchable, word: &mut u32, delta: i16) -> bool {
    let (place, mark) = (*word & NOWHERE, (*word >> PLACE_BITS) as u8);
    let Some((code, fits)) = weight.add(place as usize, mark, delta) else {
        *word = NOWHERE;
        return false;
    };
    *word = place | u32::from(code as u8) << PLACE_BITS;
    fits
}

/// Writes a checked overlay as far as it fits.
fn write_unlogged(weight: &mut impl Patchable, overlay: &Sparse<'_>, values: &[i16]) -> Option<()> {
    for (channels, run) in weight.runs() {
        for channel in channels {
            let row = overlay.span(channel)?;
            for (index, delta) in overlay.indices.get(row.clone())?.iter().zip(values.get(row)?) {
                let index = usize::from(*index);
                let (place, mark) = (weight.place(run, channel, index), weight.mark(channel, index));
                weight.add(place, mark, *delta).filter(|(_, fits)| *fits)?;
                weight.grow(channel, mark, i32::from(*delta));
            }
        }
    }
    Some(())
}

/// Puts back what stood in `weight` before [`write()`] filled `log`, the last entry first.
#[inline]
pub fn revert(weight: &mut impl Patchable, log: &[u32]) {
    let entries = log.len().checked_sub(weight.channels());
    let Some((words, kept)) = entries.and_then(|entries| log.split_at_checked(entries)) else { return };
    for (at, word) in words.iter().enumerate().rev() {
        if let Some(next) = words.get(at.wrapping_sub(AHEAD)) {
            weight.fetch((next & NOWHERE) as usize);
        }
        if let Some(code) = weight.codes().get_mut((word & NOWHERE) as usize) {
            *code = (word >> PLACE_BITS) as u8 as i8;
        }
    }
    for (channel, word) in kept.iter().enumerate() {
        if let Some(kept) = weight.kept(channel) {
            *kept = *word as i32;
        }
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
    fn channels(&self) -> usize {
        self.bias.len()
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
    fn kept(&mut self, channel: usize) -> Option<&mut i32> {
        self.bias.get_mut(channel)
    }

    #[inline(always)]
    fn slope(&self, _: u8) -> i32 {
        self.zero_point
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec;
    use std::vec::Vec;

    use ingraft_tensor::Rng;

    use super::{PlanWeight, log_words, revert, write};
    use crate::{Sparse, SparseValues};

    const ZERO_POINT: i32 = 3;

    fn weight<'w>(codes: &'w mut [i8], bias: &'w mut [i32], row: usize, interleaved: bool) -> PlanWeight<'w> {
        PlanWeight::new(codes, bias, row, interleaved, ZERO_POINT).expect("sizes agree")
    }

    /// Rows from none to more entries than are under way at once, in both orders of codes.
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
            let mut log = vec![u32::MAX; log_words(&overlay)];
            let done = write(&mut weight(&mut codes, &mut bias, row, interleaved), &overlay, Some(&mut log));
            assert_eq!(done, Some(log.len()));
            assert_eq!((&codes, &bias), (&wanted, &wanted_bias));
            revert(&mut weight(&mut codes, &mut bias, row, interleaved), &log);
            assert_eq!((&codes, bias), (&base, vec![0; rows]));

            let mut unlogged = (base, vec![0; rows]);
            let mut copy = weight(&mut unlogged.0, &mut unlogged.1, row, interleaved);
            assert_eq!(write(&mut copy, &overlay, None), Some(0));
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
            let mut log = vec![0; room];
            let done = write(&mut weight(&mut codes, &mut bias, row, false), &overlay, Some(&mut log));
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
        assert!(!refused(&bounds, &indices, &values, 104));
        assert!(refused(&bounds, &indices, &values, 103), "the log is too short");
        assert!(refused(&bounds, &indices, &with(77, 121), 104), "128 is no code");
        assert!(refused(&bounds, &indices, &with(3, -136), 104), "-129 is no code");
        assert!(refused(&bounds, &past, &values, 104), "past the row");
        assert!(refused(&[0, 40, 39, 60, 100], &indices, &values, 104), "rows out of order");
        assert!(refused(&[0, 40, 40, 100], &indices, &values, 104), "a row is missing");
        assert!(refused(&[0, 40, 40, 60, 101], &indices, &values, 104), "past the entries");
    }
}
