//! What can be wrong with a picture.

/// Why a picture cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageError {
    /// The file is broken; the decoder's words.
    Broken(String),
    /// More pixels than are read.
    TooLarge {
        /// Columns the file states.
        width: usize,
        /// Rows the file states.
        height: usize,
    },
    /// A file name extension that is not a picture's.
    Extension(String),
}

impl core::fmt::Display for ImageError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Broken(reason) => write!(f, "not a readable picture: {reason}"),
            Self::TooLarge { width, height } => {
                write!(f, "{width} x {height} pixels are more than 2^26; scale the picture down first")
            }
            Self::Extension(extension) => {
                write!(f, "pictures named .{extension} are not read; use .png or .jpg")
            }
        }
    }
}

impl core::error::Error for ImageError {}
