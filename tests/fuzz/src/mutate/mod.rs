//! Changes that keep an input readable, so that what lies behind the first check is reached.
//!
//! Each function is a custom mutator of libFuzzer: it changes the first `size` bytes of `data`, in place, to a number of
//! bytes that it gives back, `data.len()` at most. `own` is libFuzzer's mutation of a slice that is longer than its
//! content, which is given as well; half of the changes are left to it.

mod npy;
mod onnx;
mod onnx_adapter;
mod peft;
mod sealed;
mod store;
mod wav;

use ingraft_tensor::Rng;

pub use npy::npy;
pub use onnx::onnx;
pub use onnx_adapter::onnx_adapter;
pub use peft::peft;
pub use sealed::{adapter, plan};
pub use store::store;
pub use wav::wav;

/// libFuzzer's own mutation: of a buffer, the bytes of it that are content, and the most there may be.
pub type Own<'o> = &'o mut dyn FnMut(&mut [u8], usize, usize) -> usize;

/// An input that is being changed.
pub struct Input<'o> {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What the change is drawn from.
    pub random: Rng,
    own: Own<'o>,
}

impl Input<'_> {
    /// libFuzzer's mutation of `bytes`, to `most` bytes at most.
    pub fn own(&mut self, bytes: &mut Vec<u8>, most: usize) {
        let len = bytes.len();
        bytes.resize(len.max(most).max(1), 0);
        let most = bytes.len();
        let now = (self.own)(bytes, len, most);
        bytes.truncate(now);
    }

    /// libFuzzer's mutation of the whole input.
    pub fn own_whole(&mut self, most: usize) {
        let mut bytes = core::mem::take(&mut self.bytes);
        self.own(&mut bytes, most);
        self.bytes = bytes;
    }

    /// One of these.
    pub fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.random.below(values.len())]
    }

    /// Whether a thing that happens once in `times` happens now.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.random.below(times) == 0
    }

    /// A word of the kinds that break readers: ends of ranges, what is near `near`, bits of special floats.
    pub fn word(&mut self, near: u32) -> u32 {
        match self.random.below(8) {
            0 => self.one_of(&WORDS),
            1 => near.wrapping_add(1),
            2 => near.wrapping_sub(1),
            3 => near ^ 1 << self.random.below(32),
            4 => self.bytes.len() as u32 & !15,
            5 => self.random.below(8) as u32,
            6 => self.random.below(self.bytes.len().max(1)) as u32,
            _ => self.random.next_u64() as u32,
        }
    }

    /// The little-endian word at `at`; 0 past the end.
    pub fn word_at(&self, at: usize) -> u32 {
        self.bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u32::from_le_bytes(*word))
    }

    /// Puts a word at `at`, where there is one.
    pub fn put(&mut self, at: usize, word: u32) {
        if let Some(chunk) = self.bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
            *chunk = word.to_le_bytes();
        }
    }

    /// Copies up to `len` bytes from one place over another.
    pub fn copy(&mut self, from: usize, to: usize, len: usize) {
        let len = len.min(self.bytes.len().saturating_sub(from.max(to)));
        if len > 0 {
            self.bytes.copy_within(from..from + len, to);
        }
    }
}

/// Runs `change` on a copy of the input and puts what it made into `data`.
fn change(
    data: &mut [u8],
    size: usize,
    seed: u32,
    own: Own<'_>,
    change: impl FnOnce(&mut Input<'_>, usize),
) -> usize {
    let most = data.len();
    let mut input = Input { bytes: data[..size.min(most)].to_vec(), random: Rng::new(u64::from(seed)), own };
    change(&mut input, most);
    let len = input.bytes.len().min(most);
    data[..len].copy_from_slice(&input.bytes[..len]);
    len
}

/// Ends of the ranges of integers, and the bits of NaN, infinities, the largest and a subnormal float.
const WORDS: [u32; 18] = [
    0,
    1,
    2,
    15,
    16,
    127,
    128,
    255,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    u32::MAX - 15,
    u32::MAX,
    0x7fc0_0000,
    0x7f80_0000,
    0x7f7f_ffff,
    0x0000_0001,
];
