//! Loads of whole vectors from arrays of their size, and sums across lanes.

use core::arch::x86_64::*;

/// Sixteen int8 codes.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn load_i8(values: &[i8; 16]) -> __m128i {
    // SAFETY: the reference covers the 16 bytes read; the load needs no alignment.
    unsafe { _mm_loadu_si128(values.as_ptr().cast()) }
}

/// Sixteen int16 values.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn load_i16(values: &[i16; 16]) -> __m256i {
    // SAFETY: the reference covers the 32 bytes read; the load needs no alignment.
    unsafe { _mm256_loadu_si256(values.as_ptr().cast()) }
}

/// Eight int32 values.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn load_i32(values: &[i32; 8]) -> __m256i {
    // SAFETY: the reference covers the 32 bytes read; the load needs no alignment.
    unsafe { _mm256_loadu_si256(values.as_ptr().cast()) }
}

/// Eight floats.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn load_f32(values: &[f32; 8]) -> __m256 {
    // SAFETY: the reference covers the 32 bytes read; the load needs no alignment.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}

/// Overwrites eight int32 values.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn store_i32(out: &mut [i32; 8], values: __m256i) {
    // SAFETY: the reference covers the 32 bytes written; the store needs no alignment.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), values) }
}

/// Overwrites eight floats.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn store_f32(out: &mut [f32; 8], values: __m256) {
    // SAFETY: the reference covers the 32 bytes written; the store needs no alignment.
    unsafe { _mm256_storeu_ps(out.as_mut_ptr(), values) }
}

/// The four sums across the lanes of four vectors.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn sum_lanes_i32([a, b, c, d]: [__m256i; 4]) -> [i32; 4] {
    let halves = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    let sums = _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves));
    let mut out = [0; 4];
    // SAFETY: `out` covers the 16 bytes written; the store needs no alignment.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), sums) };
    out
}

/// The four sums across the lanes of four vectors.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn sum_lanes_f32([a, b, c, d]: [__m256; 4]) -> [f32; 4] {
    let halves = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    let sums = _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves));
    let mut out = [0.0; 4];
    // SAFETY: `out` covers the 16 bytes written; the store needs no alignment.
    unsafe { _mm_storeu_ps(out.as_mut_ptr(), sums) };
    out
}

/// The `N` values from `at` on where the slice has them, else what is left and zeros.
#[inline(always)]
pub(crate) fn block<T: Copy + Default, const N: usize>(values: &[T], at: usize) -> [T; N] {
    let rest = values.get(at..).unwrap_or(&[]);
    match rest.first_chunk() {
        Some(whole) => *whole,
        None => {
            let mut padded = [T::default(); N];
            padded.iter_mut().zip(rest).for_each(|(p, v)| *p = *v);
            padded
        }
    }
}
