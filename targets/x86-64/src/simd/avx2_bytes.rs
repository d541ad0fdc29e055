//! int8 products by `vpmaddubsw`, of weights that were [split](crate::split) so that it is exact.
//!
//! Three operations for four codes of eight channels, where 16-bit values take four.

use core::arch::x86_64::*;

use super::Splitting;
use super::ymm::Ymm;
use crate::features::Avx2;
use crate::gemm::SplitCodes;
use crate::split::order::{BLOCK, Order};

/// [`Avx2`], multiplying bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2Bytes(Avx2);

impl Avx2Bytes {
    /// # Safety
    /// As for [`Avx2::assume`].
    pub(crate) const unsafe fn assume() -> Self {
        // SAFETY: the caller's contract.
        Self(unsafe { Avx2::assume() })
    }
}

impl Ymm for Avx2Bytes {
    const CODE: usize = 1;
    type Products = SplitCodes;

    // Sums of two products of split weights stay within 16 bits.
    #[inline(always)]
    fn multiply_codes(self, acc: __m256i, x: __m256i, w: __m256i) -> __m256i {
        // SAFETY: `self` proves the instructions.
        unsafe {
            let pairs = _mm256_maddubs_epi16(x, w);
            _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }

    #[inline(always)]
    unsafe fn weight_codes(self, from: *const u8) -> __m256i {
        // SAFETY: `self` proves the instruction, the caller the 32 bytes; no alignment is needed.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }
}

impl Splitting for Avx2Bytes {
    #[inline(always)]
    unsafe fn load_steps(self, from: *const u8) -> __m256i {
        // SAFETY: `self` proves the instructions, the caller the eight bytes; no alignment is needed.
        unsafe { _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast())) }
    }

    #[inline(always)]
    fn reorder(self, orders: &[Order], len: usize, patches: &mut [u8]) {
        for (block, order) in orders.iter().enumerate() {
            let (from, mirrored) = order.split_at(BLOCK);
            // A byte above 127 gives zero: each half of the codes has those that are taken from it.
            // SAFETY: `self` proves the instructions; an order is two vectors, and no alignment is needed.
            let (low, high, mirrored) = unsafe {
                let from = _mm256_loadu_si256(from.as_ptr().cast());
                let low = _mm256_add_epi8(from, _mm256_set1_epi8(0x70));
                let high = _mm256_sub_epi8(from, _mm256_set1_epi8(16));
                (low, high, _mm256_loadu_si256(mirrored.as_ptr().cast()))
            };
            for patch in patches.chunks_exact_mut(len) {
                let Some(codes) =
                    patch.get_mut(block * BLOCK..).and_then(|codes| codes.first_chunk_mut::<BLOCK>())
                else {
                    return;
                };
                // SAFETY: `self` proves the instructions; a block is a vector, and no alignment is needed.
                unsafe {
                    let lines = _mm256_loadu_si256(codes.as_ptr().cast());
                    let first = _mm256_permute2x128_si256::<0x00>(lines, lines);
                    let last = _mm256_permute2x128_si256::<0x11>(lines, lines);
                    let ordered =
                        _mm256_or_si256(_mm256_shuffle_epi8(first, low), _mm256_shuffle_epi8(last, high));
                    _mm256_storeu_si256(codes.as_mut_ptr().cast(), _mm256_xor_si256(ordered, mirrored));
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn load_chosen(self, from: *const u8, steps: __m256i) -> __m256i {
        // SAFETY: `self` proves the instructions, the caller the 32 bytes; no alignment is needed.
        unsafe { _mm256_permutevar8x32_epi32(_mm256_loadu_si256(from.cast()), steps) }
    }
}
