//! 512-bit vectors.

use core::arch::x86_64::*;

use super::{Leaf, Vector};
use crate::features::Avx512;

/// The first `count` of sixteen lanes.
#[inline(always)]
fn first(count: usize) -> __mmask16 {
    if count >= 16 { u16::MAX } else { (1 << count) - 1 }
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn call<L: Leaf>(v: Avx512, leaf: L) -> Option<()> {
    leaf.run(v)
}

impl Vector for Avx512 {
    const LANES: usize = 16;
    const WIDTH: usize = 4;
    const DOTS: usize = 6;

    type Real = __m512;

    fn call<L: Leaf>(self, leaf: L) -> Option<()> {
        // SAFETY: `self` proves the instructions.
        unsafe { call(self, leaf) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn sqrt(self, v: __m512) -> __m512 {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm512_sqrt_ps(v) }
    }

    #[inline(always)]
    fn keep(self, v: __m512, bits: u32) -> __m512 {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm512_maskz_mov_ps(bits as __mmask16, v) }
    }

    #[inline(always)]
    fn sums(self, [a, b, c, d]: [__m512; 4]) -> [f32; 4] {
        let mut out = [0.0; 4];
        // SAFETY: `self` proves the instructions; `out` has room for the four values written.
        unsafe {
            let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
            let (ab, cd) = (_mm512_castps_pd(ab), _mm512_castps_pd(cd));
            let low = _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd));
            let high = _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd));
            // Each quarter now holds its own four sums.
            let quarters = _mm512_add_ps(low, high);
            let halves =
                _mm256_add_ps(_mm512_castps512_ps256(quarters), _mm512_extractf32x8_ps::<1>(quarters));
            let sums = _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves));
            _mm_storeu_ps(out.as_mut_ptr(), sums);
        }
        out
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        // SAFETY: `self` proves the instruction, the caller the sixteen values; no alignment is needed.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_first(self, from: *const f32, count: usize) -> __m512 {
        // SAFETY: `self` proves the instruction; it reads only the lanes that the caller vouches for.
        unsafe { _mm512_maskz_loadu_ps(first(count), from) }
    }

    #[inline(always)]
    unsafe fn load_codes(self, from: *const i8) -> __m512 {
        // SAFETY: `self` proves the instructions, the caller the sixteen codes; no alignment is needed.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_first_codes(self, from: *const i8, count: usize) -> __m512 {
        // SAFETY: `self` proves the instructions; they read only the lanes that the caller vouches for.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(first(count), from))) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: __m512) {
        // SAFETY: `self` proves the instruction, the caller the room; no alignment is needed.
        unsafe { _mm512_storeu_ps(to, v) }
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, v: __m512, count: usize) {
        // SAFETY: `self` proves the instruction; it writes only the lanes that the caller made room for.
        unsafe { _mm512_mask_storeu_ps(to, first(count), v) }
    }
}
