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

    /// Adds a tap; `None` for another number of codes than of channels, or too many taps.
    #[inline(always)]
    pub(crate) fn push(&mut self, codes: &'t [i8]) -> Option<()> {
        let start = self.starts.get_mut(self.count)?;
        (codes.len() == self.channels).then_some(())?;
        *start = codes.as_ptr();
        self.count += 1;
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
