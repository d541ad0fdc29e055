//! Products of patches with rank rows, eight rows in a vector of 512 bits.
//!
//! Eight codes of a patch are broadcast by a load; each rank row has two lanes, four codes in each. Four rows in a vector
//! have four lanes each, whose sums take twice as many shuffles for half as many rows.
//!
//! # Limit
//! Per pixel and eight rank rows, `⌈K/8⌉` products, and for four pixels 16 operations, of which 5 are shuffles: those of
//! four rows in a vector take 36, of which 18 are shuffles, which have one pipe.

use core::arch::x86_64::*;

use super::factors::{Group, QUAD};
use crate::features::Avx512;
use crate::gemm::{BLOCK, Rows};
use crate::patches::{Addresses, Each, Segments, Walk};
use crate::simd::{Simd, Vector};

/// Rank rows of a vector.
pub(super) const EIGHT: usize = 8;
/// Codes of each.
const RUN: usize = 8;
/// Pixels at a time.
const PIXELS: usize = 12;

/// u of all rank rows of `group` at the pixels of `rows`, `[rank / 4][BLOCK][4]`.
#[inline(always)]
pub(super) fn project<const MOVED: bool, const EVEN: bool>(
    simd: Avx512,
    rows: &Rows<'_>,
    group: &Group<'_>,
    latents: &mut [[i16; QUAD]],
) -> Option<()> {
    const { assert!(BLOCK.is_multiple_of(PIXELS) && PIXELS.is_multiple_of(4)) };
    let Segments { count, len, .. } = rows.patches.segments;
    if group.down.len() < count * len.div_ceil(RUN) * group.vectors * EIGHT * RUN {
        return None;
    }
    for vector in 0..group.vectors {
        let offset = group.offset.as_chunks::<EIGHT>().0.get(vector)?;
        let scale = scales(simd, group.scale.as_chunks::<EIGHT>().0.get(vector)?);
        let latents = latents.get_mut(vector * 2 * BLOCK..)?.get_mut(..2 * BLOCK)?;
        let (low, high) = latents.split_at_mut(BLOCK);
        for start in (0..rows.count).step_by(PIXELS) {
            let first = rows.first + start;
            // SAFETY: the driver compared the reach of every patch with the bytes it lies in; A holds a vector for every
            // run, compared above.
            let sums = unsafe {
                if EVEN {
                    sums::<_, MOVED>(simd, rows, rows.even(first), group, vector, offset)
                } else {
                    let offsets = rows.patches.offsets(first, PIXELS.min(rows.count - start));
                    sums::<_, MOVED>(simd, rows, Each::new(rows.bytes, &offsets), group, vector, offset)
                }
            };
            let low = low.get_mut(start..)?.first_chunk_mut::<PIXELS>()?.as_chunks_mut().0;
            let high = high.get_mut(start..)?.first_chunk_mut::<PIXELS>()?.as_chunks_mut().0;
            // By index, a known number of times: else the sums would go through memory.
            for four in 0..PIXELS / 4 {
                let sums = [sums[4 * four], sums[4 * four + 1], sums[4 * four + 2], sums[4 * four + 3]];
                u_of_four(simd, sums, scale, [&mut low[four], &mut high[four]]);
            }
        }
    }
    Some(())
}

/// The sums of eight rank rows: two lanes for each.
///
/// # Safety
/// The patches lie `at` the addresses, and A holds vector `vector` of every run.
#[inline(always)]
unsafe fn sums<R: Addresses<PIXELS>, const MOVED: bool>(
    simd: Avx512,
    rows: &Rows<'_>,
    at: R,
    group: &Group<'_>,
    vector: usize,
    offset: &[i32; EIGHT],
) -> [__m512i; PIXELS] {
    let patches = rows.patches;
    let Segments { count, len, .. } = patches.segments;
    let (whole, pitch) = (len - len % RUN, group.vectors * EIGHT * RUN);
    // SAFETY: `simd` proves the instructions, the reference covers what is read.
    let start = unsafe {
        _mm512_maskz_expand_epi32(0x5555, _mm512_castsi256_si512(_mm256_loadu_si256(offset.as_ptr().cast())))
    };
    let mut sums = [start; PIXELS];
    let mut weights = group.down.as_ptr().wrapping_add(vector * EIGHT * RUN);
    let mut segment = Walk::default();
    for _ in 0..count {
        let from = at.after(segment.at);
        // SAFETY: the codes read are those of the patch, the vectors those of A: the caller's contract.
        unsafe {
            for code in (0..whole).step_by(RUN) {
                let w = simd.load_weights(weights.cast());
                for (pixel, sum) in sums.iter_mut().enumerate() {
                    let codes = from.of(pixel).add(code).cast::<i64>().read_unaligned();
                    *sum = simd.dot(*sum, codes_of::<MOVED>(simd, codes), w);
                }
                weights = weights.wrapping_add(pitch);
            }
            if whole < len {
                let w = simd.load_weights(weights.cast());
                for (pixel, sum) in sums.iter_mut().enumerate() {
                    let from = from.of(pixel).add(whole);
                    let codes = _mm_maskz_loadu_epi8((1 << (len - whole)) - 1, from.cast());
                    *sum = simd.dot(*sum, codes_of::<MOVED>(simd, _mm_cvtsi128_si64(codes)), w);
                }
                weights = weights.wrapping_add(pitch);
            }
        }
        patches.next_segment(&mut segment);
    }
    sums
}

/// Eight codes, moved, in every 64 bits.
#[inline(always)]
fn codes_of<const MOVED: bool>(_: Avx512, codes: i64) -> __m512i {
    // SAFETY: the argument proves the instructions.
    unsafe {
        let codes = _mm512_set1_epi64(codes);
        if MOVED { codes } else { _mm512_xor_si512(codes, _mm512_set1_epi8(-128)) }
    }
}

/// The scales of eight rank rows, as [`u_of_two`] has their sums.
#[inline(always)]
fn scales(_: Avx512, scale: &[f32; EIGHT]) -> __m512 {
    // SAFETY: the argument proves the instructions, the reference covers what is read.
    unsafe {
        let rows = _mm512_setr_epi32(0, 1, 0, 1, 2, 3, 2, 3, 4, 5, 4, 5, 6, 7, 6, 7);
        _mm512_permutexvar_ps(rows, _mm512_castps256_ps512(_mm256_loadu_ps(scale.as_ptr())))
    }
}

/// u of eight rank rows at four pixels, of their sums: the first four rows' and the others'.
#[inline(always)]
fn u_of_four(
    simd: Avx512,
    [a, b, c, d]: [__m512i; 4],
    scale: __m512,
    [low, high]: [&mut [[i16; QUAD]; 4]; 2],
) {
    // SAFETY: `simd` proves the instructions; each reference covers the bytes read or written.
    unsafe {
        // 128 bits i are of rows 2·i and 2·i + 1, at two pixels.
        let (ab, cd) = (u_of_two(simd, a, b, scale), u_of_two(simd, c, d, scale));
        // 128 bits i are a pair of rows at four pixels; afterwards two pairs are together at each.
        let by_pixel = _mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
        let u = _mm512_permutexvar_epi32(by_pixel, _mm512_packs_epi32(ab, cd));
        _mm256_storeu_si256(low.as_mut_ptr().cast(), _mm512_castsi512_si256(u));
        _mm256_storeu_si256(high.as_mut_ptr().cast(), _mm512_extracti64x4_epi64::<1>(u));
    }
}

/// u of eight rank rows at two pixels, before it saturates.
#[inline(always)]
fn u_of_two(simd: Avx512, a: __m512i, b: __m512i, scale: __m512) -> __m512i {
    // SAFETY: `simd` proves the instructions.
    let sums = unsafe {
        let (a, b) = (_mm512_castsi512_ps(a), _mm512_castsi512_ps(b));
        let (even, odd) =
            (_mm512_shuffle_ps::<0b10_00_10_00>(a, b), _mm512_shuffle_ps::<0b11_01_11_01>(a, b));
        _mm512_add_epi32(_mm512_castps_si512(even), _mm512_castps_si512(odd))
    };
    let real = simd.mul(simd.to_real(sums), scale);
    // Below −2³¹ the conversion gives −2³¹, which saturates as it should; above, it would too.
    simd.round(simd.min(real, simd.splat(32767.0)))
}
