//! Recordings: mono samples at the rate a front-end recipe wants.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use crate::error::DatasetError;

pub use error::AudioError;
pub use pcm::PcmStream;
pub use resample::Resampler;
pub use wav::from_wav;

mod error;
#[cfg(feature = "media")]
mod media;
mod pcm;
mod resample;
mod wav;

/// A mono recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Clip {
    /// Samples per second.
    pub rate: u32,
    /// Samples, full scale being ±1; at least one, all finite.
    pub samples: Vec<f32>,
}

impl Clip {
    /// This clip at `rate` samples per second.
    ///
    /// # Errors
    /// [`AudioError::Rate`] and [`AudioError::Ratio`], see [`Resampler::new`]; [`AudioError::NotFinite`] where samples
    /// near the end of the range of f32 overflow.
    pub fn at_rate(self, rate: u32) -> Result<Self, AudioError> {
        if rate == self.rate {
            return Ok(self);
        }
        Self::finite(rate, Resampler::new(self.rate, rate)?.apply(&self.samples))
    }

    /// A clip of samples that may have overflowed.
    fn finite(rate: u32, samples: Vec<f32>) -> Result<Self, AudioError> {
        match samples.iter().position(|sample| !sample.is_finite()) {
            Some(frame) => Err(AudioError::NotFinite { frame }),
            None => Ok(Self { rate, samples }),
        }
    }

    /// The clip of interleaved `frames` of `channels` samples, averaged to mono.
    fn from_interleaved(rate: u32, channels: usize, frames: &[f32]) -> Result<Self, AudioError> {
        if let Some(at) = frames.iter().position(|sample| !sample.is_finite()) {
            return Err(AudioError::NotFinite { frame: at / channels.max(1) });
        }
        let mono = frames.chunks_exact(channels.max(1));
        let samples: Vec<f32> = mono.map(|frame| frame.iter().sum::<f32>() / frame.len() as f32).collect();
        if samples.is_empty() {
            return Err(AudioError::Empty);
        }
        // A sum over channels may be infinite where no sample is.
        Self::finite(rate, samples)
    }
}

/// Reads a recording at its own rate; the format follows from the file name's extension.
///
/// # Errors
/// [`DatasetError::Io`] and [`DatasetError::Audio`]. FLAC, MP3 and Ogg need the
/// feature `media`.
pub fn read_clip(path: &Path) -> Result<Clip, DatasetError> {
    let file = File::open(path).map_err(|source| DatasetError::io(path, source))?;
    let extension =
        path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_ascii_lowercase();
    let clip = match extension.as_str() {
        "wav" => from_wav(BufReader::new(file)),
        #[cfg(feature = "media")]
        other if EXTENSIONS.contains(&other) => media::decode(file, other),
        _ => Err(AudioError::Extension(extension)),
    };
    clip.map_err(|reason| DatasetError::audio(path, reason))
}

/// Reads a recording as mono samples at `rate`.
///
/// # Errors
/// [`DatasetError::Io`] and [`DatasetError::Audio`].
pub fn read_audio(path: &Path, rate: u32) -> Result<Vec<f32>, DatasetError> {
    let clip = read_clip(path)?.at_rate(rate).map_err(|reason| DatasetError::audio(path, reason))?;
    Ok(clip.samples)
}

/// File name extensions of recordings, lower case.
pub(crate) const EXTENSIONS: [&str; 5] = ["wav", "flac", "mp3", "ogg", "oga"];
