//! What can be wrong with a recording.

use std::io;

/// Why a recording cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AudioError {
    /// The file is broken; the decoder's reason.
    Broken(&'static str),
    /// A sample format that is not read.
    Unsupported,
    /// The file ends early or could not be read on.
    Read(io::ErrorKind),
    /// No samples at all.
    Empty,
    /// A sample that is infinite or not a number.
    NotFinite {
        /// Position of the sample in its channel.
        frame: usize,
    },
    /// A file name extension that is not a recording's, or needs the feature `media`.
    Extension(String),
    /// A sampling rate outside 1 kHz to 768 kHz.
    Rate(u32),
    /// Two rates whose ratio needs too large a filter.
    Ratio {
        /// Rate of the recording.
        from: u32,
        /// Rate wanted.
        to: u32,
    },
}

impl core::fmt::Display for AudioError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Broken(reason) => write!(f, "not a readable recording: {reason}"),
            Self::Unsupported => {
                f.write_str("the sample format is not read; convert to 16-bit PCM or 32-bit float WAV")
            }
            Self::Read(kind) => write!(f, "the recording ends early or cannot be read: {kind}"),
            Self::Empty => f.write_str("the recording holds no samples"),
            Self::NotFinite { frame } => write!(f, "sample {frame} is not a finite number"),
            Self::Extension(extension) => write!(
                f,
                "recordings named .{extension} are not read; use .wav, or build with the feature `media` for .flac, .mp3 and .ogg"
            ),
            Self::Rate(rate) => write!(f, "sampling rate {rate} Hz is outside 1000 to 768000 Hz"),
            Self::Ratio { from, to } => {
                write!(
                    f,
                    "{from} Hz to {to} Hz has no small ratio; resample the recording to a common rate first"
                )
            }
        }
    }
}

impl core::error::Error for AudioError {}

impl From<io::Error> for AudioError {
    fn from(error: io::Error) -> Self {
        Self::Read(error.kind())
    }
}
