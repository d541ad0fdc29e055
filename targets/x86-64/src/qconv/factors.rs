//! Integer factors as the two-factor term reads them.
//!
//! Per group, each part whole vectors:
//!
//! | part | order |
//! |---|---|
//! | A | `[segment][run of codes][rank / rows][rows][run]` int8: four rank rows in a vector, or [as many as fit](super::ranks::Ranks::ROWS) |
//! | B | per chunk `[rank / 4][2][vector][channel][2]` int16 |
//! | scale of B | `[channel]` f32 |
//! | offset and scale of A | `[rank]` i32 and f32 |

use ingraft_kernel::TwoFactor;
use ingraft_kernel::terms::Factors;
use ingraft_tensor::bytes::{cast, cast_mut};

use crate::columns::{Chunk, Columns};
use crate::patches::Segments;
use crate::simd::Simd;

/// Most rank rows per group; adapters of higher rank take the row that reads weights in place.
pub(super) const MOST_RANK: usize = 64;
/// Rank rows of a vector of A.
pub(crate) const QUAD: usize = 4;
/// Most rank rows per group that are packed for all channels at once in every run; beyond, for one chunk at a time.
pub(super) const WHOLE: usize = 16;
/// Each part begins at a cache line.
const LINE: usize = 64;

/// Where the factors of a layer stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    segments: Segments,
    columns: Columns,
    groups: usize,
    rank: usize,
    /// Vectors of channels that B has room for.
    room: usize,
    /// Rank rows in a vector of A, and codes of each.
    rows: usize,
    run: usize,
    /// Bytes of A, B, its scales, and A's offsets and scales: asked for with every tile.
    parts: [usize; 4],
}

/// The factors of one group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group<'f> {
    /// Rank rows in a vector of A.
    pub(crate) rows: usize,
    /// Vectors of A for each run.
    pub(crate) vectors: usize,
    pub(crate) down: &'f [i8],
    pub(crate) offset: &'f [i32],
    pub(crate) scale: &'f [f32],
}

/// B of a chunk of `N` vectors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Up<'f, const N: usize> {
    pub(super) quads: usize,
    /// Two rank rows of every channel in a vector, `N` vectors, twice for each four rank rows.
    pub(super) pairs: &'f [i16],
    scale: &'f [f32],
}

impl<'f, const N: usize> Up<'f, N> {
    /// B of a chunk whose vectors and scales begin `at` among the bytes of `groups`.
    #[inline(always)]
    pub(super) fn at(groups: &'f [u8], at: [usize; 2], lanes: usize, quads: usize) -> Option<Self> {
        let [pairs, scale] = at;
        Some(Self {
            quads,
            pairs: cast(groups.get(pairs..)?.get(..N * quads * lanes * 8)?)?,
            scale: cast(groups.get(scale..)?.get(..N * lanes * 4)?)?,
        })
    }
}

/// B of a chunk of `N` vectors and `Q` fours of rank rows, in vectors.
#[derive(Clone, Copy)]
pub(super) struct WholeUp<S: Simd, const N: usize, const Q: usize> {
    /// Two rank rows each.
    pub(super) pairs: [[[S::Int; N]; 2]; Q],
    pub(super) scale: [S::Real; N],
}

impl<'f, const N: usize> Up<'f, N> {
    /// The pairs and the scales.
    pub(super) fn parts(self) -> (&'f [i16], &'f [f32]) {
        (self.pairs, self.scale)
    }
}

impl<const N: usize> Up<'_, N> {
    /// All of it; `None` where there are other rank rows.
    #[inline(always)]
    pub(super) fn whole<S: Simd, const Q: usize>(&self, simd: S) -> Option<WholeUp<S, N, Q>> {
        let pairs = self.pairs.get(..Q * 2 * N * 2 * S::LANES).filter(|_| self.quads == Q)?;
        let mut whole = WholeUp { pairs: [[[simd.splat_int(0); N]; 2]; Q], scale: self.scales(simd) };
        for (at, to) in whole.pairs.as_flattened_mut().as_flattened_mut().iter_mut().enumerate() {
            // SAFETY: `Q·2·N` vectors lie in the slice.
            *to = unsafe { simd.load_int(pairs.as_ptr().add(at * 2 * S::LANES).cast()) };
        }
        Some(whole)
    }

    /// Adds the products with two rank rows of `quad`, which begin at `half`, to the sums of every vector.
    #[inline(always)]
    pub(super) fn add<S: Simd>(&self, simd: S, [quad, half]: [usize; 2], u: S::Int, sums: &mut [S::Int; N]) {
        let at = (2 * quad + half) * N * 2 * S::LANES;
        if let Some(pairs) = self.pairs.get(at..).and_then(|pairs| pairs.get(..N * 2 * S::LANES)) {
            for (n, sum) in sums.iter_mut().enumerate() {
                // SAFETY: `N` vectors lie in the slice.
                let pair = unsafe { simd.load_int(pairs.as_ptr().add(n * 2 * S::LANES).cast()) };
                *sum = simd.dot_pairs(*sum, u, pair);
            }
        }
    }

    /// The scales of the channels.
    #[inline(always)]
    pub(super) fn scales<S: Simd>(&self, simd: S) -> [S::Real; N] {
        let mut scales = [simd.splat(0.0); N];
        if self.scale.len() >= N * S::LANES {
            for (n, scale) in scales.iter_mut().enumerate() {
                // SAFETY: `N` vectors lie in the slice.
                *scale = unsafe { simd.load(self.scale.as_ptr().add(n * S::LANES)) };
            }
        }
        scales
    }
}

impl Plan {
    pub(super) fn new<S: Simd>(segments: Segments, out_group: usize, groups: usize, rank: usize) -> Self {
        let columns = Columns { count: out_group, lanes: S::LANES, widest: S::COLUMNS };
        let rows = if rank > QUAD { S::ROWS } else { QUAD };
        Self { segments, columns, groups, rank, room: 0, rows, run: S::RUN * QUAD / rows, parts: [0; 4] }
            .with_room(columns.vectors())
    }

    /// The same with room for one chunk of B, where all of it would be large.
    pub(super) fn narrowed(self) -> Self {
        self.with_room(if self.rank <= WHOLE { self.room } else { self.room.min(self.columns.widest) })
    }

    fn with_room(self, room: usize) -> Self {
        let rows = self.vectors() * self.rows;
        let (down, lanes) = (self.blocks() * rows * self.run, room * self.columns.lanes);
        let parts = [down.next_multiple_of(LINE), lanes * self.pairs() * 4, lanes * 4, rows * 4];
        Self { room, parts, ..self }
    }

    /// Whether B has room for all channels.
    pub(super) fn is_whole(&self) -> bool {
        self.room == self.columns.vectors()
    }

    /// Groups of the layer.
    pub(super) fn groups(&self) -> usize {
        self.groups
    }

    /// Rank rows in fours.
    pub(super) fn quads(&self) -> usize {
        self.rank.div_ceil(QUAD)
    }

    /// Rank rows in vectors of A.
    fn vectors(&self) -> usize {
        self.rank.div_ceil(self.rows)
    }

    /// Fours of rank rows that u has room for.
    pub(super) fn latent_quads(&self) -> usize {
        self.vectors() * self.rows / QUAD
    }

    /// Vectors of B for each of channels: two rank rows in each, as many as A has.
    fn pairs(&self) -> usize {
        2 * self.quads()
    }

    /// Vectors of a rank row.
    fn blocks(&self) -> usize {
        self.segments.count * self.segments.len.div_ceil(self.run)
    }

    /// Bytes of a group.
    pub(super) fn group_bytes(&self) -> usize {
        let [down, up, channel_scale, rows] = self.parts;
        down + up + channel_scale + (2 * rows).next_multiple_of(LINE)
    }

    /// Bytes of all groups, wherever they begin.
    pub(super) fn bytes(&self) -> usize {
        LINE + self.groups * self.group_bytes()
    }

    /// The groups in memory that [`Self::pack`] filled; the distance to the first vector stands in the first byte.
    pub(super) fn groups_of<'f>(&self, packed: &'f [u8]) -> Option<&'f [u8]> {
        let groups = packed.get(usize::from(*packed.first()?)..)?;
        groups.get(..self.groups * self.group_bytes())
    }

    /// Group `index` of `groups`.
    #[inline(always)]
    pub(super) fn group<'f>(&self, groups: &'f [u8], index: usize) -> Option<Group<'f>> {
        let [down, up, channel_scale, rows] = self.parts;
        let group = groups.get(index * self.group_bytes()..)?;
        let (down, group) = group.split_at_checked(down)?;
        let group = group.get(up + channel_scale..)?;
        let (offset, group) = group.split_at_checked(rows)?;
        let (offset, scale): (&[i32], &[f32]) = (cast(offset)?, cast(group.get(..rows)?)?);
        Some(Group { rows: self.rows, vectors: self.vectors(), down: cast(down)?, offset, scale })
    }

    /// Channels of a vector.
    pub(super) fn lanes(&self) -> usize {
        self.columns.lanes
    }

    /// Where B of the chunk whose first vector is `before`, and its scales, begin among the bytes of the groups.
    pub(super) fn up(&self, group: usize, before: usize) -> [usize; 2] {
        let ([down, up, ..], first) = (self.parts, before * self.columns.lanes);
        let start = group * self.group_bytes() + down;
        [start + first * self.pairs() * 4, start + up + first * 4]
    }

    /// Packs the factors of every group; `moved` is the input's zero point plus 128.
    pub(super) fn pack(&self, term: &TwoFactor<'_>, moved: i32, packed: &mut [u8]) -> Option<()> {
        let skip = LINE - packed.as_ptr().addr() % LINE;
        *packed.first_mut()? = skip as u8;
        let groups = packed.get_mut(skip..)?;
        for (index, group) in groups.chunks_exact_mut(self.group_bytes()).take(self.groups).enumerate() {
            self.pack_down(term, index, moved, group)?;
            self.pack_all_up(term, index, group)?;
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
        let [rows, up, channel_scale, constants] = self.parts;
        let (vectors, rest) = group.split_at_mut_checked(rows)?;
        let (offset, scale) = rest.get_mut(up + channel_scale..)?.split_at_mut_checked(constants)?;
        let (offset, scale): (&mut [i32], &mut [f32]) =
            (cast_mut(offset)?, cast_mut(scale.get_mut(..constants)?)?);
        let vectors: &mut [i8] = cast_mut(vectors)?;
        vectors.fill(0);
        offset.fill(0);
        scale.fill(0.0);
        let (row, first) = (self.segments.row(), index * self.rank);
        for ((rank, offset), scale) in (0..self.rank).zip(offset).zip(scale) {
            let codes = down.get((first + rank) * row..)?.get(..row)?;
            let sum = codes.iter().fold(0i32, |sum, code| sum.wrapping_add(i32::from(*code)));
            *offset = sum.wrapping_mul(moved).wrapping_neg();
            *scale = *down_scale.get(first + rank)?;
            let rows = vectors.chunks_exact_mut(self.run).skip(rank).step_by(self.vectors() * self.rows);
            let blocks =
                codes.chunks_exact(self.segments.len.max(1)).flat_map(|codes| codes.chunks(self.run));
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
            return self.pack_all_up(term, index, group);
        }
        self.pack_chunk(term, index, chunk, 0, group)
    }

    /// Packs B of all chunks, for which there is room, into the memory of a group.
    pub(super) fn pack_all_up(&self, term: &TwoFactor<'_>, index: usize, group: &mut [u8]) -> Option<()> {
        let mut chunks = self.columns.chunks();
        chunks.try_for_each(|chunk| self.pack_chunk(term, index, chunk, chunk.before, group))
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
        let [down, pairs, scales, _] = self.parts;
        let (vectors, rest) = group.get_mut(down..)?.split_at_mut_checked(pairs)?;
        let (vectors, scales): (&mut [i16], &mut [f32]) =
            (cast_mut(vectors)?, cast_mut(rest.get_mut(..scales)?)?);
        let first = index * self.columns.count + chunk.first;
        let up = up.get(first * self.rank..)?.get(..chunk.count * self.rank)?;
        let lanes = chunk.vectors * self.columns.lanes;
        let at = at * self.columns.lanes;
        let scales = scales.get_mut(at..)?.get_mut(..lanes)?;
        scales.fill(0.0);
        scales.iter_mut().zip(up_scale.get(first..)?.get(..chunk.count)?).for_each(|(to, v)| *to = *v);
        let vectors = vectors.as_chunks_mut::<2>().0.get_mut(at * self.pairs()..)?;
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
