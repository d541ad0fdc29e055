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
    codes: PhantomData<&'t [i8]>,
}

impl<'t> Taps<'t> {
    /// No taps.
    pub(crate) fn new(channels: usize) -> Self {
        Self { starts: [core::ptr::null(); TAPS], count: 0, channels, codes: PhantomData }
    }

    /// Takes all taps away.
    #[inline(always)]
    pub(crate) fn clear(&mut self) {
        self.count = 0;
    }

    /// Adds `count` taps, each `step` codes behind the one before, the first at the start of `codes`; `None` where these
    /// are fewer than the taps have, or for too many taps.
    #[inline(always)]
    pub(crate) fn push(&mut self, codes: &'t [i8], count: usize, step: usize) -> Option<()> {
        let Some(last) = count.checked_sub(1) else { return Some(()) };
        let behind = self.count.checked_add(count)?;
        let slots = self.starts.get_mut(self.count..behind)?;
        (codes.len() >= last.checked_mul(step)?.checked_add(self.channels)?).then_some(())?;
        let start = |tap: usize| codes.as_ptr().wrapping_add(tap * step);
        // Compilers unroll a loop over so few into more than it takes.
        match slots {
            [a] => *a = start(0),
            [a, b] => [*a, *b] = [start(0), start(1)],
            [a, b, c] => [*a, *b, *c] = [start(0), start(1), start(2)],
            slots => slots.iter_mut().enumerate().for_each(|(tap, slot)| *slot = start(tap)),
        }
        self.count = behind;
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
