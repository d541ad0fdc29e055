//! Writing integer overlays into weights, and taking them out again to the bit.
//!
//! A weight in memory that may be written is [`Patchable`], whatever its layout: the plan's, or one that a row packed.
//! The log keeps what stood at every changed place.

use crate::{Sparse, SparseValues, Step};

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

    #[inline(always)]
    fn push(&mut self, entry: UndoEntry) -> Option<()> {
        let Some(entries) = &mut self.entries else { return Some(()) };
        *entries.get_mut(self.used)? = entry;
        self.used = self.used.wrapping_add(1);
        Some(())
    }

    fn written(&self) -> &[UndoEntry] {
        self.entries.as_ref().and_then(|entries| entries.get(..self.used)).unwrap_or(&[])
    }
}

/// How a row writes overlays into the weights it packed.
#[derive(Clone, Copy, Debug)]
pub struct Patcher {
    /// Writes an overlay; `None` where it does not fit, with nothing changed as far as the log goes.
    pub write: fn(&Step<'_>, &mut [u8], &Sparse<'_>, &mut Log<'_>) -> Option<()>,
    /// Puts the logged codes back.
    pub revert: fn(&Step<'_>, &mut [u8], &[UndoEntry]) -> Option<()>,
}

/// An int8 weight that can be written, with what is kept of its rows.
pub trait Patchable {
    /// What finding places in one row needs, found once per row.
    type Row: Copy;

    /// Output channels.
    fn channels(&self) -> usize;
    /// Codes of a row.
    fn row_len(&self) -> usize;
    /// The codes, in the order of the memory.
    fn codes(&mut self) -> &mut [i8];
    /// The row of `channel`.
    fn row(&self, channel: usize) -> Option<Self::Row>;
    /// Where code `index` of `row` stands.
    fn place(&self, row: Self::Row, index: usize) -> Option<usize>;
    /// Takes notice that the codes of `channel` grew by `sum` together.
    fn grow(&mut self, channel: usize, sum: i32) -> Option<()>;
}

/// Writes `overlay`.
///
/// `None` for real values, sums beyond int8, indices past a row or a log too short; everything in the log is then put
/// back.
#[inline(always)]
pub fn write(weight: &mut impl Patchable, overlay: &Sparse<'_>, log: &mut Log<'_>) -> Option<()> {
    let SparseValues::I16(values) = overlay.values else { return None };
    if overlay.indices.is_empty() {
        return Some(());
    }
    let mut bounds = overlay.indptr.iter().zip(overlay.indptr.iter().skip(1));
    for channel in 0..weight.channels() {
        let mut sum = 0i32;
        let done = bounds.next().and_then(|(start, end)| {
            let span = *start as usize..*end as usize;
            if span.is_empty() {
                return Some(());
            }
            let deltas = overlay.indices.get(span.clone())?.iter().zip(values.get(span)?);
            write_row(weight, channel, deltas, log, &mut sum)
        });
        let kept = if sum == 0 { Some(()) } else { weight.grow(channel, sum) };
        if done.and(kept).is_none() {
            revert(weight, log.written());
            log.used = 0;
            return None;
        }
    }
    Some(())
}

#[inline(always)]
fn write_row<'d>(
    weight: &mut impl Patchable,
    channel: usize,
    deltas: impl Iterator<Item = (&'d u16, &'d i16)>,
    log: &mut Log<'_>,
    sum: &mut i32,
) -> Option<()> {
    let (row, len) = (weight.row(channel)?, weight.row_len());
    for (index, delta) in deltas {
        let index = usize::from(*index);
        (index < len).then_some(())?;
        let position = weight.place(row, index)?;
        let code = weight.codes().get_mut(position)?;
        let patched = i8::try_from(i32::from(*code).wrapping_add(i32::from(*delta))).ok()?;
        log.push(UndoEntry { channel: channel as u32, position: position as u32, original: *code })?;
        *code = patched;
        *sum = sum.wrapping_add(i32::from(*delta));
    }
    Some(())
}

/// Puts the codes of `entries` back, the last first.
#[inline]
pub fn revert(weight: &mut impl Patchable, entries: &[UndoEntry]) {
    for entry in entries.iter().rev() {
        let Some(code) = weight.codes().get_mut(entry.position as usize) else { continue };
        let change = i32::from(entry.original).wrapping_sub(i32::from(*code));
        *code = entry.original;
        // The channel was there when the entry was written.
        let _ = weight.grow(entry.channel as usize, change);
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

impl Patchable for PlanWeight<'_> {
    type Row = usize;

    fn channels(&self) -> usize {
        self.bias.len()
    }

    fn row_len(&self) -> usize {
        self.row
    }

    #[inline(always)]
    fn codes(&mut self) -> &mut [i8] {
        self.weight
    }

    #[inline(always)]
    fn row(&self, channel: usize) -> Option<usize> {
        Some(if self.interleaved { channel } else { channel.checked_mul(self.row)? })
    }

    #[inline(always)]
    fn place(&self, row: usize, index: usize) -> Option<usize> {
        row.checked_add(if self.interleaved { index.checked_mul(self.bias.len())? } else { index })
    }

    #[inline(always)]
    fn grow(&mut self, channel: usize, sum: i32) -> Option<()> {
        let bias = self.bias.get_mut(channel)?;
        *bias = bias.wrapping_sub(sum.wrapping_mul(self.zero_point));
        Some(())
    }
}
