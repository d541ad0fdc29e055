//! int8 codes as integers.

use core::arch::aarch64::*;

/// Codes of a block: one vector.
pub(crate) const BLOCK: usize = 16;

/// Sixteen codes.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn load(codes: &[i8; BLOCK]) -> int8x16_t {
    // SAFETY: the reference covers the 16 bytes read; the load needs no alignment.
    unsafe { vld1q_s8(codes.as_ptr()) }
}

/// The codes less a zero point as integers, in order.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn centered(codes: int8x16_t, zero: int8x16_t) -> [int32x4_t; 4] {
    let (low, high) = (vsubl_s8(vget_low_s8(codes), vget_low_s8(zero)), vsubl_high_s8(codes, zero));
    [vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low), vmovl_s16(vget_low_s16(high)), vmovl_high_s16(high)]
}
