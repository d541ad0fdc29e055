//! Element-wise work on blocks of 64 elements, with AVX-512.

use core::arch::x86_64::*;

/// Elements of a block: one vector of codes, four of 32-bit values.
pub(crate) const BLOCK: usize = 64;

/// Writes `function` of every block of `input`; the last, partial block is completed with defaults.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn map<T: Copy + Default, U: Copy + Default>(
    input: &[T],
    out: &mut [U],
    function: impl Fn(&[T; BLOCK], &mut [U; BLOCK]),
) {
    let ((blocks, rest), (outs, out_rest)) = (input.as_chunks(), out.as_chunks_mut());
    for (block, out) in blocks.iter().zip(outs) {
        function(block, out);
    }
    if !rest.is_empty() && rest.len() == out_rest.len() {
        let (mut block, mut results) = ([T::default(); BLOCK], [U::default(); BLOCK]);
        block.iter_mut().zip(rest).for_each(|(b, v)| *b = *v);
        function(&block, &mut results);
        out_rest.iter_mut().zip(results).for_each(|(o, v)| *o = v);
    }
}

/// Writes `function` of every pair of blocks; as [`map`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn zip<T: Copy + Default, U: Copy + Default>(
    [lhs, rhs]: [&[T]; 2],
    out: &mut [U],
    function: impl Fn(&[T; BLOCK], &[T; BLOCK], &mut [U; BLOCK]),
) {
    let ((a, a_rest), (b, b_rest), (outs, out_rest)) =
        (lhs.as_chunks(), rhs.as_chunks(), out.as_chunks_mut());
    for ((a, b), out) in a.iter().zip(b).zip(outs) {
        function(a, b, out);
    }
    if !out_rest.is_empty() && a_rest.len() == out_rest.len() && b_rest.len() == out_rest.len() {
        let (mut a, mut b, mut results) =
            ([T::default(); BLOCK], [T::default(); BLOCK], [U::default(); BLOCK]);
        a.iter_mut().zip(a_rest).for_each(|(a, v)| *a = *v);
        b.iter_mut().zip(b_rest).for_each(|(b, v)| *b = *v);
        function(&a, &b, &mut results);
        out_rest.iter_mut().zip(results).for_each(|(o, v)| *o = v);
    }
}

/// A block of codes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn load(codes: &[i8; BLOCK]) -> __m512i {
    // SAFETY: the reference covers the 64 bytes read; the load needs no alignment.
    unsafe { _mm512_loadu_si512(codes.as_ptr().cast()) }
}

/// Overwrites a block of codes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn store(out: &mut [i8; BLOCK], codes: __m512i) {
    // SAFETY: the reference covers the 64 bytes written; the store needs no alignment.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), codes) }
}

/// A block of codes as integers, in order.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn widen(codes: &[i8; BLOCK]) -> [__m512i; 4] {
    let mut wide = [_mm512_setzero_si512(); 4];
    for (wide, codes) in wide.iter_mut().zip(codes.as_chunks::<16>().0) {
        // SAFETY: the reference covers the 16 bytes read; the load needs no alignment.
        *wide = _mm512_cvtepi8_epi32(unsafe { _mm_loadu_si128(codes.as_ptr().cast()) });
    }
    wide
}

/// A block of f32.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn load_reals(values: &[f32; BLOCK]) -> [__m512; 4] {
    let mut reals = [_mm512_setzero_ps(); 4];
    for (real, values) in reals.iter_mut().zip(values.as_chunks::<16>().0) {
        // SAFETY: the reference covers the 64 bytes read; the load needs no alignment.
        *real = unsafe { _mm512_loadu_ps(values.as_ptr()) };
    }
    reals
}

/// Overwrites a block of f32.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn store_reals(out: &mut [f32; BLOCK], reals: [__m512; 4]) {
    for (out, real) in out.as_chunks_mut::<16>().0.iter_mut().zip(reals) {
        // SAFETY: the reference covers the 64 bytes written; the store needs no alignment.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), real) };
    }
}

/// From real values in output steps to codes.
///
/// # Numerics
/// Clamps, rounds half to even and adds the zero point as the reference does, for bounds that
/// keep the sum within int8: packing saturates, but never has to.
#[derive(Clone, Copy)]
pub(crate) struct Rounding {
    lo: __m512,
    hi: __m512,
    zero_point: __m512i,
}

impl Rounding {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(crate) fn new(lo: f32, hi: f32, zero_point: i32) -> Self {
        Self {
            lo: _mm512_set1_ps(lo),
            hi: _mm512_set1_ps(hi),
            zero_point: _mm512_set1_epi16(zero_point as i16),
        }
    }

    /// Codes of vectors in order.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(crate) fn codes(&self, values: [__m512; 4]) -> __m512i {
        let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        _mm512_permutexvar_epi32(order, self.interleaved(values))
    }

    /// Codes of vectors whose 128-bit part `p` holds elements `16p + 4v` on, for vector `v`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(crate) fn interleaved(&self, values: [__m512; 4]) -> __m512i {
        // The instructions give their second operand where the comparison is false, as the reference's clamp does.
        let [a, b, c, d] =
            values.map(|v| _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(v, self.lo), self.hi)));
        let low = _mm512_add_epi16(_mm512_packs_epi32(a, b), self.zero_point);
        let high = _mm512_add_epi16(_mm512_packs_epi32(c, d), self.zero_point);
        _mm512_packs_epi16(low, high)
    }
}
