//! Why an adapter is refused.

/// A site's name, kept by value so that errors need no borrow of the file.
/// Names beyond 64 bytes are cut.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SiteName {
    bytes: [u8; Self::CAPACITY],
    len: u8,
}

impl SiteName {
    const CAPACITY: usize = 64;

    /// The first 64 bytes of `name`, cut at a character boundary.
    pub fn new(name: &str) -> Self {
        let mut it = Self { bytes: [0; Self::CAPACITY], len: 0 };
        for character in name.chars() {
            let mut utf8 = [0u8; 4];
            let encoded = character.encode_utf8(&mut utf8).as_bytes();
            let start = it.len as usize;
            let Some(room) = it.bytes.get_mut(start..start + encoded.len()) else { break };
            room.iter_mut().zip(encoded).for_each(|(r, e)| *r = *e);
            it.len += encoded.len() as u8;
        }
        it
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        self.bytes.get(..self.len as usize).and_then(|b| core::str::from_utf8(b).ok()).unwrap_or("")
    }
}

impl core::fmt::Debug for SiteName {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.as_str().fmt(f)
    }
}

/// The first reason to refuse an adapter file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdapterError {
    /// The file does not begin with the adapter signature.
    NotAnAdapter,
    /// The format version is not the one this runtime reads.
    Version(u32),
    /// The bytes do not start at a 16-byte boundary.
    Misaligned,
    /// The file is shorter or longer than its header says.
    Length,
    /// The content hash does not match: the file was damaged or altered.
    Hash,
    /// A table, string or blob lies outside the file, or a record is invalid.
    Record(u32),
    /// The adapter was made for another base.
    WrongBase {
        /// First bytes of the base hash the adapter names.
        wanted: [u8; 4],
        /// First bytes of the hash of the base at hand.
        found: [u8; 4],
    },
    /// The adapter has terms for a site the base does not have, or did not declare it.
    UnknownSite(SiteName),
    /// The adapter declares a site but carries no terms for it.
    MissingSite(SiteName),
    /// A site appears twice or out of order.
    DuplicateSite(SiteName),
    /// A term's shape is not the site's.
    Shape(SiteName),
    /// The site's kind or element type cannot take the term.
    Kind(SiteName),
    /// A factor is NaN or infinite.
    NotFinite(SiteName),
    /// A sparse term's indices are not ascending or leave the row.
    Indices(SiteName),
    /// The rank is zero or above the limit.
    Rank(SiteName),
    /// The sums of a fused weight could leave 32 bits.
    Accumulator(SiteName),
    /// The method's own tensor of this name, or the settings of this site, are malformed, out of order or not finite.
    Parameters(SiteName),
    /// What the file says of its privacy makes no sense.
    Privacy,
    /// The head does not fit the tensor it reads.
    HeadShape,
    /// The head has more classes than the plan reserved room for.
    HeadClasses {
        /// Classes of the head.
        wanted: u32,
        /// Classes the plan has room for.
        reserved: u32,
    },
}

impl core::fmt::Display for AdapterError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotAnAdapter => f.write_str("not an adapter file"),
            Self::Version(v) => write!(f, "adapter format {v} is not supported; export it again"),
            Self::Misaligned => f.write_str("adapter bytes must start at a 16-byte boundary"),
            Self::Length => f.write_str("adapter file is truncated or has trailing bytes"),
            Self::Hash => f.write_str("adapter content hash does not match; the file is damaged"),
            Self::Record(i) => write!(f, "adapter record {i} is invalid"),
            Self::WrongBase { wanted, found } => {
                write!(f, "adapter belongs to base {:08x}, this base is {:08x}", word(wanted), word(found))
            }
            Self::UnknownSite(s) => {
                write!(f, "site {:?} is not one this base or adapter declares", s.as_str())
            }
            Self::MissingSite(s) => {
                write!(f, "adapter declares site {:?} but has no terms for it", s.as_str())
            }
            Self::DuplicateSite(s) => write!(f, "site {:?} appears twice or out of order", s.as_str()),
            Self::Shape(s) => write!(f, "term shapes do not fit site {:?}", s.as_str()),
            Self::Kind(s) => write!(f, "site {:?} cannot take this kind of term", s.as_str()),
            Self::NotFinite(s) => write!(f, "a factor at site {:?} is not finite", s.as_str()),
            Self::Indices(s) => {
                write!(f, "sparse indices at site {:?} are out of order or range", s.as_str())
            }
            Self::Rank(s) => write!(f, "rank at site {:?} is zero or above the limit", s.as_str()),
            Self::Accumulator(s) => {
                write!(f, "sums of the fused weight at site {:?} could leave 32 bits", s.as_str())
            }
            Self::Parameters(s) => {
                write!(f, "the method's parameter {:?} is malformed, out of order or not finite", s.as_str())
            }
            Self::Privacy => f.write_str("what the adapter says of its privacy makes no sense"),
            Self::HeadShape => f.write_str("the head does not fit the tensor it reads"),
            Self::HeadClasses { wanted, reserved } => {
                write!(
                    f,
                    "the head has {wanted} classes, the plan reserved {reserved}: compile with --head-classes {wanted}"
                )
            }
        }
    }
}

impl core::error::Error for AdapterError {}

fn word(bytes: &[u8; 4]) -> u32 {
    u32::from_be_bytes(*bytes)
}
