//! The window of a depthwise convolution at one pixel.

use core::marker::PhantomData;

/// The most taps of a window: 7×7.
pub(crate) const TAPS: usize = 49;

/// Places of the input, or of padding, under a window: at each the codes of all channels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taps<'t> {
    /// Of which each, below `count`, points to `channels` codes: `push` saw them.
    starts: [*const i8; TAPS],
    count: usize,
    channels: usize,
    pairs_fit: bool,
    codes: PhantomData<&'t [i8]>,
}

impl<'t> Taps<'t> {
    /// No taps. Whether `pairs_fit` is what [`Self::pairs_fit`] says.
    pub(crate) fn new(channels: usize, pairs_fit: bool) -> Self {
        Self { starts: [core::ptr::null(); TAPS], count: 0, channels, pairs_fit, codes: PhantomData }
    }

    /// Whether the sum of two products fits int16.
    #[cfg_attr(not(helium), allow(dead_code, reason = "read by instructions"))]
    pub(crate) fn pairs_fit(&self) -> bool {
        self.pairs_fit
    }

    /// Takes all taps away.
    #[inline(always)]
    pub(crate) fn clear(&mut self) {
        self.count = 0;
    }

    /// Adds `count` taps, each `step` codes behind the one before, the first at the start of `codes`; `None` where these
    /// are fewer than the taps have, or for too many taps.
    #[cfg_attr(helium, inline(always))]
    #[cfg_attr(not(helium), inline(never))]
    pub(crate) fn push(&mut self, codes: &'t [i8], count: usize, step: usize) -> Option<()> {
        let Some(last) = count.checked_sub(1) else { return Some(()) };
        let behind = self.count.checked_add(count)?;
        let slots = self.starts.get_mut(self.count..behind)?;
        (codes.len() >= last.checked_mul(step)?.checked_add(self.channels)?).then_some(())?;
        for (tap, slot) in slots.iter_mut().enumerate() {
            *slot = codes.as_ptr().wrapping_add(tap * step);
        }
        self.count = behind;
        Some(())
    }

    /// Moves all taps but those at `padding` on by `step` codes of `codes`, in which they lie; `None` where they would leave it,
    /// and then there are no taps.
    #[inline]
    pub(crate) fn move_by(&mut self, step: usize, codes: &'t [i8], padding: &'t [i8]) -> Option<()> {
        let count = core::mem::take(&mut self.count);
        (step <= codes.len()).then_some(())?;
        let (first, mut last) = (codes.as_ptr(), codes.as_ptr());
        // Without branches: a compiler for a vector unit can use it.
        for start in self.starts.get_mut(..count)? {
            let (moved, stays) = (start.wrapping_add(step), *start == padding.as_ptr());
            *start = if stays { *start } else { moved };
            last = last.max(if stays { first } else { moved });
        }
        (last.wrapping_add(self.channels) <= codes.as_ptr_range().end).then_some(())?;
        self.count = count;
        Some(())
    }

    /// Codes of a tap.
    pub(crate) fn channels(&self) -> usize {
        self.channels
    }

    /// Pointers to [`Self::channels`] codes each, readable while `self` is.
    #[cfg_attr(not(dsp), allow(dead_code, reason = "read by instructions"))]
    pub(crate) fn starts(&self) -> &[*const i8] {
        self.starts.get(..self.count).unwrap_or(&[])
    }

    /// The codes of each tap.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'t [i8]> + use<'t, '_> {
        let channels = self.channels;
        // SAFETY: `push` was given a slice of `channels` codes that starts there and lives for 't.
        self.starts().iter().map(move |start| unsafe { core::slice::from_raw_parts(*start, channels) })
    }
}
