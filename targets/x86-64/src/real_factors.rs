//! The f32 two-factor term beside a product, of f32 or of codes.
//!
//! `u = A·x` is a product of its own over each block of pixels, with the rank rows as channels; the epilogue adds `B·u`.
//! Codes become real values for it, some pixels at a time.
//!
//! # Limit
//! Per pixel, `⌈r/LANES⌉·K` products for A and `⌈N/LANES⌉·r` for B, beside the `⌈N/LANES⌉·K` of an f32 layer.

use ingraft_kernel::TwoFactor;
use ingraft_kernel::terms::Factors;
use ingraft_tensor::bytes;

use crate::columns::{Chunk, Columns, Layout};
use crate::gemm::{BLOCK, Finish, Pixels, Reals, Rows, STRIP, project};
use crate::patches::{Patches, Segments};
use crate::simd::{Simd, Task};
use ingraft_vector::memory::take;

/// Most rank rows per group; adapters of higher rank take the row that reads weights in place.
const MOST_RANK: usize = 32;

/// Pixels whose codes are real values at a time.
const REAL_PIXELS: usize = 24;

/// The factors and latents of a term.
pub(crate) struct LowRank<'a, 'm> {
    rank: usize,
    /// `[groups · rank, row]`.
    down: &'a [f32],
    /// `[out, rank]`.
    up: &'a [f32],
    /// What B is multiplied with.
    scale: f32,
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
    Layout { columns, groups: 1, segments, blocks: true }
}

/// Workspace of a layer with these segments, whatever its term.
pub(crate) fn bytes<S: Simd>(segments: Segments) -> usize {
    let rows = MOST_RANK.next_multiple_of(S::LANES);
    let floats = BLOCK * rows + MOST_RANK * STRIP;
    floats * size_of::<f32>() + layout::<S>(segments, MOST_RANK).bytes()
}

/// Workspace of a layer on codes, whose weight rows have `row` of them.
pub(crate) fn bytes_of_codes<S: Simd>(row: usize) -> usize {
    bytes::<S>(Segments::of_reals(row)) + REAL_PIXELS * row * size_of::<f32>()
}

/// Whether [`LowRank`] is made for a term.
pub(crate) fn takes(term: &TwoFactor<'_>) -> bool {
    matches!(term.factors, Factors::F32 { .. }) && term.rank <= MOST_RANK
}

impl<'a, 'm> LowRank<'a, 'm> {
    /// The term of a layer with these segments of f32; `None` for one of another kind or of a high rank.
    pub(crate) fn new<S: Simd>(
        term: &TwoFactor<'a>,
        segments: Segments,
        (out_group, scale): (usize, f32),
        memory: &mut &'m mut [u8],
    ) -> Option<Self> {
        let Factors::F32 { down, up } = term.factors else { return None };
        if term.rank > MOST_RANK {
            return None;
        }
        let (rank, layout) = (term.rank, layout::<S>(segments, term.rank));
        let pitch = rank.next_multiple_of(S::LANES);
        Some(Self {
            rank,
            down,
            up,
            scale,
            out_group,
            layout,
            latents: take(memory, BLOCK * pitch)?,
            pitch,
            columns: take(memory, rank * STRIP)?,
            packed: take(memory, layout.bytes())?,
            held: None,
            first: 0,
        })
    }

    /// Packs A of `group`.
    fn hold(&mut self, group: usize) -> Option<()> {
        if self.held != Some(group) {
            let len = self.rank * self.layout.segments.row();
            let down = bytes::of(self.down).get(group * len..)?.get(..len)?;
            self.layout.pack(down, self.packed, |_| 0)?;
            self.held = Some(group);
        }
        Some(())
    }

    /// u of rows of f32, which are part of the block.
    ///
    /// # Safety
    /// The patches of the rows lie in their bytes, and A has their segments.
    #[inline(always)]
    unsafe fn project<S: Simd>(&mut self, simd: S, rows: &Rows<'_>) -> Option<()> {
        let mut latents =
            Latents { simd, out: &mut *self.latents, pitch: self.pitch, first: self.first, column: 0 };
        // SAFETY: the caller's contract.
        unsafe { project::<S, Reals>(simd, rows, &self.layout, self.packed, &mut latents) }
    }

    /// Makes B's rows of `chunk` stand ready.
    #[inline(always)]
    pub(crate) fn chunk(&mut self, group: usize, chunk: Chunk) -> Option<()> {
        let first = (group * self.out_group + chunk.first) * self.rank;
        let up = self.up.get(first..)?.get(..chunk.count * self.rank)?;
        self.columns.fill(0.0);
        for (channel, row) in up.chunks_exact(self.rank.max(1)).enumerate() {
            let column = self.columns.get_mut(channel..)?.iter_mut().step_by(STRIP);
            column.zip(row).for_each(|(to, value)| *to = *value * self.scale);
        }
        Some(())
    }

    /// u of `pixels`, of which each has [`Self::pitch`] values; `None` for pixels outside the block.
    #[inline(always)]
    pub(crate) fn latents(&self, pixels: Pixels) -> Option<&[f32]> {
        let first = pixels.first.checked_sub(self.first)?;
        self.latents.get(first * self.pitch..)?.get(..pixels.count * self.pitch)
    }

    /// Adds `B·u` to the sums of a pixel's channels.
    #[inline(always)]
    pub(crate) fn add<S: Simd, const N: usize>(
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

/// u of a block of f32.
pub(crate) struct Projection<'t, 'a, 'm> {
    pub(crate) term: &'t mut LowRank<'a, 'm>,
    pub(crate) group: usize,
    pub(crate) rows: &'t Rows<'t>,
}

impl<S: Simd> Task<S> for Projection<'_, '_, '_> {
    type Output = Option<()>;

    #[inline(always)]
    fn run(self, simd: S) -> Option<()> {
        let Self { term, group, rows } = self;
        term.hold(group)?;
        term.first = rows.base + rows.first;
        // SAFETY: the rows are those the layer is at, and A has its segments.
        unsafe { term.project(simd, rows) }
    }
}

/// u of a block of codes, which lie as [`Simd::InPlace`] multiplies them.
pub(crate) struct ProjectionOfCodes<'t, 'a, 'm> {
    pub(crate) term: &'t mut LowRank<'a, 'm>,
    pub(crate) group: usize,
    pub(crate) rows: &'t Rows<'t>,
    /// Real values are `(code − zero)·scale`.
    pub(crate) zero: i32,
    pub(crate) scale: f32,
    /// Room for some patches.
    pub(crate) reals: &'t mut [f32],
}

impl<'m> ProjectionOfCodes<'_, '_, '_> {
    /// The room for patches of `row` codes.
    pub(crate) fn room(row: usize, memory: &mut &'m mut [u8]) -> Option<&'m mut [f32]> {
        take(memory, REAL_PIXELS * row)
    }
}

impl<S: Simd> Task<S> for ProjectionOfCodes<'_, '_, '_> {
    type Output = Option<()>;

    #[inline(always)]
    fn run(self, simd: S) -> Option<()> {
        let Self { term, group, rows, zero, scale, reals } = self;
        term.hold(group)?;
        term.first = rows.base + rows.first;
        let row = rows.patches.segments.row();
        for start in (0..rows.count).step_by(REAL_PIXELS) {
            let count = REAL_PIXELS.min(rows.count - start);
            let reals = reals.get_mut(..count * row)?;
            for (pixel, to) in reals.chunks_exact_mut(row.max(1)).enumerate() {
                codes_to_reals::<S>(rows, rows.first + start + pixel, (zero, scale), to)?;
            }
            let patches = Patches::of_reals(count, row);
            let base = term.first + start;
            let rows = Rows {
                patches: &patches,
                bytes: bytes::of(reals),
                first: 0,
                count,
                base,
                moved: false,
                even: false,
            };
            // SAFETY: `count` whole patches lie in `reals`, and A was laid out for rows of as many values.
            unsafe { term.project(simd, &rows)? };
        }
        Some(())
    }
}

/// The real values of a patch.
#[inline(always)]
fn codes_to_reals<S: Simd>(
    rows: &Rows<'_>,
    pixel: usize,
    (zero, scale): (i32, f32),
    to: &mut [f32],
) -> Option<()> {
    let patches = rows.patches;
    let Segments { count, len, .. } = patches.segments;
    let offset = patches.offset(pixel);
    for (segment, to) in (0..count).zip(to.chunks_exact_mut(len.max(1))) {
        let line = segment / patches.inner;
        let at = line * patches.outer_step + (segment - line * patches.inner) * patches.inner_step;
        let codes = rows.bytes.get(offset + at..)?.get(..len * S::WIDE)?;
        if !rows.moved {
            for (to, code) in to.iter_mut().zip(codes) {
                *to = (i32::from(*code as i8) - zero) as f32 * scale;
            }
        } else if S::WIDE == 1 {
            for (to, code) in to.iter_mut().zip(codes) {
                *to = (i32::from(*code) - (zero + 128)) as f32 * scale;
            }
        } else {
            for (to, code) in to.iter_mut().zip(codes.as_chunks().0) {
                *to = (i32::from(u16::from_le_bytes(*code)) - (zero + 128)) as f32 * scale;
            }
        }
    }
    Some(())
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
                unsafe { self.simd.store_some(row.as_mut_ptr().add(n * S::LANES), *sum, S::LANES) };
            }
        }
        Some(())
    }
}
