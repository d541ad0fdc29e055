//! The integer two-factor term beside a product.
//!
//! `u = sat16(round(f32(A·(x − zx))·s))` is computed once per block of pixels
//! with vectors of four rank rows by four groups of four codes, so that a term of
//! rank 4 takes a quarter of what a full vector of channels would. Codes of u
//! are kept as their low and high bytes, the high one moved to 0…255: `B·u` is
//! then two int8 products in the layout of any weights, `lo + (hi << 8)`.
//!
//! # Numerics
//! Exact modulo 2³², as the reference's sums are; `−128·ΣA`, `−zx·ΣA` and
//! `−128·ΣB` undo the moves.

use core::arch::x86_64::*;

use ingraft_kernel::qconv::QConv;
use ingraft_kernel::terms::Factors;
use ingraft_tensor::bytes::of as bytes_of;

use crate::avx2::tile::take;
use crate::columns::{Chunk, Columns, Layout};
use crate::gemm::{BLOCK, Pixels, Rows, STRIP};
use crate::patches::Segments;

/// Most rank rows per group; adapters of higher rank take the AVX2 row.
pub(super) const MOST_RANK: usize = 64;

/// Rank rows of a vector.
const ROWS: usize = 4;
/// Codes of each that a vector holds.
const CODES: usize = 16;

/// The factors and latents of a term, in workspace.
pub(super) struct LowRank<'a, 'm> {
    conv: &'a QConv<'a>,
    rank: usize,
    down: &'a [i8],
    up: &'a [i8],
    down_scale: &'a [f32],
    up_scale: &'a [f32],
    /// The group whose rows stand in `rows`.
    packed: Option<usize>,
    /// `[segment][16 codes][rank / 4][4 rank rows][16]`.
    rows: &'m mut [[i8; ROWS * CODES]],
    /// What each rank row adds to its product, and its scale.
    offset: [i32; MOST_RANK],
    scale: [f32; MOST_RANK],
    /// Bytes of u, `[plane][rank / 4][pixel][4]`.
    latents: [&'m mut [[u8; ROWS]]; 2],
    /// The first pixel of the block.
    first: usize,
    /// Rows of B as any weights are packed: a group's where they fit, else a chunk's.
    strip: &'m mut [u8],
    /// The group whose rows stand in `strip`.
    packed_up: Option<usize>,
    /// Where the chunk's begin there.
    chunk: usize,
    channel_scale: [f32; STRIP],
}

/// Workspace of a layer, whatever its term.
pub(super) fn bytes(segments: Segments, out_group: usize) -> usize {
    vectors(segments) * MOST_RANK * CODES + 2 * MOST_RANK * BLOCK + strip_bytes(out_group)
}

/// Room for B: all of a group's rows up to rank 16, a chunk's beyond.
fn strip_bytes(out_group: usize) -> usize {
    (out_group.next_multiple_of(16) * 16).max(STRIP * MOST_RANK)
}

/// Vectors of a rank row.
const fn vectors(segments: Segments) -> usize {
    segments.count * segments.len.div_ceil(CODES)
}

impl<'a, 'm> LowRank<'a, 'm> {
    /// The term of a layer with these segments; `None` for a term that is absent or of another kind.
    pub(super) fn new(conv: &'a QConv<'a>, segments: Segments, memory: &mut &'m mut [u8]) -> Option<Self> {
        let term = conv.terms.two_factor.filter(|term| term.rank <= MOST_RANK)?;
        let Factors::I8 { down, up, down_scale, up_scale } = term.factors else { return None };
        let quads = term.rank.div_ceil(ROWS);
        let mut latents = || take(memory, quads * BLOCK);
        let latents = [latents()?, latents()?];
        Some(Self {
            conv,
            rank: term.rank,
            down,
            up,
            down_scale,
            up_scale,
            packed: None,
            rows: take::<[i8; ROWS * CODES]>(memory, vectors(segments) * quads)?,
            offset: [0; MOST_RANK],
            scale: [0.0; MOST_RANK],
            latents,
            first: 0,
            strip: take(memory, strip_bytes(conv.shape.out_group))?,
            packed_up: None,
            chunk: 0,
            channel_scale: [0.0; STRIP],
        })
    }

    /// Rank rows in whole vectors.
    #[inline(always)]
    fn quads(&self) -> usize {
        self.rank.div_ceil(ROWS)
    }

    /// Copies the rank rows of `group` into vectors.
    fn pack(&mut self, group: usize, segments: Segments) -> Option<()> {
        let (row, first) = (segments.row(), group * self.rank);
        let (quads, per_segment) = (self.quads(), segments.len.div_ceil(CODES));
        self.rows.as_flattened_mut().fill(0);
        for rank in 0..self.rank {
            let codes = self.down.get((first + rank) * row..)?.get(..row)?;
            let sum = codes.iter().fold(0i32, |sum, code| sum.wrapping_add(i32::from(*code)));
            let moved = self.conv.attrs.in_zero_point.wrapping_add(128);
            *self.offset.get_mut(rank)? = sum.wrapping_mul(moved).wrapping_neg();
            *self.scale.get_mut(rank)? = *self.down_scale.get(first + rank)?;
            for (segment, codes) in codes.chunks_exact(segments.len.max(1)).enumerate() {
                for (at, codes) in codes.chunks(CODES).enumerate() {
                    let vector = (segment * per_segment + at) * quads + rank / ROWS;
                    let to = self.rows.get_mut(vector)?.get_mut(rank % ROWS * CODES..)?;
                    to.get_mut(..codes.len())?.copy_from_slice(codes);
                }
            }
        }
        self.packed = Some(group);
        Some(())
    }

    /// Computes u of `rows`.
    pub(super) fn project(&mut self, group: usize, rows: &Rows<'_>) -> Option<()> {
        let segments = rows.patches.segments;
        if self.packed != Some(group) {
            self.pack(group, segments)?;
        }
        self.first = rows.base + rows.first;
        for start in (0..rows.count).step_by(4) {
            let count = 4.min(rows.count - start);
            let offsets: [usize; 4] = rows.patches.offsets(rows.first + start, count);
            for quad in 0..self.quads() {
                // SAFETY: rows leave this crate only through a target whose argument proves AVX-512 and
                // VNNI; the driver compared the reach of every patch with the bytes it lies in.
                unsafe { self.project_quad(rows, offsets, quad, start)? };
            }
        }
        Some(())
    }

    /// u of four rank rows and four pixels.
    ///
    /// # Safety
    /// The processor executes AVX-512 with `vpdpbusd`; the patches at `offsets` lie in `rows`.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn project_quad(
        &mut self,
        rows: &Rows<'_>,
        offsets: [usize; 4],
        quad: usize,
        start: usize,
    ) -> Option<()> {
        let (patches, moving) = (rows.patches, _mm512_set1_epi8(-128));
        let quads = self.quads();
        let mut weights = self.rows.get(quad..)?.iter().step_by(quads);
        let mut sums = [_mm512_setzero_si512(); 4];
        for segment in 0..patches.segments.count {
            let line = segment / patches.inner;
            let at = line * patches.outer_step + (segment - line * patches.inner) * patches.inner_step;
            for code in (0..patches.segments.len).step_by(CODES) {
                let left = patches.segments.len - code;
                let mask = if left >= CODES { u16::MAX } else { (1 << left) - 1 };
                // SAFETY: the reference covers the 64 bytes read.
                let w = unsafe { _mm512_loadu_si512(weights.next()?.as_ptr().cast()) };
                for (sum, offset) in sums.iter_mut().zip(offsets) {
                    // SAFETY: the mask selects only bytes of the patch: the caller's contract.
                    let x = unsafe {
                        let from = rows.bytes.as_ptr().add(offset + at + code);
                        _mm_maskz_loadu_epi8(mask, from.cast())
                    };
                    let x = _mm512_xor_si512(_mm512_broadcast_i32x4(x), moving);
                    *sum = _mm512_dpbusd_epi32(*sum, x, w);
                }
            }
        }
        let [lo, hi] = self.codes(sums, quad)?;
        let at = quad * BLOCK + start;
        for (latents, codes) in self.latents.iter_mut().zip([lo, hi]) {
            let mut bytes = [[0u8; ROWS]; 4];
            // SAFETY: `bytes` covers the 16 bytes written.
            unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), codes) };
            latents.get_mut(at..)?.iter_mut().zip(bytes).for_each(|(latent, b)| *latent = b);
        }
        Some(())
    }

    /// The bytes of u, low and high, of four pixels after each other.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn codes(&self, [a, b, c, d]: [__m512i; 4], quad: usize) -> Option<[__m128i; 2]> {
        // Sums of the four lanes of each 128-bit part: afterwards part i, lane j is rank row i of pixel j.
        let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        let sums = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
        let by_pixel = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        let sums = _mm512_permutexvar_epi32(by_pixel, sums);
        let offset: &[i32; ROWS] = self.offset.get(quad * ROWS..)?.first_chunk()?;
        let scale: &[f32; ROWS] = self.scale.get(quad * ROWS..)?.first_chunk()?;
        // SAFETY: each reference covers the 16 bytes read.
        let (offset, scale) =
            unsafe { (_mm_loadu_si128(offset.as_ptr().cast()), _mm_loadu_ps(scale.as_ptr())) };
        let real = _mm512_cvtepi32_ps(_mm512_add_epi32(sums, _mm512_broadcast_i32x4(offset)));
        let real = _mm512_mul_ps(real, _mm512_broadcast_f32x4(scale));
        let (least, most) = (_mm512_set1_ps(-32768.0), _mm512_set1_ps(32767.0));
        let u = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(real, least), most));
        let high = _mm512_xor_si512(_mm512_srai_epi32::<8>(u), _mm512_set1_epi32(0x80));
        Some([_mm512_cvtepi32_epi8(u), _mm512_cvtepi32_epi8(high)])
    }

    /// Makes B's rows of `chunk` stand in the strip.
    pub(super) fn chunk(&mut self, group: usize, chunk: Chunk, columns: Columns) -> Option<()> {
        let layout = Layout { columns, groups: 1, segments: Segments { count: 1, len: self.rank } };
        let first = group * columns.count;
        let up = self.up.get(first * self.rank..)?.get(..columns.count * self.rank)?;
        let whole = columns.vectors() * columns.lanes * self.quads() * ROWS;
        if whole > self.strip.len() {
            layout.pack_steps(bytes_of(up), chunk, self.strip)?;
            self.chunk = 0;
        } else {
            if self.packed_up != Some(group) {
                let mut strip = &mut *self.strip;
                for chunk in columns.chunks() {
                    let (to, rest) = strip.split_at_mut_checked(layout.chunk_bytes(chunk))?;
                    layout.pack_steps(bytes_of(up), chunk, to)?;
                    strip = rest;
                }
                self.packed_up = Some(group);
            }
            self.chunk = chunk.before * columns.lanes * self.quads() * ROWS;
        }
        let scale = self.up_scale.get(first + chunk.first..)?.get(..chunk.count)?;
        self.channel_scale.fill(0.0);
        self.channel_scale.iter_mut().zip(scale).for_each(|(s, value)| *s = *value);
        Some(())
    }

    /// Adds `f32(B·u)·n` to the pre-activation values of a chunk of `N` vectors, for pixels from `first` on.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub(super) fn add<const N: usize>(&self, first: usize, values: &mut [[__m512; N]]) -> Option<()> {
        let quads = self.quads();
        let weights = self.strip.get(self.chunk..)?.as_chunks::<64>().0.get(..quads * N)?;
        let mut start = [_mm512_setzero_si512(); N];
        for weights in weights.chunks_exact(N) {
            for (start, w) in start.iter_mut().zip(weights) {
                *start = _mm512_dpbusd_epi32(*start, _mm512_set1_epi8(-128), load(w));
            }
        }
        let start = start.map(|start| _mm512_sub_epi32(_mm512_setzero_si512(), start));
        let scales = self.channel_scale.as_chunks::<16>().0.first_chunk::<N>()?;
        let at = first.checked_sub(self.first)?;
        for (pixel, values) in values.iter_mut().enumerate() {
            let (mut low_sums, mut high_sums) = ([_mm512_setzero_si512(); N], start);
            for (quad, weights) in weights.chunks_exact(N).enumerate() {
                let at = quad * BLOCK + at + pixel;
                let low = _mm512_set1_epi32(i32::from_le_bytes(*self.latents[0].get(at)?));
                let high = _mm512_set1_epi32(i32::from_le_bytes(*self.latents[1].get(at)?));
                for ((low_sum, high_sum), w) in low_sums.iter_mut().zip(&mut high_sums).zip(weights) {
                    let w = load(w);
                    *low_sum = _mm512_dpbusd_epi32(*low_sum, low, w);
                    *high_sum = _mm512_dpbusd_epi32(*high_sum, high, w);
                }
            }
            for (((value, scale), low), high) in values.iter_mut().zip(scales).zip(low_sums).zip(high_sums) {
                let sum = _mm512_cvtepi32_ps(_mm512_add_epi32(low, _mm512_slli_epi32::<8>(high)));
                // SAFETY: the reference covers the 64 bytes read.
                let scale = unsafe { _mm512_loadu_ps(scale.as_ptr()) };
                *value = _mm512_add_ps(*value, _mm512_mul_ps(sum, scale));
            }
        }
        Some(())
    }
}

/// A vector of packed weights.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(weights: &[u8; 64]) -> __m512i {
    // SAFETY: the reference covers the 64 bytes read.
    unsafe { _mm512_loadu_si512(weights.as_ptr().cast()) }
}

impl LowRank<'_, '_> {
    /// Whether `pixels` lie in the block whose latents were computed.
    pub(super) fn covers(&self, pixels: Pixels) -> bool {
        pixels.first >= self.first && pixels.first + pixels.count <= self.first + BLOCK
    }
}
