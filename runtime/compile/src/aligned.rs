//! Bytes where plans have to start.

use ingraft_tensor::bytes::{ALIGN, aligned_mut};

/// Bytes that start where plans have to.
pub(crate) struct Aligned {
    storage: Vec<u8>,
    len: usize,
}

impl Aligned {
    /// A copy of `bytes`.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut storage = vec![0; bytes.len() + ALIGN];
        aligned_mut(&mut storage)[..bytes.len()].copy_from_slice(bytes);
        Self { storage, len: bytes.len() }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        let start = self.storage.as_ptr().align_offset(ALIGN);
        &self.storage[start..start + self.len]
    }
}
