//! Bytes at the boundary that plans, adapters and arenas need.

use ingraft_tensor::bytes;

pub(crate) struct Aligned {
    storage: Vec<u8>,
    len: usize,
}

impl Aligned {
    pub(crate) fn zeroed(len: usize) -> Self {
        Self { storage: vec![0; len + bytes::ALIGN], len }
    }

    pub(crate) fn new(bytes: &[u8]) -> Self {
        let mut it = Self::zeroed(bytes.len());
        it.bytes_mut().copy_from_slice(bytes);
        it
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        let skip = self.storage.as_ptr().align_offset(bytes::ALIGN);
        &self.storage[skip..skip + self.len]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytes::aligned_mut(&mut self.storage)[..self.len]
    }
}
