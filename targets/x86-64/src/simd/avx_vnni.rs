//! int8 products by `vpdpbusd` on 256-bit vectors: processors with AVX-VNNI and without AVX-512.

use core::arch::asm;
use core::arch::x86_64::*;

use super::ymm::Ymm;
use super::{Bytes, Simd};
use crate::features::AvxVnni;
use crate::gemm::Codes;

/// As the one of AVX-512: keeps the exclusive or behind the broadcast.
#[inline]
#[target_feature(enable = "avx2")]
fn opaque(mut v: __m256i) -> __m256i {
    // SAFETY: no instruction is executed.
    unsafe { asm!("/* {0} */", inout(ymm_reg) v, options(pure, nomem, nostack, preserves_flags)) };
    v
}

/// As the one of AVX-512: `vpdpwssd`, which the compiler would make a product and a sum of.
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
fn dot_of_pairs(mut acc: __m256i, x: __m256i, w: __m256i) -> __m256i {
    // SAFETY: the instruction reads and writes registers alone.
    unsafe {
        asm!("{{vex}} vpdpwssd {0}, {1}, {2}", inout(ymm_reg) acc, in(ymm_reg) x, in(ymm_reg) w,
            options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

impl Ymm for AvxVnni {
    const CODE: usize = 1;
    type Products = Codes;

    #[inline(always)]
    fn multiply_codes(self, acc: __m256i, x: __m256i, w: __m256i) -> __m256i {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm256_dpbusd_avx_epi32(acc, x, w) }
    }

    #[inline(always)]
    fn multiply_pairs(self, acc: __m256i, x: __m256i, w: __m256i) -> __m256i {
        // SAFETY: `self` proves the instruction.
        unsafe { dot_of_pairs(acc, x, w) }
    }

    #[inline(always)]
    unsafe fn weight_codes(self, from: *const u8) -> __m256i {
        // SAFETY: `self` proves the instruction, the caller the 32 bytes; no alignment is needed.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }
}

impl Bytes for AvxVnni {
    type Move = __m256i;

    #[inline(always)]
    fn moving(self) -> __m256i {
        // SAFETY: `self` proves the instruction.
        unsafe { opaque(_mm256_set1_epi8(-128)) }
    }

    #[inline(always)]
    unsafe fn load_codes(self, moving: __m256i, from: *const u8) -> __m256i {
        // SAFETY: `self` proves the instruction, the caller the four bytes; no alignment is needed.
        unsafe { _mm256_xor_si256(self.load_moved(from), moving) }
    }

    #[inline(always)]
    unsafe fn load_block(self, moving: __m256i, from: *const u8) -> __m256i {
        // SAFETY: `self` proves the instruction, the caller the sixteen bytes; no alignment is needed.
        unsafe { _mm256_xor_si256(self.load_moved_block(from), moving) }
    }

    #[inline(always)]
    unsafe fn load_line(self, from: *const u8) -> __m256i {
        // SAFETY: `self` proves the instruction, the caller the codes; no alignment is needed.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    fn interleave(self, a: __m256i, b: __m256i) -> [__m256i; 2] {
        // SAFETY: `self` proves the instructions.
        unsafe { [_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)] }
    }

    #[inline(always)]
    fn interleave_pairs(self, a: __m256i, b: __m256i) -> [__m256i; 2] {
        // SAFETY: `self` proves the instructions.
        unsafe { [_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b)] }
    }
}
