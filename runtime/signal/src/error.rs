//! Why a front end refuses a configuration or a call.

use core::error::Error;
use core::fmt;

/// A refused configuration, buffer or preset; the message says what to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignalError {
    /// A configuration field breaks its rule.
    Config {
        /// Name of the field, as in the configuration struct.
        field: &'static str,
        /// What the field must satisfy.
        rule: &'static str,
    },
    /// A patch was given more samples than it holds.
    Samples {
        /// Samples given.
        given: usize,
        /// Samples one patch holds.
        at_most: usize,
    },
    /// An image input has another number of bytes than the recipe states.
    Pixels {
        /// Bytes given.
        given: usize,
        /// Bytes of one image.
        needed: usize,
    },
    /// The working memory is too small.
    Memory {
        /// Floats given.
        given: usize,
        /// Floats needed.
        needed: usize,
    },
    /// The output buffer has another length than the patch.
    Output {
        /// Floats given.
        given: usize,
        /// Floats of one patch.
        needed: usize,
    },
    /// Samples were given to a recipe that takes none.
    NotAudio {
        /// Kind of the recipe.
        kind: &'static str,
    },
    /// No preset has this name.
    UnknownPreset,
    /// The model input does not have the shape of the preset.
    PresetShape {
        /// Name of the preset.
        preset: &'static str,
        /// The shape it needs, without the batch axis.
        expected: &'static str,
    },
}

impl fmt::Display for SignalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config { field, rule } => write!(f, "front end: `{field}` must be {rule}"),
            Self::Samples { given, at_most } => {
                write!(
                    f,
                    "a patch holds {at_most} samples, {given} were given: cut the clip into patches first"
                )
            }
            Self::Pixels { given, needed } => {
                write!(f, "an image of this recipe has {needed} bytes, {given} were given: resize it first")
            }
            Self::Memory { given, needed } => {
                write!(f, "the front end needs {needed} floats of memory, {given} were given")
            }
            Self::Output { given, needed } => {
                write!(f, "one patch fills exactly {needed} floats, the output has {given}")
            }
            Self::NotAudio { kind } => {
                write!(
                    f,
                    "a front end of kind `{kind}` takes no samples: feed the model's input tensor instead"
                )
            }
            Self::UnknownPreset => {
                f.write_str("no such front end: use ")?;
                for (position, name) in crate::preset::NAMES.iter().enumerate() {
                    write!(f, "{}{name}", if position == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Self::PresetShape { preset, expected } => {
                write!(f, "front end `{preset}` feeds a model input of shape {expected} after the batch axis")
            }
        }
    }
}

impl Error for SignalError {}

/// Turns a broken rule into [`SignalError::Config`].
pub(crate) fn require(holds: bool, field: &'static str, rule: &'static str) -> Result<(), SignalError> {
    if holds { Ok(()) } else { Err(SignalError::Config { field, rule }) }
}
