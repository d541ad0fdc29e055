//! BLAKE3, the content hash of plans and adapters.
//!
//! Written out because firmware links nothing that can panic, which no compiler
//! can show of the slicing in the authors' crate. That crate is the oracle of
//! the tests below, and with the feature `host-hash` x86-64 has it hash whatever
//! is long enough for its vectors.
//!
//! Source: O'Connor, Aumasson, Neves, Wilcox-O'Hearn, "BLAKE3: one function,
//! fast everywhere", 2021, section 2. Only the unkeyed 256-bit hash is needed.

use crate::arrays::{arrays, arrays_mut};

/// Bytes of a hash.
pub const HASH_BYTES: usize = 32;

/// The BLAKE3 hash of `bytes`, on one thread and without a heap.
///
/// # Examples
/// ```
/// assert_eq!(ingraft_tensor::hash::blake3(b"")[..4], [0xaf, 0x13, 0x49, 0xb9]);
/// ```
pub fn blake3(bytes: &[u8]) -> [u8; HASH_BYTES] {
    #[cfg(all(feature = "host-hash", target_arch = "x86_64"))]
    if bytes.len() > LANES * CHUNK {
        return *::blake3::hash(bytes).as_bytes();
    }
    own(bytes)
}

fn own(bytes: &[u8]) -> [u8; HASH_BYTES] {
    let mut left = Stack { values: [[0; 8]; LEVELS], len: 0 };
    let (mut rest, mut index) = (bytes, 0u64);
    // Firmware hashes once at bind, on cores without vectors: it goes without this code.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    while let Some((chunks, tail)) = ahead(rest.split_first_chunk::<{ LANES * CHUNK }>()) {
        for value in wide::chunks(chunks, index) {
            index = left.join(value, index);
        }
        rest = tail;
    }
    while let Some((chunk, tail)) = ahead(rest.split_at_checked(CHUNK)) {
        index = left.join(chunk_node(chunk, index).chain(), index);
        rest = tail;
    }
    let mut node = chunk_node(rest, index);
    while let Some(sibling) = left.pop() {
        node = parent(&sibling, &node.chain());
    }
    node.flags |= ROOT;
    let mut hash = [0; HASH_BYTES];
    for (bytes, word) in arrays_mut(&mut hash).0.iter_mut().zip(node.chain()) {
        *bytes = word.to_le_bytes();
    }
    hash
}

/// Chaining values of the complete subtrees to the left, largest first.
struct Stack {
    values: [[u32; 8]; LEVELS],
    len: usize,
}

impl Stack {
    /// Takes the value of chunk `index` and gives the next index.
    fn join(&mut self, mut value: [u32; 8], index: u64) -> u64 {
        let index = index.wrapping_add(1);
        // Every subtree of a whole power of two chunks is complete: join it to its left sibling.
        for _ in 0..index.trailing_zeros() {
            value = self.pop().map_or(value, |sibling| parent(&sibling, &value).chain());
        }
        self.push(value);
        index
    }

    fn push(&mut self, value: [u32; 8]) {
        if let Some(slot) = self.values.get_mut(self.len) {
            *slot = value;
            self.len = self.len.wrapping_add(1);
        }
    }

    fn pop(&mut self) -> Option<[u32; 8]> {
        self.len = self.len.checked_sub(1)?;
        self.values.get(self.len).copied()
    }
}

/// Chunks hashed side by side.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const LANES: usize = 4;

/// Whole chunks side by side, one in each lane of the words: rows of four words are vectors on these processors.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod wide {
    use super::{BLOCK, CHUNK, CHUNK_END, CHUNK_START, IV, LANES, ROUNDS, arrays, each, mix, words};

    /// The chaining values of the chunks from `index` on.
    pub(super) fn chunks(bytes: &[u8; LANES * CHUNK], index: u64) -> [[u32; 8]; LANES] {
        let (chunks, counters) = (arrays::<_, CHUNK>(bytes).0, [0, 1, 2, 3].map(|i| index.wrapping_add(i)));
        let mut chain = IV.map(|word| [word; LANES]);
        let mut flags = CHUNK_START;
        let [a, b, c, d] = chunks.first_chunk().unwrap_or(&[[0; CHUNK]; LANES]);
        let last = CHUNK / BLOCK - 1;
        let blocks = arrays::<_, BLOCK>(a).0.iter().zip(arrays(b).0);
        let blocks = blocks.zip(arrays(c).0).zip(arrays(d).0);
        for (at, (((a, b), c), d)) in blocks.enumerate() {
            let mut message = [[0; LANES]; 16];
            let lanes = words(a).into_iter().zip(words(b)).zip(words(c)).zip(words(d));
            message.iter_mut().zip(lanes).for_each(|(m, (((a, b), c), d))| *m = [a, b, c, d]);
            let flags = core::mem::take(&mut flags) | if at == last { CHUNK_END } else { 0 };
            chain = compress(chain, message, counters, flags);
        }
        let mut values = [[0; 8]; LANES];
        for (lane, value) in values.iter_mut().enumerate() {
            value.iter_mut().zip(&chain).for_each(|(v, word)| *v = word.get(lane).copied().unwrap_or(0));
        }
        values
    }

    fn compress(
        chain: [[u32; LANES]; 8],
        mut message: [[u32; LANES]; 16],
        counters: [u64; LANES],
        flags: u32,
    ) -> [[u32; LANES]; 8] {
        let [mut a0, mut a1, mut a2, mut a3, mut b0, mut b1, mut b2, mut b3] = chain;
        let [i0, i1, i2, i3, ..] = IV;
        let [mut c0, mut c1, mut c2, mut c3] = [i0, i1, i2, i3].map(|word| [word; LANES]);
        let mut d0 = counters.map(|counter| counter as u32);
        let mut d1 = counters.map(|counter| (counter >> 32) as u32);
        let (mut d2, mut d3) = ([BLOCK as u32; LANES], [flags; LANES]);
        for _ in 0..ROUNDS {
            let [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15] = message;
            mix([&mut a0, &mut b0, &mut c0, &mut d0], m0, m1);
            mix([&mut a1, &mut b1, &mut c1, &mut d1], m2, m3);
            mix([&mut a2, &mut b2, &mut c2, &mut d2], m4, m5);
            mix([&mut a3, &mut b3, &mut c3, &mut d3], m6, m7);
            mix([&mut a0, &mut b1, &mut c2, &mut d3], m8, m9);
            mix([&mut a1, &mut b2, &mut c3, &mut d0], m10, m11);
            mix([&mut a2, &mut b3, &mut c0, &mut d1], m12, m13);
            mix([&mut a3, &mut b0, &mut c1, &mut d2], m14, m15);
            message = [m2, m6, m3, m10, m7, m0, m4, m13, m1, m11, m12, m5, m9, m14, m15, m8];
        }
        let xor = |x, y| each(x, y, |x, y| x ^ y);
        [
            xor(a0, c0),
            xor(a1, c1),
            xor(a2, c2),
            xor(a3, c3),
            xor(b0, d0),
            xor(b1, d1),
            xor(b2, d2),
            xor(b3, d3),
        ]
    }
}

/// One call of the compression function, not yet made: the root's carries a flag more.
struct Node {
    chain: [u32; 8],
    block: [u32; 16],
    counter: u64,
    len: u32,
    flags: u32,
}

/// A split that leaves something: the last block and chunk are finished otherwise.
fn ahead<H>(split: Option<(H, &[u8])>) -> Option<(H, &[u8])> {
    split.filter(|(_, tail)| !tail.is_empty())
}

/// The last block of a chunk of at most [`CHUNK`] bytes, the blocks before it compressed.
fn chunk_node(chunk: &[u8], counter: u64) -> Node {
    let mut node = Node { chain: IV, block: [0; 16], counter, len: BLOCK as u32, flags: CHUNK_START };
    let mut rest = chunk;
    while let Some((block, tail)) = ahead(rest.split_first_chunk::<BLOCK>()) {
        node.block = words(block);
        node.chain = node.chain();
        node.flags = 0;
        rest = tail;
    }
    let mut last = [0; BLOCK];
    last.iter_mut().zip(rest).for_each(|(byte, value)| *byte = *value);
    Node { block: words(&last), len: rest.len() as u32, flags: node.flags | CHUNK_END, ..node }
}

fn parent(left: &[u32; 8], right: &[u32; 8]) -> Node {
    let mut block = [0; 16];
    block.iter_mut().zip(left.iter().chain(right)).for_each(|(word, value)| *word = *value);
    Node { chain: IV, block, counter: 0, len: BLOCK as u32, flags: PARENT }
}

fn words(block: &[u8; BLOCK]) -> [u32; 16] {
    let mut words = [0; 16];
    for (word, bytes) in words.iter_mut().zip(arrays(block).0) {
        *word = u32::from_le_bytes(*bytes);
    }
    words
}

impl Node {
    /// The first half of the compression function's output.
    ///
    /// The state is a 4×4 matrix of words. A row is one array, so that a round
    /// mixes four columns, then four diagonals, at a time.
    fn chain(&self) -> [u32; 8] {
        let [h0, h1, h2, h3, h4, h5, h6, h7] = self.chain;
        let [i0, i1, i2, i3, ..] = IV;
        let (low, high) = (self.counter as u32, (self.counter >> 32) as u32);
        let mut a = [h0, h1, h2, h3];
        let mut b = [h4, h5, h6, h7];
        let mut c = [i0, i1, i2, i3];
        let mut d = [low, high, self.len, self.flags];
        let mut message = self.block;
        for _ in 0..ROUNDS {
            let [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15] = message;
            mix([&mut a, &mut b, &mut c, &mut d], [m0, m2, m4, m6], [m1, m3, m5, m7]);
            (b, c, d) = (turn(b), turn(turn(c)), turn(turn(turn(d))));
            mix([&mut a, &mut b, &mut c, &mut d], [m8, m10, m12, m14], [m9, m11, m13, m15]);
            (b, c, d) = (turn(turn(turn(b))), turn(turn(c)), turn(d));
            message = [m2, m6, m3, m10, m7, m0, m4, m13, m1, m11, m12, m5, m9, m14, m15, m8];
        }
        let [a0, a1, a2, a3] = each(a, c, |x, y| x ^ y);
        let [b0, b1, b2, b3] = each(b, d, |x, y| x ^ y);
        [a0, a1, a2, a3, b0, b1, b2, b3]
    }
}

/// The quarter-round on four columns, with message words `x` and `y`.
#[inline(always)]
fn mix([a, b, c, d]: [&mut [u32; 4]; 4], x: [u32; 4], y: [u32; 4]) {
    *a = each(each(*a, *b, u32::wrapping_add), x, u32::wrapping_add);
    *d = each(*d, *a, |d, a| (d ^ a).rotate_right(16));
    *c = each(*c, *d, u32::wrapping_add);
    *b = each(*b, *c, |b, c| (b ^ c).rotate_right(12));
    *a = each(each(*a, *b, u32::wrapping_add), y, u32::wrapping_add);
    *d = each(*d, *a, |d, a| (d ^ a).rotate_right(8));
    *c = each(*c, *d, u32::wrapping_add);
    *b = each(*b, *c, |b, c| (b ^ c).rotate_right(7));
}

#[inline(always)]
fn each([a, b, c, d]: [u32; 4], [w, x, y, z]: [u32; 4], op: impl Fn(u32, u32) -> u32) -> [u32; 4] {
    [op(a, w), op(b, x), op(c, y), op(d, z)]
}

/// A row moved one column to the left, round the end.
fn turn([a, b, c, d]: [u32; 4]) -> [u32; 4] {
    [b, c, d, a]
}

const BLOCK: usize = 64;
const CHUNK: usize = 1024;
/// One complete subtree for every bit of the number of chunks.
const LEVELS: usize = usize::BITS as usize - CHUNK.ilog2() as usize;
const ROUNDS: usize = 7;
const CHUNK_START: u32 = 1;
const CHUNK_END: u32 = 2;
const PARENT: u32 = 4;
const ROOT: u32 = 8;
const IV: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    /// Around every border of blocks, chunks and subtrees.
    #[test]
    fn equals_the_hash_of_its_authors() {
        let bytes: Vec<u8> = (0..70 * 1024u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let chunks = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65];
        let borders = (0..=17).map(|block| block * 64).chain(chunks.map(|chunk| chunk * 1024));
        // Miri takes a minute for all of them.
        let lengths = borders.flat_map(|border: usize| [border.saturating_sub(1), border, border + 1]);
        for len in lengths.filter(|len| !cfg!(miri) || *len <= 65 || *len == 1025) {
            let bytes = &bytes[..len];
            let expected = *::blake3::hash(bytes).as_bytes();
            assert_eq!(super::own(bytes), expected, "{len} bytes");
            assert_eq!(super::blake3(bytes), expected, "{len} bytes");
        }
    }
}
