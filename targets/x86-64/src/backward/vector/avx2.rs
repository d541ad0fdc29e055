//! 256-bit vectors.

use core::arch::x86_64::*;

use super::{Leaf, Vector};
use crate::avx2::lanes::sum_lanes_f32;
use crate::features::Avx2;

#[target_feature(enable = "avx2,fma")]
fn call<L: Leaf>(v: Avx2, leaf: L) -> Option<()> {
    leaf.run(v)
}

/// All bits of the first `count` of eight lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn first(count: usize) -> __m256i {
    let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), lanes)
}

impl Vector for Avx2 {
    const LANES: usize = 8;
    const WIDTH: usize = 2;
    const DOTS: usize = 3;

    type Real = __m256;

    fn call<L: Leaf>(self, leaf: L) -> Option<()> {
        // SAFETY: `self` proves the instructions.
        unsafe { call(self, leaf) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm256_div_ps(a, b) }
    }

    #[inline(always)]
    fn sqrt(self, v: __m256) -> __m256 {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm256_sqrt_ps(v) }
    }

    #[inline(always)]
    fn keep(self, v: __m256, bits: u32) -> __m256 {
        // SAFETY: `self` proves the instructions.
        unsafe {
            let each = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
            let set = _mm256_and_si256(_mm256_set1_epi32(bits as i32), each);
            _mm256_and_ps(v, _mm256_castsi256_ps(_mm256_cmpeq_epi32(set, each)))
        }
    }

    #[inline(always)]
    fn sums(self, v: [__m256; 4]) -> [f32; 4] {
        // SAFETY: `self` proves the instructions.
        unsafe { sum_lanes_f32(v) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m256 {
        // SAFETY: `self` proves the instruction, the caller the eight values; no alignment is needed.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_first(self, from: *const f32, count: usize) -> __m256 {
        // SAFETY: `self` proves the instructions; they read only the lanes that the caller vouches for.
        unsafe { if count == Self::LANES { self.load(from) } else { _mm256_maskload_ps(from, first(count)) } }
    }

    #[inline(always)]
    unsafe fn load_codes(self, from: *const i8) -> __m256 {
        // SAFETY: `self` proves the instructions, the caller the eight codes; no alignment is needed.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_first_codes(self, from: *const i8, count: usize) -> __m256 {
        if count == Self::LANES {
            // SAFETY: the caller vouches for all.
            return unsafe { self.load_codes(from) };
        }
        let mut codes = [0i8; 8];
        for (lane, code) in codes.iter_mut().enumerate().take(count) {
            // SAFETY: the caller vouches for the first `count`.
            *code = unsafe { from.add(lane).read() };
        }
        // SAFETY: eight codes.
        unsafe { self.load_codes(codes.as_ptr()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: __m256) {
        // SAFETY: `self` proves the instruction, the caller the room; no alignment is needed.
        unsafe { _mm256_storeu_ps(to, v) }
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, v: __m256, count: usize) {
        // SAFETY: `self` proves the instructions; they write only the lanes that the caller made room for.
        unsafe {
            if count == Self::LANES { self.store(to, v) } else { _mm256_maskstore_ps(to, first(count), v) }
        }
    }
}
