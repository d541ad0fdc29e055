//! What can be wrong with a file, a folder or a request, each with what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::{ArrayError, AudioError, ImageError, LabelError, SplitError};

/// Why data could not be read, with the file or folder at fault.
#[derive(Debug)]
#[non_exhaustive]
pub enum DatasetError {
    /// The file or folder could not be read or written.
    Io {
        /// What was being read or written.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// Not a readable recording.
    Audio {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: AudioError,
    },
    /// Not a readable picture.
    Image {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: ImageError,
    },
    /// Not a readable `.npy` file or `.npz` archive.
    Array {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: ArrayError,
    },
    /// Not a labelled folder.
    Label {
        /// The folder or its `labels.csv`.
        path: PathBuf,
        /// What is wrong with it.
        reason: LabelError,
    },
    /// A split file that does not fit its data set.
    Split {
        /// The split file.
        path: PathBuf,
        /// What is wrong with it.
        reason: SplitError,
    },
}

impl DatasetError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_path_buf(), source }
    }

    pub(crate) fn audio(path: &Path, reason: AudioError) -> Self {
        Self::Audio { path: path.to_path_buf(), reason }
    }

    pub(crate) fn image(path: &Path, reason: ImageError) -> Self {
        Self::Image { path: path.to_path_buf(), reason }
    }

    pub(crate) fn array(path: &Path, reason: ArrayError) -> Self {
        Self::Array { path: path.to_path_buf(), reason }
    }

    pub(crate) fn label(path: &Path, reason: LabelError) -> Self {
        Self::Label { path: path.to_path_buf(), reason }
    }

    pub(crate) fn split(path: &Path, reason: SplitError) -> Self {
        Self::Split { path: path.to_path_buf(), reason }
    }
}

impl core::fmt::Display for DatasetError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Io { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Audio { path, reason } => write!(f, "{}: {reason}", path.display()),
            Self::Image { path, reason } => write!(f, "{}: {reason}", path.display()),
            Self::Array { path, reason } => write!(f, "{}: {reason}", path.display()),
            Self::Label { path, reason } => write!(f, "{}: {reason}", path.display()),
            Self::Split { path, reason } => write!(f, "{}: {reason}", path.display()),
        }
    }
}

impl core::error::Error for DatasetError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Audio { reason, .. } => Some(reason),
            Self::Image { reason, .. } => Some(reason),
            Self::Array { reason, .. } => Some(reason),
            Self::Label { reason, .. } => Some(reason),
            Self::Split { reason, .. } => Some(reason),
        }
    }
}
