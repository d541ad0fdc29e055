//! Bytes that start at a cache line: more than plans, adapters and sessions ask for, and what vectors of 64 bytes like best.
//! Large ones lie in large pages where Linux gives them.

use core::ops::{Deref, DerefMut};

#[cfg(target_os = "linux")]
use memmap2::{Advice, MmapMut};

/// Bytes of a cache line. Without it every 64-byte vector of a tensor lies in two.
const LINE: usize = 64;
/// Bytes of a large page. An overlay touches a line here and there in all packed weights: with pages of 4 kB most of the
/// time is spent finding out where they lie.
#[cfg(target_os = "linux")]
const LARGE: usize = 2 << 20;

/// A buffer whose first byte lies at the start of a cache line.
#[derive(Debug)]
pub(crate) struct AlignedBytes {
    storage: Storage,
    start: usize,
    len: usize,
}

#[derive(Debug)]
enum Storage {
    Heap(Vec<u8>),
    #[cfg(target_os = "linux")]
    Pages(MmapMut),
}

impl Deref for Storage {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes,
            #[cfg(target_os = "linux")]
            Self::Pages(bytes) => bytes,
        }
    }
}

impl DerefMut for Storage {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Heap(bytes) => bytes,
            #[cfg(target_os = "linux")]
            Self::Pages(bytes) => bytes,
        }
    }
}

impl AlignedBytes {
    /// `len` zeros.
    pub(crate) fn zeroed(len: usize) -> Self {
        Self::pages(len).unwrap_or_else(|| {
            let storage = vec![0; len.saturating_add(LINE)];
            let start = storage.as_ptr().align_offset(LINE);
            Self { storage: Storage::Heap(storage), start, len }
        })
    }

    /// Memory of its own that begins at a large page, and is asked to lie in such but for what is left over at its end; `None`
    /// for less than one, or where the system has none to give.
    #[cfg(target_os = "linux")]
    fn pages(len: usize) -> Option<Self> {
        if len < LARGE {
            return None;
        }
        let storage = MmapMut::map_anon(len.checked_add(LARGE)?).ok()?;
        let start = storage.as_ptr().align_offset(LARGE);
        // A kernel without large pages refuses, and the memory is as good as any.
        storage.advise_range(Advice::HugePage, start, len - len % LARGE).ok();
        Some(Self { storage: Storage::Pages(storage), start, len })
    }

    #[cfg(not(target_os = "linux"))]
    fn pages(_: usize) -> Option<Self> {
        None
    }

    /// The bytes.
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.storage.get(self.start..).and_then(|rest| rest.get(..self.len)).unwrap_or(&[])
    }

    /// The bytes, to write.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        let rest = self.storage.get_mut(self.start..).unwrap_or_default();
        rest.get_mut(..self.len).unwrap_or_default()
    }
}

impl AsRef<[u8]> for AlignedBytes {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl From<&[u8]> for AlignedBytes {
    fn from(bytes: &[u8]) -> Self {
        let mut aligned = Self::zeroed(bytes.len());
        aligned.as_mut_slice().copy_from_slice(bytes);
        aligned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_aligned_and_whole() {
        for len in (0..100).chain([(2 << 20) - 1, 2 << 20, (5 << 20) + 3]) {
            let bytes: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            let aligned = AlignedBytes::from(bytes.as_slice());
            assert_eq!(aligned.as_slice(), bytes);
            assert_eq!(aligned.as_slice().as_ptr().align_offset(LINE), 0);
        }
    }

    #[test]
    fn memory_begins_as_zeros() {
        for len in [100, 3 << 20] {
            assert!(AlignedBytes::zeroed(len).as_slice().iter().all(|byte| *byte == 0));
        }
    }
}
