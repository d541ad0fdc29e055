//! Bytes that start at a cache line: more than plans, adapters and sessions ask for, and what vectors of 64 bytes like best.

/// Bytes of a cache line. Without it every 64-byte vector of a tensor lies in two.
const LINE: usize = 64;

/// A buffer whose first byte lies at the start of a cache line.
#[derive(Debug)]
pub(crate) struct AlignedBytes {
    storage: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBytes {
    /// `len` zeros.
    pub(crate) fn zeroed(len: usize) -> Self {
        let storage = vec![0; len.saturating_add(LINE)];
        let start = storage.as_ptr().align_offset(LINE);
        Self { storage, start, len }
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
        for len in 0..100 {
            let bytes: Vec<u8> = (0..len).collect();
            let aligned = AlignedBytes::from(bytes.as_slice());
            assert_eq!(aligned.as_slice(), bytes);
            assert_eq!(aligned.as_slice().as_ptr().align_offset(LINE), 0);
        }
    }
}
