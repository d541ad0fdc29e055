//! Log-mel patches, the YAMNet recipe among them.

use crate::error::{SignalError, require};
use crate::mel::MelConfig;
use crate::scale::{Level, Normalize, is_factor};
use crate::waveform::check_cut;
use crate::words::{WordReader, WordWriter, choice};

/// Most frames in one patch: 163 s at a stride of 10 ms.
pub const MAX_FRAMES: u32 = 1 << 14;

/// Most copies of the map.
pub const MAX_PLANES: u32 = 4;

choice! {
    /// Order of the two axes of a patch, outer first.
    pub enum Axes {
        /// `[frames, bands]`.
        FramesBands = 0 "frames-bands",
        /// `[bands, frames]`: time to the right, as in a picture of a spectrogram.
        BandsFrames = 1 "bands-frames",
    }
}

/// `ln(mel + offset)` over the frames of one patch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogMelConfig {
    /// From samples to mel bands.
    pub mel: MelConfig,
    /// Samples in one patch; frames that do not fit are left out.
    pub patch: u32,
    /// Samples from one patch to the next, a multiple of the stride: overlapping patches share their frames.
    pub hop: u32,
    /// Level of the samples.
    pub level: Level,
    /// Added before the logarithm.
    pub offset: f32,
    /// Normalization of the finished patch.
    pub normalize: Normalize,
    /// Order of the axes.
    pub axes: Axes,
    /// Copies of the map along a leading axis, for models that expect an image of several channels.
    pub planes: u32,
}

/// A checked [`LogMelConfig`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogMel {
    config: LogMelConfig,
    frames: u32,
}

impl LogMel {
    /// Checks a configuration.
    ///
    /// # Errors
    /// [`SignalError::Config`] naming the field and its rule.
    pub fn new(config: LogMelConfig) -> Result<Self, SignalError> {
        config.mel.check()?;
        check_cut(config.patch, config.hop)?;
        let stride = config.mel.stride.max(1);
        require(config.patch >= config.mel.frame, "patch", "at least one frame long")?;
        require(config.hop.is_multiple_of(stride), "hop", "a multiple of `stride` samples")?;
        let frames = 1 + (config.patch - config.mel.frame) / stride;
        require(frames <= MAX_FRAMES, "patch", "at most 16384 frames long")?;
        config.level.check()?;
        let blocks = config.level != Level::Peak || config.patch.is_multiple_of(stride);
        require(blocks, "patch", "a multiple of `stride` samples where the level is the peak's")?;
        require(is_factor(config.offset), "offset", "from 2^-60 to 2^60")?;
        config.normalize.check()?;
        require(config.planes >= 1 && config.planes <= MAX_PLANES, "planes", "from 1 to 4")?;
        Ok(Self { config, frames })
    }

    /// The configuration.
    #[must_use]
    pub const fn config(&self) -> &LogMelConfig {
        &self.config
    }

    /// Frames in one patch, `1 + ⌊(patch − frame)/stride⌋`.
    #[must_use]
    pub const fn frames(&self) -> u32 {
        self.frames
    }

    pub(crate) fn write(&self, words: &mut WordWriter<'_>) {
        self.config.mel.write(words);
        words.word(self.config.patch);
        words.word(self.config.hop);
        self.config.level.write(words);
        words.float(self.config.offset);
        self.config.normalize.write(words);
        words.word(self.config.axes as u32);
        words.word(self.config.planes);
    }

    pub(crate) fn read(words: &mut WordReader<'_>) -> Option<Self> {
        let config = LogMelConfig {
            mel: MelConfig::read(words)?,
            patch: words.word()?,
            hop: words.word()?,
            level: Level::read(words)?,
            offset: words.float()?,
            normalize: Normalize::read(words)?,
            axes: Axes::from_word(words.word()?)?,
            planes: words.word()?,
        };
        Self::new(config).ok()
    }
}
