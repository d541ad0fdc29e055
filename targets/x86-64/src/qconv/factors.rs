//! Integer factors as the two-factor term reads them.
//!
//! Per group, each part whole vectors:
//!
//! | part | order |
//! |---|---|
//! | A | `[segment][16 codes][rank / 4][4 rank rows][16]` int8 |
//! | B | per chunk `[rank / 4][2][vector][channel][2]` int16 |
//! | scale of B | `[channel]` f32 |
//! | offset and scale of A | `[rank]` i32 and f32 |

use ingraft_kernel::TwoFactor;
use ingraft_kernel::terms::Factors;
use ingraft_tensor::bytes::{cast, cast_mut};

use crate::columns::{Chunk, Columns};
use crate::features::Avx512;
use crate::patches::Segments;
use crate::simd::Simd;

/// Most rank rows per group; adapters of higher rank take the AVX2 row.
pub(super) const MOST_RANK: usize = 64;
/// Rank rows of a vector of A.
pub(super) const QUAD: usize = 4;
/// Codes of each of them, channels of a vector of B.
pub(super) const LANES: usize = 16;
/// Bytes of a vector.
const VECTOR: usize = 64;

/// A vector of A.
pub(super) type Down = [i8; VECTOR];
/// A vector of B: two rank rows of 16 channels.
type Pair = [[i16; 2]; LANES];

/// Where the factors of a layer stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    segments: Segments,
    columns: Columns,
    groups: usize,
    rank: usize,
    /// Vectors of channels that B has room for.
    room: usize,
}

/// The factors of one group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group<'f> {
    pub(super) quads: usize,
    pairs: usize,
    pub(super) down: &'f [Down],
    up: &'f [Pair],
    channel_scale: &'f [[f32; LANES]],
    pub(super) offset: &'f [[i32; QUAD]],
    pub(super) scale: &'f [[f32; QUAD]],
}

/// B of a chunk of `N` vectors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Up<'f, const N: usize> {
    pub(super) quads: &'f [[[Pair; N]; 2]],
    pub(super) scale: &'f [[f32; LANES]; N],
}

impl<'f> Group<'f> {
    /// B of the chunk whose first vector is `before`.
    #[inline(always)]
    pub(super) fn up<const N: usize>(&self, before: usize) -> Option<Up<'f, N>> {
        let pairs: &[[Pair; N]] = self.up.get(before * self.pairs..)?.get(..N * self.pairs)?.as_chunks().0;
        Some(Up { quads: pairs.as_chunks().0, scale: self.channel_scale.get(before..)?.first_chunk()? })
    }
}

impl Plan {
    pub(super) fn new(segments: Segments, out_group: usize, groups: usize, rank: usize) -> Self {
        let columns = Columns { count: out_group, lanes: Avx512::LANES, widest: Avx512::COLUMNS };
        Self { segments, columns, groups, rank, room: columns.vectors() }
    }

    /// The same with room for one chunk of B, where all of it would be large.
    pub(super) fn narrowed(self) -> Self {
        let room = if self.rank <= LANES { self.room } else { self.room.min(Avx512::COLUMNS) };
        Self { room, ..self }
    }

    /// Whether B has room for all channels.
    pub(super) fn is_whole(&self) -> bool {
        self.room == self.columns.vectors()
    }

    /// Rank rows in vectors of A.
    pub(super) fn quads(&self) -> usize {
        self.rank.div_ceil(QUAD)
    }

    /// Vectors of B for each of channels: two rank rows in each, as many as A has.
    fn pairs(&self) -> usize {
        2 * self.quads()
    }

    /// Vectors of a rank row.
    fn blocks(&self) -> usize {
        self.segments.count * self.segments.len.div_ceil(LANES)
    }

    /// Bytes of A, B, its scales, and A's offsets and scales.
    fn parts(&self) -> [usize; 4] {
        let down = self.blocks() * self.quads() * VECTOR;
        [down, self.room * self.pairs() * VECTOR, self.room * VECTOR, self.quads() * QUAD * 4]
    }

    /// Bytes of a group.
    pub(super) fn group_bytes(&self) -> usize {
        let [down, up, channel_scale, rows] = self.parts();
        down + up + channel_scale + (2 * rows).next_multiple_of(VECTOR)
    }

    /// Bytes of all groups, wherever they begin.
    pub(super) fn bytes(&self) -> usize {
        VECTOR + self.groups * self.group_bytes()
    }

    /// The groups in memory that [`Self::pack`] filled; the distance to the first vector stands in the first byte.
    pub(super) fn groups_of<'f>(&self, packed: &'f [u8]) -> Option<&'f [u8]> {
        let groups = packed.get(usize::from(*packed.first()?)..)?;
        groups.get(..self.groups * self.group_bytes())
    }

    /// Group `index` of `groups`.
    #[inline(always)]
    pub(super) fn group<'f>(&self, groups: &'f [u8], index: usize) -> Option<Group<'f>> {
        let [down, up, channel_scale, rows] = self.parts();
        let group = groups.get(index * self.group_bytes()..)?;
        let (down, group) = group.split_at_checked(down)?;
        let (up, group) = group.split_at_checked(up)?;
        let (channel_scale, group) = group.split_at_checked(channel_scale)?;
        let (offset, group) = group.split_at_checked(rows)?;
        let (up, scales): (&[i16], &[f32]) = (cast(up)?, cast(channel_scale)?);
        let (offset, scale): (&[i32], &[f32]) = (cast(offset)?, cast(group.get(..rows)?)?);
        Some(Group {
            quads: self.quads(),
            pairs: self.pairs(),
            down: cast::<i8>(down)?.as_chunks().0,
            up: up.as_chunks().0.as_chunks().0,
            channel_scale: scales.as_chunks().0,
            offset: offset.as_chunks().0,
            scale: scale.as_chunks().0,
        })
    }

    /// Packs the factors of every group; `moved` is the input's zero point plus 128.
    pub(super) fn pack(&self, term: &TwoFactor<'_>, moved: i32, packed: &mut [u8]) -> Option<()> {
        let skip = VECTOR - packed.as_ptr().addr() % VECTOR;
        *packed.first_mut()? = skip as u8;
        let groups = packed.get_mut(skip..)?;
        for (index, group) in groups.chunks_exact_mut(self.group_bytes()).take(self.groups).enumerate() {
            self.pack_down(term, index, moved, group)?;
            for chunk in self.columns.chunks() {
                self.pack_chunk(term, index, chunk, chunk.before, group)?;
            }
        }
        Some(())
    }

    /// Packs A of group `index` into the memory of a group.
    pub(super) fn pack_down(
        &self,
        term: &TwoFactor<'_>,
        index: usize,
        moved: i32,
        group: &mut [u8],
    ) -> Option<()> {
        let Factors::I8 { down, down_scale, .. } = term.factors else { return None };
        let [rows, up, channel_scale, constants] = self.parts();
        let (vectors, rest) = group.split_at_mut_checked(rows)?;
        let (offset, scale) = rest.get_mut(up + channel_scale..)?.split_at_mut_checked(constants)?;
        let (offset, scale): (&mut [i32], &mut [f32]) =
            (cast_mut(offset)?, cast_mut(scale.get_mut(..constants)?)?);
        let vectors: &mut [i8] = cast_mut(vectors)?;
        vectors.fill(0);
        offset.fill(0);
        scale.fill(0.0);
        let vectors = vectors.as_chunks_mut::<LANES>().0;
        let (row, first) = (self.segments.row(), index * self.rank);
        for ((rank, offset), scale) in (0..self.rank).zip(offset).zip(scale) {
            let codes = down.get((first + rank) * row..)?.get(..row)?;
            let sum = codes.iter().fold(0i32, |sum, code| sum.wrapping_add(i32::from(*code)));
            *offset = sum.wrapping_mul(moved).wrapping_neg();
            *scale = *down_scale.get(first + rank)?;
            let rows = vectors.get_mut(rank..)?.iter_mut().step_by(self.quads() * QUAD);
            let blocks = codes.chunks_exact(self.segments.len.max(1)).flat_map(|codes| codes.chunks(LANES));
            for (to, codes) in rows.zip(blocks) {
                to.get_mut(..codes.len())?.copy_from_slice(codes);
            }
        }
        Some(())
    }

    /// Packs B of `chunk`, or of all chunks where there is room, into the memory of a group.
    pub(super) fn pack_up(
        &self,
        term: &TwoFactor<'_>,
        index: usize,
        chunk: Chunk,
        group: &mut [u8],
    ) -> Option<()> {
        if self.is_whole() {
            return self
                .columns
                .chunks()
                .try_for_each(|chunk| self.pack_chunk(term, index, chunk, chunk.before, group));
        }
        self.pack_chunk(term, index, chunk, 0, group)
    }

    fn pack_chunk(
        &self,
        term: &TwoFactor<'_>,
        index: usize,
        chunk: Chunk,
        at: usize,
        group: &mut [u8],
    ) -> Option<()> {
        let Factors::I8 { up, up_scale, .. } = term.factors else { return None };
        let [down, pairs, scales, _] = self.parts();
        let (vectors, rest) = group.get_mut(down..)?.split_at_mut_checked(pairs)?;
        let (vectors, scales): (&mut [i16], &mut [f32]) =
            (cast_mut(vectors)?, cast_mut(rest.get_mut(..scales)?)?);
        let first = index * self.columns.count + chunk.first;
        let up = up.get(first * self.rank..)?.get(..chunk.count * self.rank)?;
        let lanes = chunk.vectors * LANES;
        let scales = scales.get_mut(at * LANES..)?.get_mut(..lanes)?;
        scales.fill(0.0);
        scales.iter_mut().zip(up_scale.get(first..)?.get(..chunk.count)?).for_each(|(to, v)| *to = *v);
        let vectors = vectors.as_chunks_mut::<2>().0.get_mut(at * self.pairs() * LANES..)?;
        let vectors = vectors.get_mut(..lanes * self.pairs())?;
        vectors.fill([0; 2]);
        for (channel, codes) in up.chunks_exact(self.rank.max(1)).enumerate() {
            let rows = vectors.get_mut(channel..)?.iter_mut().step_by(lanes);
            for (to, codes) in rows.zip(codes.chunks(2)) {
                to.iter_mut().zip(codes).for_each(|(to, code)| *to = i16::from(*code));
            }
        }
        Some(())
    }
}
