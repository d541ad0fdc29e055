//! The f32 two-factor term beside a product.
//!
//! `u = A·x` is a product of its own over each block of pixels, with the rank rows as channels; the epilogue adds `B·u`.
//!
//! # Limit
//! Per pixel, `⌈r/LANES⌉·K` products for A and `⌈N/LANES⌉·r` for B, beside the `⌈N/LANES⌉·K` of the layer.

use ingraft_kernel::conv::Conv;
use ingraft_kernel::terms::Factors;
use ingraft_tensor::bytes;

use crate::avx2::tile::take;
use crate::columns::{Chunk, Columns, Layout};
use crate::gemm::{BLOCK, Finish, Pixels, Reals, Rows, STRIP, project};
use crate::patches::{Patches, Segments};
use crate::simd::{Simd, Task};

/// Most rank rows per group; adapters of higher rank take the row that reads weights in place.
const MOST_RANK: usize = 32;

/// The factors and latents of a term.
pub(super) struct LowRank<'a, 'm> {
    rank: usize,
    /// `[groups · rank, row]`.
    down: &'a [f32],
    /// `[out, rank]`.
    up: &'a [f32],
    out_group: usize,
    layout: Layout,
    /// A of the group at work, packed.
    packed: &'m mut [u8],
    held: Option<usize>,
    /// u of a block, `[pixel][rank in whole vectors]`.
    latents: &'m mut [f32],
    pitch: usize,
    /// The first pixel of the block.
    first: usize,
    /// B of the chunk, `[rank][STRIP]`.
    columns: &'m mut [f32],
}

fn layout<S: Simd>(segments: Segments, rank: usize) -> Layout {
    let columns = Columns { count: rank, lanes: S::LANES, widest: S::COLUMNS };
    Layout { columns, groups: 1, segments }
}

/// Workspace of a layer, whatever its term.
pub(super) fn bytes<S: Simd>(patches: &Patches) -> usize {
    let rows = MOST_RANK.next_multiple_of(S::LANES);
    let floats = BLOCK * rows + MOST_RANK * STRIP;
    floats * size_of::<f32>() + layout::<S>(patches.segments, MOST_RANK).bytes()
}

impl<'a, 'm> LowRank<'a, 'm> {
    /// The term of a layer; `None` for a term that is absent, of another kind or of a high rank.
    pub(super) fn new<S: Simd>(
        conv: &Conv<'a>,
        segments: Segments,
        memory: &mut &'m mut [u8],
    ) -> Option<Self> {
        let term = conv.terms.two_factor.filter(|term| term.rank <= MOST_RANK)?;
        let Factors::F32 { down, up } = term.factors else { return None };
        let (rank, layout) = (term.rank, layout::<S>(segments, term.rank));
        let pitch = rank.next_multiple_of(S::LANES);
        Some(Self {
            rank,
            down,
            up,
            out_group: conv.shape.out_group,
            layout,
            latents: take(memory, BLOCK * pitch)?,
            pitch,
            columns: take(memory, rank * STRIP)?,
            packed: take(memory, layout.bytes())?,
            held: None,
            first: 0,
        })
    }

    /// Makes B's rows of `chunk` stand ready.
    #[inline(always)]
    pub(super) fn chunk(&mut self, group: usize, chunk: Chunk) -> Option<()> {
        let first = (group * self.out_group + chunk.first) * self.rank;
        let up = self.up.get(first..)?.get(..chunk.count * self.rank)?;
        self.columns.fill(0.0);
        for (channel, row) in up.chunks_exact(self.rank.max(1)).enumerate() {
            let column = self.columns.get_mut(channel..)?.iter_mut().step_by(STRIP);
            column.zip(row).for_each(|(to, value)| *to = *value);
        }
        Some(())
    }

    /// u of `pixels`, of which each has [`Self::pitch`] values; `None` for pixels outside the block.
    #[inline(always)]
    pub(super) fn latents(&self, pixels: Pixels) -> Option<&[f32]> {
        let first = pixels.first.checked_sub(self.first)?;
        self.latents.get(first * self.pitch..)?.get(..pixels.count * self.pitch)
    }

    /// Adds `B·u` to the sums of a pixel's channels.
    #[inline(always)]
    pub(super) fn add<S: Simd, const N: usize>(
        &self,
        simd: S,
        latents: &[f32],
        pixel: usize,
        sums: &mut [S::Real; N],
    ) -> Option<()> {
        const { assert!(N * S::LANES <= STRIP) };
        let latents = latents.get(pixel * self.pitch..)?.get(..self.rank)?;
        for (u, column) in latents.iter().zip(self.columns.as_chunks::<STRIP>().0) {
            let u = simd.splat(*u);
            for (n, sum) in sums.iter_mut().enumerate() {
                // SAFETY: `STRIP` values cover `N` vectors.
                *sum = simd.mul_add(u, unsafe { simd.load(column.as_ptr().add(n * S::LANES)) }, *sum);
            }
        }
        Some(())
    }
}

/// u of some pixels.
pub(super) struct Projection<'t, 'a, 'm> {
    pub(super) term: &'t mut LowRank<'a, 'm>,
    pub(super) group: usize,
    pub(super) rows: &'t Rows<'t>,
}

impl<S: Simd> Task<S> for Projection<'_, '_, '_> {
    type Output = Option<()>;

    #[inline(always)]
    fn run(self, simd: S) -> Option<()> {
        let Self { term, group, rows } = self;
        if term.held != Some(group) {
            let len = term.rank * term.layout.segments.row();
            let down = bytes::of(term.down).get(group * len..)?.get(..len)?;
            term.layout.pack(down, term.packed, |_| 0)?;
            term.held = Some(group);
        }
        term.first = rows.base + rows.first;
        let mut latents =
            Latents { simd, out: &mut *term.latents, pitch: term.pitch, first: term.first, column: 0 };
        // SAFETY: the rows are those the layer is at, and A has its segments.
        unsafe { project::<S, Reals>(simd, rows, &term.layout, term.packed, &mut latents) }
    }
}

/// The sums as they are.
struct Latents<'l, S> {
    simd: S,
    out: &'l mut [f32],
    pitch: usize,
    first: usize,
    /// First rank row of the chunk.
    column: usize,
}

impl<S: Simd> Finish<S, Reals> for Latents<'_, S> {
    #[inline(always)]
    fn chunk(&mut self, _: usize, chunk: Chunk, _: &[i32]) -> Option<()> {
        self.column = chunk.first;
        Some(())
    }

    #[inline(always)]
    fn start(&self, _: usize) -> S::Real {
        self.simd.splat(0.0)
    }

    #[inline(always)]
    fn tile<const M: usize, const N: usize>(
        &mut self,
        pixels: Pixels,
        sums: &[[S::Real; N]; M],
    ) -> Option<()> {
        let first = pixels.first.checked_sub(self.first)? * self.pitch;
        let rows = self.out.get_mut(first..)?.chunks_exact_mut(self.pitch.max(1));
        for (sums, row) in sums.iter().zip(rows).take(pixels.count) {
            let row = row.get_mut(self.column..)?.get_mut(..N * S::LANES)?;
            for (n, sum) in sums.iter().enumerate() {
                // SAFETY: the slice has room for `N` vectors.
                unsafe { self.simd.store(row.as_mut_ptr().add(n * S::LANES), *sum, S::LANES) };
            }
        }
        Some(())
    }
}
