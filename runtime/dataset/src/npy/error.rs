//! What can be wrong with a `.npy` file or an `.npz` archive.

/// Why bytes are not a readable array or archive of arrays.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArrayError {
    /// The bytes do not start as a `.npy` file does.
    NotNpy,
    /// A format version other than 1 to 3.
    Version {
        /// Major version of the file.
        major: u8,
        /// Minor version of the file.
        minor: u8,
    },
    /// The header is not the dictionary NumPy writes.
    Header {
        /// Byte of the header at which reading stopped.
        at: usize,
    },
    /// An element type that is not read, as NumPy spells it.
    ElementType(String),
    /// The elements do not fill the shape exactly.
    Length {
        /// Shape the header states.
        shape: Vec<usize>,
        /// Bytes that follow the header.
        found: usize,
    },
    /// A broken or unsupported ZIP archive.
    Archive(&'static str),
    /// An archive, an entry or a name larger than the format's plain form allows.
    ArchiveTooLarge,
    /// An entry of an archive that is not a `.npy` file.
    NotAnArray(String),
}

impl core::fmt::Display for ArrayError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotNpy => f.write_str("not a .npy file; write one with numpy.save"),
            Self::Version { major, minor } => {
                write!(f, ".npy version {major}.{minor} is not read, only 1 to 3")
            }
            Self::Header { at } => {
                write!(f, "the .npy header is broken at byte {at}; write the file anew with numpy.save")
            }
            Self::ElementType(descr) => write!(
                f,
                "element type {descr} is not read; convert with .astype() to float32, int8, uint8, int16, int32, int64 or bool"
            ),
            Self::Length { shape, found } => {
                write!(
                    f,
                    "shape {shape:?} does not fit the {found} bytes that follow; the file is truncated or broken"
                )
            }
            Self::Archive(reason) => {
                write!(f, "not a readable .npz archive: {reason}; write one with numpy.savez")
            }
            Self::ArchiveTooLarge => {
                f.write_str("the archive is beyond 2 GiB, 65535 entries or 65535 bytes of name")
            }
            Self::NotAnArray(name) => write!(f, "the archive holds {name:?}, which is not a .npy file"),
        }
    }
}

impl core::error::Error for ArrayError {}
