//! Level of a clip before the front end, and normalization of a patch after it.

use crate::error::{SignalError, require};
use crate::sample::Sample;
use crate::words::{WordReader, WordWriter};

/// Largest magnitude of a factor or offset, the bound on every scale of the runtime. Its square and its
/// reciprocal's are normal f32.
const MAX_FACTOR: f32 = (1_u64 << 60) as f32;

/// A peak below half a step of 24-bit PCM is silence and is left as it is.
const SILENCE: f32 = 1.0 / (1 << 24) as f32;

/// Variance added under the root, so that a constant patch becomes zeros.
const VARIANCE_FLOOR: f64 = 1e-6;

pub(crate) fn is_factor(value: f32) -> bool {
    (1.0 / MAX_FACTOR..=MAX_FACTOR).contains(&value)
}

pub(crate) fn is_offset(value: f32) -> bool {
    (-MAX_FACTOR..=MAX_FACTOR).contains(&value)
}

/// How loud the samples enter.
///
/// Spectra are homogeneous in the level, so a front end applies it to the mel row rather than to each sample:
/// a stream can then share frames between patches of different peaks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Level {
    /// Samples times a fixed factor; 1 leaves them as they are, 32768 restores 16-bit integers.
    Gain(f32),
    /// Samples divided by the largest sample (not the largest magnitude) of their patch, as MLPerf Tiny does.
    /// A patch without a positive sample keeps its level.
    Peak,
}

impl Level {
    pub(crate) fn check(self) -> Result<(), SignalError> {
        match self {
            Self::Gain(gain) => require(is_factor(gain), "level", "a gain from 2^-60 to 2^60"),
            Self::Peak => Ok(()),
        }
    }

    /// The factor on samples whose largest is `peak`.
    pub(crate) fn factor(self, peak: f32) -> f32 {
        match self {
            Self::Gain(gain) => gain,
            Self::Peak if peak >= SILENCE => 1.0 / peak,
            Self::Peak => 1.0,
        }
    }

    pub(crate) fn write(self, words: &mut WordWriter<'_>) {
        let (kind, gain) = match self {
            Self::Gain(gain) => (0, gain),
            Self::Peak => (1, 0.0),
        };
        words.word(kind);
        words.float(gain);
    }

    pub(crate) fn read(words: &mut WordReader<'_>) -> Option<Self> {
        match (words.word()?, words.word()?) {
            (0, gain) => Some(Self::Gain(f32::from_bits(gain))),
            (1, 0) => Some(Self::Peak),
            _ => None,
        }
    }
}

/// Largest sample, at least zero; NaN never is the largest.
pub(crate) fn peak<S: Sample>(samples: &[S]) -> f32 {
    samples.iter().fold(0.0, |peak, sample| louder(peak, sample.to_f32()))
}

pub(crate) fn louder(peak: f32, sample: f32) -> f32 {
    if sample > peak { sample } else { peak }
}

/// What is done to a finished patch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Normalize {
    /// Nothing.
    None,
    /// `(x − mean)/std` with the figures of a data set.
    Fixed {
        /// Subtracted from every value.
        mean: f32,
        /// Divides every value.
        std: f32,
    },
    /// `(x − mean)/√(variance + 1e-6)` with the patch's own mean and population variance, accumulated in f64.
    Patch,
}

impl Normalize {
    pub(crate) fn check(self) -> Result<(), SignalError> {
        match self {
            Self::Fixed { mean, std } => {
                require(is_offset(mean), "normalize.mean", "finite and within ±2^60")?;
                require(is_factor(std), "normalize.std", "from 2^-60 to 2^60")
            }
            Self::None | Self::Patch => Ok(()),
        }
    }

    pub(crate) fn apply(self, patch: &mut [f32]) {
        match self {
            Self::None => {}
            Self::Fixed { mean, std } => {
                for value in patch {
                    *value = (*value - mean) / std;
                }
            }
            Self::Patch => {
                let count = patch.len() as f64;
                let mean = patch.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
                let square = |value: &f32| (f64::from(*value) - mean) * (f64::from(*value) - mean);
                let variance = patch.iter().map(square).sum::<f64>() / count;
                let scale = 1.0 / libm::sqrt(variance + VARIANCE_FLOOR);
                for value in patch {
                    *value = ((f64::from(*value) - mean) * scale) as f32;
                }
            }
        }
    }

    pub(crate) fn write(self, words: &mut WordWriter<'_>) {
        let (kind, mean, std) = match self {
            Self::None => (0, 0.0, 0.0),
            Self::Fixed { mean, std } => (1, mean, std),
            Self::Patch => (2, 0.0, 0.0),
        };
        words.word(kind);
        words.float(mean);
        words.float(std);
    }

    pub(crate) fn read(words: &mut WordReader<'_>) -> Option<Self> {
        match (words.word()?, words.word()?, words.word()?) {
            (0, 0, 0) => Some(Self::None),
            (1, mean, std) => Some(Self::Fixed { mean: f32::from_bits(mean), std: f32::from_bits(std) }),
            (2, 0, 0) => Some(Self::Patch),
            _ => None,
        }
    }
}
