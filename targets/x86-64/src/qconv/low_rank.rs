//! The integer two-factor term beside a product.
//!
//! `u = sat16(round(f32(A·(x − zx))·s))` is computed once per block of pixels
//! with vectors of four rank rows by four groups of four codes, so that a term of
//! rank 4 takes a quarter of what a full vector of channels would. Pairs of u then
//! meet pairs of B's columns, widened to int16, in the epilogue: `vpdpwssd`.
//!
//! # Numerics
//! Exact modulo 2³², as the reference's sums are; `−128·ΣA` and `−zx·ΣA` undo the move of x.
//!
//! # Limit
//! Per pixel, `⌈K/16⌉·⌈r/4⌉` products for A, and per 16 channels `⌈r/2⌉` products, a conversion, a multiplication and
//! an addition for B, beside the `⌈K/4⌉` products of the layer itself.

use core::arch::x86_64::*;

use ingraft_kernel::TwoFactor;
use ingraft_kernel::qconv::QConv;
use ingraft_kernel::terms::Factors;

use super::factors::{Group, LANES, MOST_RANK, Plan, QUAD, Up};
use crate::avx2::tile::take;
use crate::columns::Chunk;
use crate::gemm::{BLOCK, Pixels, Rows, STRIP};
use crate::patches::Segments;

/// Most rank rows per group that are packed for all channels at once in every run; beyond, for one chunk at a time.
const WHOLE: usize = 16;

/// The factors and latents of a term.
pub(super) struct LowRank<'a, 'm> {
    term: TwoFactor<'a>,
    plan: Plan,
    moved: i32,
    /// The groups, where the adapter was packed.
    packed: Option<&'a [u8]>,
    /// Else room for one group, or for one with a single chunk of B.
    own: &'m mut [u8],
    /// The group whose factors stand in `own`, and the first vector of B's chunk where there is only one.
    held: Option<(usize, Option<usize>)>,
    /// u of a block, `[rank / 4][pixel][4]`.
    latents: &'m mut [[i16; QUAD]],
    /// The first pixel of the block.
    first: usize,
    /// Where B's vectors of the chunk begin.
    up: usize,
    /// The group at work.
    group: usize,
}

/// Workspace of a layer, whatever its term.
pub(super) fn bytes(segments: Segments, out_group: usize) -> usize {
    let whole = Plan::new(segments, out_group, 1, WHOLE).group_bytes();
    let chunk = Plan::new(segments, STRIP.min(out_group), 1, MOST_RANK).group_bytes();
    whole.max(chunk) + MOST_RANK * BLOCK * 2
}

impl<'a, 'm> LowRank<'a, 'm> {
    /// The term of a layer with these segments; `None` for a term that is absent or of another kind.
    pub(super) fn new(conv: &QConv<'a>, segments: Segments, memory: &mut &'m mut [u8]) -> Option<Self> {
        let term = conv.terms.two_factor.filter(|term| term.rank <= MOST_RANK)?;
        let Factors::I8 { .. } = term.factors else { return None };
        let plan = Plan::new(segments, conv.shape.out_group, conv.shape.groups, term.rank);
        let packed = plan.groups_of(conv.terms.packed.factors);
        let room = if packed.is_some() { 0 } else { plan.narrowed().group_bytes() };
        Some(Self {
            term,
            plan: if packed.is_some() { plan } else { plan.narrowed() },
            moved: conv.attrs.in_zero_point.wrapping_add(128),
            packed,
            latents: take(memory, plan.quads() * BLOCK)?,
            own: take(memory, room)?,
            held: None,
            first: 0,
            up: 0,
            group: 0,
        })
    }

    fn group(&self) -> Option<Group<'_>> {
        match self.packed {
            Some(packed) => self.plan.group(packed, self.group),
            None => self.plan.group(self.own, 0),
        }
    }

    /// Computes u of `rows`.
    pub(super) fn project(&mut self, group: usize, rows: &Rows<'_>) -> Option<()> {
        self.group = group;
        if self.packed.is_none() && self.held.is_none_or(|(held, _)| held != group) {
            self.plan.pack_down(&self.term, group, self.moved, self.own)?;
            self.held = Some((group, None));
        }
        self.first = rows.base + rows.first;
        let (plan, latents) = (self.plan, core::mem::take(&mut self.latents));
        let group = self.group()?;
        let done = (0..rows.count).step_by(4).try_for_each(|start| {
            let offsets: [usize; 4] = rows.patches.offsets(rows.first + start, 4.min(rows.count - start));
            let mut quad = 0;
            // SAFETY: rows leave this crate only through a target whose argument proves AVX-512 and
            // VNNI; the driver compared the reach of every patch with the bytes it lies in.
            unsafe {
                while quad + 2 <= plan.quads() {
                    project::<2>(rows, offsets, &group, quad, latents.get_mut(quad * BLOCK + start..)?)?;
                    quad += 2;
                }
                if quad < plan.quads() {
                    project::<1>(rows, offsets, &group, quad, latents.get_mut(quad * BLOCK + start..)?)?;
                }
            }
            Some(())
        });
        self.latents = latents;
        done
    }

    /// Makes B's rows of `chunk` stand ready.
    pub(super) fn chunk(&mut self, chunk: Chunk) -> Option<()> {
        self.up = chunk.before;
        if self.packed.is_none() {
            let whole = self.plan.is_whole();
            let wanted = Some((self.group, if whole { Some(0) } else { Some(chunk.before) }));
            if self.held != wanted {
                self.plan.pack_up(&self.term, self.group, chunk, self.own)?;
                self.held = wanted;
            }
            if !whole {
                self.up = 0;
            }
        }
        Some(())
    }

    /// B of the chunk at hand.
    #[inline(always)]
    pub(super) fn up<const N: usize>(&self) -> Option<Up<'_, N>> {
        self.group()?.up(self.up)
    }

    /// u of `pixels`; `None` for pixels outside the block.
    #[inline(always)]
    pub(super) fn latents(&self, pixels: Pixels) -> Option<Latents<'_>> {
        let first = pixels.first.checked_sub(self.first)?;
        let inside = first + pixels.count <= BLOCK && pixels.count > 0;
        let quads = self.latents.as_chunks().0;
        inside.then_some(Latents { quads, first, count: pixels.count })
    }

    /// Whether `pixels` lie in the block whose latents were computed.
    #[inline(always)]
    pub(super) fn covers(&self, pixels: Pixels) -> bool {
        pixels.first >= self.first && pixels.first + pixels.count <= self.first + BLOCK
    }
}

/// u of some pixels of a block.
#[derive(Clone, Copy)]
pub(super) struct Latents<'l> {
    quads: &'l [[[i16; QUAD]; BLOCK]],
    first: usize,
    count: usize,
}

impl Latents<'_> {
    /// The two pairs of four rank rows at one of the pixels, each in every lane.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn of(self, quad: usize, pixel: usize) -> [__m512i; 2] {
        let quad: &[[i16; QUAD]; BLOCK] = match self.quads.get(quad) {
            Some(quad) if pixel < self.count => quad,
            _ => return [_mm512_setzero_si512(); 2],
        };
        // SAFETY: pixels of this value lie in the block, whose u are eight bytes each.
        let from = unsafe { quad.as_ptr().add(self.first + pixel).cast::<i32>() };
        // SAFETY: as above.
        unsafe { [_mm512_set1_epi32(from.read_unaligned()), _mm512_set1_epi32(from.add(1).read_unaligned())] }
    }
}

/// u of `4·Q` rank rows and four pixels; `latents` begins at the first quad's first pixel.
///
/// # Safety
/// The processor executes AVX-512 with `vpdpbusd`; the patches at `offsets` lie in `rows`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn project<const Q: usize>(
    rows: &Rows<'_>,
    offsets: [usize; 4],
    group: &Group<'_>,
    quad: usize,
    latents: &mut [[i16; QUAD]],
) -> Option<()> {
    let (patches, moving) = (rows.patches, _mm512_set1_epi8(-128));
    let Segments { count, len } = patches.segments;
    let mut weights = group.down.iter().skip(quad);
    let mut sums = [[_mm512_setzero_si512(); 4]; Q];
    let mut multiply = |from: usize, mask: Option<u16>| {
        let mut w = [_mm512_setzero_si512(); Q];
        for w in &mut w {
            // SAFETY: the reference covers the 64 bytes read.
            *w = unsafe { _mm512_loadu_si512(weights.next()?.as_ptr().cast()) };
        }
        for (pixel, offset) in offsets.iter().enumerate() {
            // SAFETY: the bytes read are those of the patch: the caller's contract.
            let x = unsafe {
                let from = rows.bytes.as_ptr().add(offset + from);
                match mask {
                    None => _mm_loadu_si128(from.cast()),
                    Some(mask) => _mm_maskz_loadu_epi8(mask, from.cast()),
                }
            };
            let x = _mm512_xor_si512(_mm512_broadcast_i32x4(x), moving);
            for (sums, w) in sums.iter_mut().zip(w) {
                sums[pixel] = _mm512_dpbusd_epi32(sums[pixel], x, w);
            }
        }
        for _ in Q..group.quads {
            weights.next();
        }
        Some(())
    };
    for segment in 0..count {
        let line = segment / patches.inner;
        let at = line * patches.outer_step + (segment - line * patches.inner) * patches.inner_step;
        for code in (0..len / LANES * LANES).step_by(LANES) {
            multiply(at + code, None)?;
        }
        if !len.is_multiple_of(LANES) {
            multiply(at + len / LANES * LANES, Some((1 << (len % LANES)) - 1))?;
        }
    }
    for (q, sums) in sums.into_iter().enumerate() {
        let codes = codes(sums, group, quad + q)?;
        let to: &mut [[i16; QUAD]; 4] = latents.get_mut(q * BLOCK..)?.first_chunk_mut()?;
        // SAFETY: the reference covers the 32 bytes written.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), codes) };
    }
    Some(())
}

/// u of four rank rows, of four pixels after each other.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn codes([a, b, c, d]: [__m512i; 4], group: &Group<'_>, quad: usize) -> Option<__m256i> {
    // Sums of the four lanes of each 128-bit part: afterwards part i, lane j is rank row i of pixel j.
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    let sums = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    let by_pixel = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    let sums = _mm512_permutexvar_epi32(by_pixel, sums);
    let (offset, scale) = (group.offset.get(quad)?, group.scale.get(quad)?);
    // SAFETY: each reference covers the 16 bytes read.
    let (offset, scale) = unsafe { (_mm_loadu_si128(offset.as_ptr().cast()), _mm_loadu_ps(scale.as_ptr())) };
    let real = _mm512_cvtepi32_ps(_mm512_add_epi32(sums, _mm512_broadcast_i32x4(offset)));
    let real = _mm512_mul_ps(real, _mm512_broadcast_f32x4(scale));
    // Below −2³¹ the conversion gives −2³¹, which saturates as it should; above, it would too.
    let u = _mm512_cvtps_epi32(_mm512_min_ps(real, _mm512_set1_ps(32767.0)));
    Some(_mm512_cvtsepi32_epi16(u))
}
