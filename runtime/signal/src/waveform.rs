//! Raw samples as the model's input.

use crate::error::{SignalError, require};
use crate::mel::check_rate;
use crate::scale::Level;
use crate::words::{WordReader, WordWriter};

/// Most samples in one patch: 17 minutes at 16 kHz.
pub const MAX_PATCH: u32 = 1 << 24;

/// A model fed with samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WaveformConfig {
    /// Samples a second.
    pub sample_rate: u32,
    /// Samples in one patch.
    pub patch: u32,
    /// Samples from one patch to the next.
    pub hop: u32,
    /// Level of the samples.
    pub level: Level,
}

/// A checked [`WaveformConfig`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Waveform {
    config: WaveformConfig,
}

impl Waveform {
    /// Checks a configuration.
    ///
    /// # Errors
    /// [`SignalError::Config`] naming the field and its rule.
    pub fn new(config: WaveformConfig) -> Result<Self, SignalError> {
        check_rate(config.sample_rate)?;
        check_cut(config.patch, config.hop)?;
        config.level.check()?;
        Ok(Self { config })
    }

    /// The configuration.
    #[must_use]
    pub const fn config(&self) -> &WaveformConfig {
        &self.config
    }

    pub(crate) fn write(&self, words: &mut WordWriter<'_>) {
        words.word(self.config.sample_rate);
        words.word(self.config.patch);
        words.word(self.config.hop);
        self.config.level.write(words);
    }

    pub(crate) fn read(words: &mut WordReader<'_>) -> Option<Self> {
        let config = WaveformConfig {
            sample_rate: words.word()?,
            patch: words.word()?,
            hop: words.word()?,
            level: Level::read(words)?,
        };
        Self::new(config).ok()
    }
}

pub(crate) fn check_cut(patch: u32, hop: u32) -> Result<(), SignalError> {
    require((1..=MAX_PATCH).contains(&patch), "patch", "from 1 to 2^24 samples")?;
    require((1..=MAX_PATCH).contains(&hop), "hop", "from 1 to 2^24 samples")
}
