//! How an audio recipe cuts a clip into patches and a patch into rows.

use crate::log_mel::LogMel;
use crate::scale::Level;
use crate::waveform::Waveform;

/// Sizes of an audio recipe: a patch is `frames` rows of `width` values, one row every `stride` samples.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    pub(crate) patch: usize,
    pub(crate) hop: usize,
    pub(crate) frame: usize,
    pub(crate) stride: usize,
    pub(crate) frames: usize,
    pub(crate) width: usize,
    /// Stride-long blocks of a patch whose peaks a stream must remember.
    pub(crate) blocks: usize,
}

impl Grid {
    pub(crate) fn waveform(waveform: &Waveform) -> Self {
        let config = waveform.config();
        let (patch, hop) = (config.patch as usize, config.hop as usize);
        // One row a sample: the rows themselves hold the peak.
        Self { patch, hop, frame: 1, stride: 1, frames: patch, width: 1, blocks: 0 }
    }

    pub(crate) fn log_mel(log_mel: &LogMel) -> Self {
        let config = log_mel.config();
        let blocks = match config.level {
            Level::Peak => config.patch / config.mel.stride.max(1),
            Level::Gain(_) => 0,
        };
        Self {
            patch: config.patch as usize,
            hop: config.hop as usize,
            frame: config.mel.frame as usize,
            stride: config.mel.stride as usize,
            frames: log_mel.frames() as usize,
            width: config.mel.bands as usize,
            blocks: blocks as usize,
        }
    }
}

/// The patches of a clip, from [`Recipe::cut`](crate::Recipe::cut).
#[derive(Debug, Clone)]
pub struct Patches<'c, S> {
    rest: &'c [S],
    patch: usize,
    hop: usize,
    left: usize,
}

impl<'c, S> Patches<'c, S> {
    pub(crate) fn new(clip: &'c [S], patch: usize, hop: usize, count: usize) -> Self {
        Self { rest: clip, patch, hop, left: count }
    }
}

impl<'c, S> Iterator for Patches<'c, S> {
    type Item = &'c [S];

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let patch = self.rest.get(..self.patch).unwrap_or(self.rest);
        self.rest = self.rest.get(self.hop..).unwrap_or(&[]);
        Some(patch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<S> ExactSizeIterator for Patches<'_, S> {}
