//! int8 codes as integers, and real values in output steps as codes.

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

/// The codes as integers, in order.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn widen(codes: int8x16_t) -> [int32x4_t; 4] {
    let (low, high) = (vmovl_s8(vget_low_s8(codes)), vmovl_high_s8(codes));
    [vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low), vmovl_s16(vget_low_s16(high)), vmovl_high_s16(high)]
}

/// From real values in output steps to codes.
///
/// # Numerics
/// Clamps, rounds half to even and adds the zero point as the reference does, for bounds that keep the sum within
/// int8: narrowing saturates, but never has to.
#[derive(Clone, Copy)]
pub(crate) struct Rounding {
    lo: float32x4_t,
    hi: float32x4_t,
    zero_point: int16x8_t,
}

impl Rounding {
    #[inline]
    #[target_feature(enable = "neon")]
    pub(crate) fn new(lo: f32, hi: f32, zero_point: i32) -> Self {
        Self { lo: vdupq_n_f32(lo), hi: vdupq_n_f32(hi), zero_point: vdupq_n_s16(zero_point as i16) }
    }

    /// The codes of sixteen values.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(crate) fn codes(&self, values: [float32x4_t; 4]) -> int8x16_t {
        let [a, b, c, d] = values.map(|v| vcvtnq_s32_f32(vminq_f32(vmaxq_f32(v, self.lo), self.hi)));
        let low = vaddq_s16(vqmovn_high_s32(vqmovn_s32(a), b), self.zero_point);
        let high = vaddq_s16(vqmovn_high_s32(vqmovn_s32(c), d), self.zero_point);
        vqmovn_high_s16(vqmovn_s16(low), high)
    }
}
