//! int8 products by `vpmaddwd`.
//!
//! `vpmaddubsw` saturates sums of two products, so patches hold codes as 16-bit values, and weights become such where
//! they are loaded: a product and a sum for two codes of eight channels.

use core::arch::x86_64::*;

use ingraft_kernel::{Call, KernelError};

use super::ymm::Ymm;
use super::{Row, Simd, Task};
use crate::features::Avx2;
use crate::gemm::MovedCodes;

#[target_feature(enable = "avx2,fma")]
fn enter<R: Row>(call: &mut Call<'_, '_>, simd: Avx2) -> Result<(), KernelError> {
    R::run(call, simd)
}

#[inline(never)]
#[target_feature(enable = "avx2,fma")]
fn perform<S: Simd, T: Task<S>>(task: T, simd: S) -> T::Output {
    task.run(simd)
}

impl Ymm for Avx2 {
    const CODE: usize = 2;
    type Products = MovedCodes;

    #[inline(always)]
    unsafe fn prove() -> Self {
        // SAFETY: the caller's contract.
        unsafe { Self::assume() }
    }

    #[inline(always)]
    fn enter_row<R: Row>(self, call: &mut Call<'_, '_>) -> Result<(), KernelError> {
        // SAFETY: `self` proves the instructions.
        unsafe { enter::<R>(call, self) }
    }

    #[inline(always)]
    fn perform_task<T: Task<Self>>(self, task: T) -> T::Output {
        // SAFETY: `self` proves the instructions.
        unsafe { perform(task, self) }
    }

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
