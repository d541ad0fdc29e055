//! Mel-frequency cepstral coefficients: a DCT-II of each log-mel row.

use core::f64::consts::PI;

use crate::error::{SignalError, require};
use crate::log_mel::{LogMel, LogMelConfig};
use crate::words::{WordReader, WordWriter};

/// The first coefficients of each log-mel row.
///
/// The log-mel's `normalize`, `axes` and `planes` apply to the coefficients.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MfccConfig {
    /// The rows transformed.
    pub log_mel: LogMelConfig,
    /// Coefficients kept, from the zeroth.
    pub coefficients: u32,
}

/// A checked [`MfccConfig`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mfcc {
    log_mel: LogMel,
    coefficients: u32,
}

impl Mfcc {
    /// Checks a configuration.
    ///
    /// # Errors
    /// [`SignalError::Config`] naming the field and its rule.
    pub fn new(config: MfccConfig) -> Result<Self, SignalError> {
        let log_mel = LogMel::new(config.log_mel)?;
        let coefficients = config.coefficients;
        let bands = config.log_mel.mel.bands;
        require(coefficients >= 1 && coefficients <= bands, "coefficients", "from 1 to `bands`")?;
        Ok(Self { log_mel, coefficients })
    }

    /// The rows transformed.
    #[must_use]
    pub const fn log_mel(&self) -> &LogMel {
        &self.log_mel
    }

    /// Coefficients kept of each row.
    #[must_use]
    pub const fn coefficients(&self) -> u32 {
        self.coefficients
    }

    pub(crate) fn write(&self, words: &mut WordWriter<'_>) {
        self.log_mel.write(words);
        words.word(self.coefficients);
    }

    pub(crate) fn read(words: &mut WordReader<'_>) -> Option<Self> {
        let log_mel = *LogMel::read(words)?.config();
        Self::new(MfccConfig { log_mel, coefficients: words.word()? }).ok()
    }
}

/// Fills `basis`, `coefficients × bands` row-major, with `√(2/N)·cos(πk(n + ½)/N)`.
///
/// HTK's scaling, which `tf.signal.mfccs_from_log_mel_spectrograms` follows: orthonormal save for the zeroth
/// row, which would need `√(1/N)`.
///
/// # Numerics
/// Computed in f64 and rounded once.
pub(crate) fn fill_dct(basis: &mut [f32], bands: u32) {
    let count = f64::from(bands);
    let scale = libm::sqrt(2.0 / count);
    for (k, row) in basis.chunks_exact_mut(bands.max(1) as usize).enumerate() {
        for (n, weight) in row.iter_mut().enumerate() {
            *weight = (scale * libm::cos(PI * k as f64 * (n as f64 + 0.5) / count)) as f32;
        }
    }
}
