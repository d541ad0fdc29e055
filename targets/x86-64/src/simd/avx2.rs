//! int8 products by `vpmaddwd`, of any weights.
//!
//! `vpmaddubsw` saturates sums of two products. Here patches hold codes as 16-bit values, and weights become such where
//! they are loaded: a product and a sum for two codes of eight channels.

use core::arch::x86_64::*;

use super::ymm::Ymm;
use crate::features::Avx2;
use crate::gemm::MovedCodes;

impl Ymm for Avx2 {
    const CODE: usize = 2;
    type Products = MovedCodes;

    // A product of a code of 0…255 with an int8 stays within 2¹⁵, the sum of two within i32.
    #[inline(always)]
    fn multiply_codes(self, acc: __m256i, x: __m256i, w: __m256i) -> __m256i {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm256_add_epi32(acc, _mm256_madd_epi16(x, w)) }
    }

    #[inline(always)]
    unsafe fn weight_codes(self, from: *const u8) -> __m256i {
        // SAFETY: `self` proves the instructions, the caller the sixteen bytes; no alignment is needed.
        unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(from.cast())) }
    }
}
