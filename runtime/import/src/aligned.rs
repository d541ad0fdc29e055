//! Adapter bytes where they may be attached from.

use ingraft_tensor::bytes;

/// Bytes that start at a 16-byte boundary.
#[derive(Clone, Debug)]
pub struct Aligned {
    words: Vec<u128>,
    len: usize,
}

impl Aligned {
    /// A copy of `bytes`.
    pub fn copy_of(bytes: &[u8]) -> Self {
        let word = |chunk: &[u8]| {
            let mut word = [0; 16];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            u128::from_le_bytes(word)
        };
        Self { words: bytes.chunks(16).map(word).collect(), len: bytes.len() }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &bytes::of(&self.words)[..self.len]
    }
}

// A file's alignment is that of the words it is kept in.
const _: () = assert!(align_of::<u128>() >= bytes::ALIGN);
