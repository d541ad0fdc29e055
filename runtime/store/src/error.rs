//! Why a store does not do what it was asked.

use core::fmt;

use ingraft_adapter::AdapterError;

use crate::{SealError, Shortage};

/// What an operation of a store ends in when it fails. `E` is the error of the medium.
///
/// After [`Self::Refused`] everything is as before. After any other the store may not know what stands on the medium: it
/// answers [`Self::Stale`] from then on until it is opened again, and opened again has the state from before the
/// operation or from after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError<E> {
    /// The operation makes no sense now, or the file is not welcome.
    Refused(Refusal),
    /// The medium failed.
    Medium(E),
    /// What was written there reads differently.
    Unwritable {
        /// Offset on the medium, in bytes.
        offset: u32,
    },
    /// An earlier operation failed; open the store again.
    Stale,
    /// No store is here; format the region.
    Unformatted,
    /// The store here was formatted for another region or by another version; format the region again.
    Format,
    /// The region does not fit the medium: see [`crate::Region`].
    Region,
    /// There are more keys than places in the index.
    Index {
        /// Keys that were found before the index was full.
        keys: usize,
    },
}

/// Why a store refuses. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no such key.
    UnknownKey,
    /// The key has no good adapter, or it was evicted: stage it again.
    NoAdapter,
    /// The key has no candidate: stage one.
    NothingStaged,
    /// A trial goes on: confirm or revert it first.
    OnTrial,
    /// No trial goes on: begin one.
    NotOnTrial,
    /// An empty file.
    Empty,
    /// There is no room for the file, whatever is evicted: unpin, remove or revert others.
    Room {
        /// Bytes it takes.
        needed: u32,
        /// Most bytes in a row that could be had.
        most: u32,
    },
    /// There is no room for another key: remove one.
    Keys {
        /// Keys there is room for.
        most: usize,
    },
    /// The caller's memory is too small for the file.
    Memory {
        /// Bytes needed, to be aligned in.
        needed: usize,
    },
    /// The file on the medium is not the one that was stored: use the base, and stage the adapter again.
    Damaged,
    /// The policy asks for an adapter file, and this is none.
    Adapter(AdapterError),
    /// The adapter is for another base.
    WrongBase,
    /// The policy asks for a seal, and this one does not do.
    Seal(SealError),
}

impl<E> From<Refusal> for StoreError<E> {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Shortage> for Refusal {
    fn from(Shortage { needed, most }: Shortage) -> Self {
        Self::Room { needed, most }
    }
}

impl<E: fmt::Debug> fmt::Display for StoreError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Medium(error) => write!(f, "the medium failed: {error:?}"),
            Self::Unwritable { offset } => {
                write!(f, "what was written at {offset:#x} reads differently: the flash is worn out there")
            }
            Self::Stale => f.write_str("an earlier operation failed: open the store again"),
            Self::Unformatted => f.write_str("no store is here: format the region"),
            Self::Format => f.write_str(
                "the store was formatted for another region or by another version: format it again",
            ),
            Self::Region => {
                f.write_str("the region does not fit the flash: sectors whole, records in a bank")
            }
            Self::Index { keys } => write!(f, "the index is full after {keys} keys: give it more places"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey => f.write_str("nothing is kept under this key"),
            Self::NoAdapter => f.write_str("no good adapter is kept under this key: stage one"),
            Self::NothingStaged => f.write_str("nothing is staged under this key"),
            Self::OnTrial => f.write_str("a trial goes on under this key: confirm or revert it first"),
            Self::NotOnTrial => f.write_str("no trial goes on under this key: begin one"),
            Self::Empty => f.write_str("the file is empty"),
            Self::Room { needed, most } => write!(
                f,
                "the file takes {needed} bytes and no more than {most} in a row could be had: unpin or remove others"
            ),
            Self::Keys { most } => write!(f, "there is room for {most} keys: remove one"),
            Self::Memory { needed } => write!(f, "the file needs {needed} bytes of memory"),
            Self::Damaged => {
                f.write_str("the stored file is damaged: use the base and stage the adapter again")
            }
            Self::Adapter(error) => error.fmt(f),
            Self::WrongBase => f.write_str("the adapter is for another base"),
            Self::Seal(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug> core::error::Error for StoreError<E> {}

impl core::error::Error for Refusal {}
