//! Output channels in vectors, and weights packed for them.
//!
//! A group's output channels are split into chunks of one to
//! [`Simd::COLUMNS`](crate::simd::Simd::COLUMNS) vectors, as wide as can be, but three and two
//! vectors where four would leave one: codes of four vectors are packed by the operations that
//! those of three take. Weights are packed per chunk as
//! `[step][vector][lane][4 bytes]`: one step is four int8 codes or one f32, or two int8 codes where patches hold them
//! as 16-bit values, so that a kernel reads its weights as one stream. Lanes past the last
//! channel, and bytes past the end of a segment, are zero.
//!
//! A chunk of one vector of 16 channels whose segments are whole blocks of 16 bytes may be packed as
//! `[block][4][4 channels][16 bytes]` instead: vector `g` of a block holds channels
//! `g, g + 4, g + 8, g + 12`. A kernel then loads 16 bytes of a patch for four products, where
//! it would load 4 bytes for one.

use ingraft_tensor::bytes::cast_mut;

use crate::patches::{STEP, Segments};

/// The output channels of one group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns {
    /// Channels.
    pub(crate) count: usize,
    /// Channels per vector.
    pub(crate) lanes: usize,
    /// Most vectors per chunk.
    pub(crate) widest: usize,
}

/// Output channels computed together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk {
    /// First channel, counted within the group.
    pub(crate) first: usize,
    /// Number of channels.
    pub(crate) count: usize,
    /// Number of vectors.
    pub(crate) vectors: usize,
    /// Vectors before the chunk in the group.
    pub(crate) before: usize,
}

impl Columns {
    /// Vectors of a group.
    pub(crate) const fn vectors(self) -> usize {
        self.count.div_ceil(self.lanes)
    }

    /// Chunk `part` of `parts`.
    #[inline(always)]
    fn part(self, part: usize, parts: usize) -> Chunk {
        // The last chunk of one vector takes one of those before.
        let alone = usize::from(self.widest > 2 && parts > 1 && self.vectors() % self.widest == 1);
        let begin = |part: usize| match parts - part {
            0 => self.vectors(),
            1 => part * self.widest - alone,
            _ => part * self.widest,
        };
        let (before, end) = (begin(part), begin(part + 1));
        let first = before * self.lanes;
        let vectors = end - before;
        Chunk { first, count: (vectors * self.lanes).min(self.count - first), vectors, before }
    }

    /// The chunks, in order.
    #[inline(always)]
    pub(crate) fn chunks(self) -> impl Iterator<Item = Chunk> {
        let parts = self.vectors().div_ceil(self.widest);
        (0..parts).map(move |part| self.part(part, parts))
    }
}

/// How a layer's weights are packed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// The channels of each group.
    pub(crate) columns: Columns,
    /// Groups.
    pub(crate) groups: usize,
    /// What a weight row is made of.
    pub(crate) segments: Segments,
    /// Whether blocks of 16 bytes are loaded where chunks allow it, which saves loads and costs the sums of quarters.
    pub(crate) blocks: bool,
}

/// Where the bytes of a chunk's weight rows are packed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places {
    in_blocks: bool,
    /// Bytes of a row that stay together, a power of two.
    unit: usize,
    /// Units between two of a row.
    pitch: usize,
    /// Bytes of a segment, and zeros behind each.
    segment: usize,
    padding: usize,
}

impl Places {
    /// The place of byte `index` of the weight row of the chunk's channel `local`.
    #[inline(always)]
    pub(crate) fn of(self, local: usize, index: usize) -> usize {
        let at = if self.padding == 0 { index } else { index + index / self.segment * self.padding };
        // In blocks, channel 4·i + g is row i of vector g.
        let row = if self.in_blocks { local % QUAD * QUAD + local / QUAD } else { local };
        let within = at & (self.unit - 1);
        (at - within) * self.pitch + row * self.unit + within
    }
}

/// Bytes of a patch in every quarter of a vector.
pub(crate) const BLOCK: usize = 16;
/// Quarters of a vector, and vectors of a block.
const QUAD: usize = 4;

/// Codes of a step where patches hold them as 16-bit values.
const HALF: usize = STEP / 2;

/// Weights start at a cache line: vectors of 64 bytes then never cross one.
const LINE: usize = 64;

/// In the first byte beside the distance to the weights: they were [split](crate::split).
const SPLIT: u8 = 0x80;

/// Whether weights were split after they were packed.
pub(crate) fn is_split(packed: &[u8]) -> bool {
    packed.first().is_some_and(|first| first & SPLIT != 0)
}

/// Says that they were.
pub(crate) fn mark_split(packed: &mut [u8]) {
    packed.iter_mut().take(1).for_each(|first| *first |= SPLIT);
}

impl Layout {
    /// Bytes of one vector for one step.
    const fn vector(&self) -> usize {
        self.columns.lanes * self.segments.step
    }

    /// Bytes of a group's packed weights.
    const fn group(&self) -> usize {
        self.columns.vectors() * self.segments.total_steps() * self.vector()
    }

    /// Channels of all groups, each group's rounded up to whole vectors.
    const fn lanes(&self) -> usize {
        self.columns.vectors() * self.columns.lanes * self.groups
    }

    /// Bytes that [`Self::pack`] fills.
    pub(crate) const fn bytes(&self) -> usize {
        LINE + self.groups * self.group() + self.lanes() * 4
    }

    /// Packs `weight`, rows of [`Segments::row`] bytes; `sum` is what is kept of each row.
    ///
    /// The distance to the first cache line stands in the first byte.
    pub(crate) fn pack(&self, weight: &[u8], packed: &mut [u8], sum: impl Fn(&[u8]) -> i32) -> Option<()> {
        let skip = LINE - packed.as_ptr().addr() % LINE;
        *packed.first_mut()? = skip as u8;
        let (weights, sums) = packed.get_mut(skip..)?.split_at_mut_checked(self.groups * self.group())?;
        let sums: &mut [i32] = cast_mut(sums.get_mut(..self.lanes() * 4)?)?;
        sums.fill(0);
        let row = self.segments.row();
        let mut weights = weights;
        for group in 0..self.groups {
            let (channels, lanes) = (self.columns.count, self.columns.vectors() * self.columns.lanes);
            let weight = weight.get(group * channels * row..)?.get(..channels * row)?;
            let sums = sums.get_mut(group * lanes..)?.get_mut(..channels)?;
            for (channel, kept) in sums.iter_mut().enumerate() {
                *kept = sum(weight.get(channel * row..)?.get(..row)?);
            }
            for chunk in self.columns.chunks() {
                let (out, rest) = weights.split_at_mut_checked(self.chunk_bytes(chunk))?;
                self.pack_chunk(weight, chunk, out)?;
                weights = rest;
            }
        }
        Some(())
    }

    /// Whether `chunk` is packed in blocks of 16 bytes.
    #[inline(always)]
    pub(crate) fn in_blocks(&self, chunk: Chunk) -> bool {
        let whole = self.columns.lanes == QUAD * QUAD && self.segments.len.is_multiple_of(BLOCK);
        self.blocks && whole && chunk.vectors == 1
    }

    /// Packs the rows of `chunk` out of a group's `weight`.
    pub(crate) fn pack_chunk(&self, weight: &[u8], chunk: Chunk, out: &mut [u8]) -> Option<()> {
        if self.in_blocks(chunk) {
            self.pack_blocks(weight, chunk, out)
        } else {
            self.pack_steps(weight, chunk, out)
        }
    }

    fn pack_blocks(&self, weight: &[u8], chunk: Chunk, out: &mut [u8]) -> Option<()> {
        let row = self.segments.row();
        let out = out.as_chunks_mut::<BLOCK>().0;
        out.fill([0; BLOCK]);
        for channel in 0..chunk.count {
            let weight = weight.get((chunk.first + channel) * row..)?.get(..row)?;
            // Channel 4·i + g is row i of vector g.
            let first = channel % QUAD * QUAD + channel / QUAD;
            let rows = out.iter_mut().skip(first).step_by(QUAD * QUAD);
            rows.zip(weight.as_chunks().0).for_each(|(to, block)| *to = *block);
        }
        Some(())
    }

    /// Packs the rows of `chunk` step by step, whatever its width.
    pub(crate) fn pack_steps(&self, weight: &[u8], chunk: Chunk, out: &mut [u8]) -> Option<()> {
        let (row, lanes) = (self.segments.row(), self.columns.lanes);
        let mut vectors = out.chunks_exact_mut(self.vector());
        for (at, len) in self.segments.steps_of_row() {
            for vector in 0..chunk.vectors {
                let first = chunk.first + vector * lanes;
                let count = lanes.min(self.columns.count - first);
                let out = vectors.next()?;
                out.fill(0);
                let rows = weight.get(first * row + at..)?;
                if self.segments.step == STEP {
                    gather(rows, row, len, out.as_chunks_mut::<STEP>().0.get_mut(..count)?)?;
                } else {
                    gather(rows, row, len, out.as_chunks_mut::<HALF>().0.get_mut(..count)?)?;
                }
            }
        }
        Some(())
    }

    /// Where the bytes of weight rows are packed in `chunk`.
    pub(crate) fn places(&self, chunk: Chunk) -> Places {
        let (in_blocks, Segments { count, len, step }) = (self.in_blocks(chunk), self.segments);
        let padding = if count > 1 { self.segments.steps() * step - len } else { 0 };
        let (unit, pitch) =
            if in_blocks { (BLOCK, QUAD * QUAD) } else { (step, chunk.vectors * self.columns.lanes) };
        Places { in_blocks, unit, pitch, segment: len.max(1), padding }
    }

    /// Bytes of a chunk's packed weights.
    #[inline(always)]
    pub(crate) fn chunk_bytes(&self, chunk: Chunk) -> usize {
        chunk.vectors * self.segments.total_steps() * self.vector()
    }

    /// The weights and sums of `group` in `packed`.
    pub(crate) fn group_of<'p>(&self, packed: &'p [u8], group: usize) -> Option<(&'p [u8], &'p [i32])> {
        let skip = usize::from(*packed.first()? & !SPLIT);
        let (weights, sums) = packed.get(skip..)?.split_at_checked(self.groups * self.group())?;
        let sums: &[i32] = ingraft_tensor::bytes::cast(sums.get(..self.lanes() * 4)?)?;
        let lanes = self.columns.vectors() * self.columns.lanes;
        Some((
            weights.get(group * self.group()..)?.get(..self.group())?,
            sums.get(group * lanes..)?.get(..lanes)?,
        ))
    }

    /// All packed weights and sums, to be written.
    pub(crate) fn parts_mut<'p>(&self, packed: &'p mut [u8]) -> Option<(&'p mut [u8], &'p mut [i32])> {
        let skip = usize::from(*packed.first()? & !SPLIT);
        let (weights, sums) = packed.get_mut(skip..)?.split_at_mut_checked(self.groups * self.group())?;
        Some((weights, cast_mut(sums.get_mut(..self.lanes() * 4)?)?))
    }

    /// Where the weights of `chunk` of `group` begin among all.
    pub(crate) fn start_of(&self, group: usize, chunk: Chunk) -> usize {
        group * self.group() + chunk.before * self.segments.total_steps() * self.vector()
    }

    /// The part of a group's weights that belongs to `chunk`.
    #[inline(always)]
    pub(crate) fn chunk_of<'p>(&self, weights: &'p [u8], chunk: Chunk) -> Option<&'p [u8]> {
        let column = self.segments.total_steps() * self.vector();
        weights.get(chunk.before * column..)?.get(..chunk.vectors * column)
    }
}

/// Copies `len` bytes, at most `N`, from rows of `stride` bytes.
#[inline(always)]
fn gather<const N: usize>(source: &[u8], stride: usize, len: usize, out: &mut [[u8; N]]) -> Option<()> {
    if len == N && stride.is_multiple_of(N) {
        let words = source.as_chunks::<N>().0;
        let words = words.get(..(out.len().checked_sub(1)?) * (stride / N) + 1)?;
        out.iter_mut().zip(words.iter().step_by((stride / N).max(1))).for_each(|(out, word)| *out = *word);
        return Some(());
    }
    for (lane, out) in out.iter_mut().enumerate() {
        let from = source.get(lane * stride..)?;
        out.get_mut(..len)?.copy_from_slice(from.get(..len)?);
    }
    Some(())
}
