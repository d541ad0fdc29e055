//! From accumulators and pre-activation values to outputs, in the reference's arithmetic.

use core::arch::aarch64::*;

use ingraft_kernel::attrs::QConvAttrs;
use ingraft_kernel::requantize::{clamp, passes};
use ingraft_tensor::ROUND_MAGIC;

use crate::lanes::{load_f32, store_f32, store_i8};
use crate::panel::WIDTH;

/// What turns int32 accumulators into codes without adapter terms.
///
/// # Numerics
/// Rounding is monotonic, so clamping codes between the rounded bounds gives what
/// rounding the clamped value does. The saturating steps on the way only meet
/// values that the clamp replaces.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    zero_point: int16x8_t,
    lo: int8x16_t,
    hi: int8x16_t,
}

impl Limits {
    /// The limits of a row whose bounds lead, rounded and with the zero point, to int8 codes ([`QConvAttrs::fits_codes`]).
    #[inline]
    #[target_feature(enable = "neon")]
    pub(crate) fn new(lo: f32, hi: f32, zero_point: i32) -> Self {
        let code = |v| vdupq_n_s8((rounded(v) + zero_point) as i8);
        Self { zero_point: vdupq_n_s16(zero_point as i16), lo: code(lo), hi: code(hi) }
    }

    /// The limits of a layer.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(crate) fn of(attrs: &QConvAttrs) -> Self {
        Self::new(attrs.lo, attrs.hi, attrs.out_zero_point)
    }

    /// The codes of `4·N` accumulators, N at most four; later lanes are unspecified.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(crate) fn codes<const N: usize>(
        &self,
        acc: &[int32x4_t; N],
        multiplier: &[float32x4_t; N],
    ) -> int8x16_t {
        let mut steps = [vdupq_n_s32(0); 4];
        for ((steps, acc), m) in steps.iter_mut().zip(acc).zip(multiplier) {
            *steps = vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(*acc), *m));
        }
        self.narrow(steps)
    }

    /// The codes of sixteen values in output steps.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(crate) fn rounded(&self, values: &[float32x4_t; 4]) -> int8x16_t {
        self.narrow(values.map(|v| vcvtnq_s32_f32(v)))
    }

    /// The codes of sixteen rounded values in output steps.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(crate) fn narrow(&self, [a, b, c, d]: [int32x4_t; 4]) -> int8x16_t {
        let low = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(a), b), self.zero_point);
        let high = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(c), d), self.zero_point);
        let codes = vqmovn_high_s16(vqmovn_s16(low), high);
        vminq_s8(vmaxq_s8(codes, self.lo), self.hi)
    }

    /// The code of one accumulator.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(crate) fn code(&self, acc: i32, multiplier: f32) -> i8 {
        vgetq_lane_s8::<0>(self.codes(&[vdupq_n_s32(acc)], &[vdupq_n_f32(multiplier)]))
    }
}

fn rounded(v: f32) -> i32 {
    ((v + ROUND_MAGIC) - ROUND_MAGIC) as i32
}

/// Writes the first codes of `values`.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn store(out: &mut [i8], values: int8x16_t) {
    match out.first_chunk_mut() {
        Some(whole) => store_i8(whole, values),
        None => {
            let mut whole = [0; 16];
            store_i8(&mut whole, values);
            out.iter_mut().zip(whole).for_each(|(o, v)| *o = v);
        }
    }
}

/// Clamped, rounded codes of `values`.
///
/// # Numerics
/// A sum with the rounding constant holds the rounded integer in its low
/// mantissa bits: the same value as subtracting the constant and converting.
#[target_feature(enable = "neon")]
pub(crate) fn codes(values: &[f32], attrs: &QConvAttrs, out: &mut [i8]) {
    let offset = (attrs.out_zero_point as u32).wrapping_sub(ROUND_MAGIC.to_bits());
    for (o, v) in out.iter_mut().zip(values) {
        *o = (clamp(*v, attrs.lo, attrs.hi) + ROUND_MAGIC).to_bits().wrapping_add(offset) as i8;
    }
}

/// Clamped `values`.
#[target_feature(enable = "neon")]
pub(crate) fn clamped(values: &[f32], lo: f32, hi: f32, out: &mut [f32]) {
    let ((whole, out), (sixteens, values)) = (out.as_chunks_mut::<WIDTH>(), values.as_chunks::<WIDTH>());
    let (least, most) = (vdupq_n_f32(lo), vdupq_n_f32(hi));
    for (out, values) in whole.iter_mut().zip(sixteens) {
        for (out, v) in out.as_chunks_mut().0.iter_mut().zip(load_f32::<4>(values)) {
            store_f32(out, vminnmq_f32(vmaxnmq_f32(v, least), most));
        }
    }
    for (o, v) in out.iter_mut().zip(values) {
        *o = clamp(*v, lo, hi);
    }
}

/// Writes the straight-through bits of `values` from bit `at` of `mask` on.
#[target_feature(enable = "neon")]
pub(crate) fn mask(values: &[f32], lo: f32, hi: f32, mask: &mut [u8], at: usize) {
    for (i, values) in values.chunks(8).enumerate() {
        let bits = values.iter().enumerate().fold(0, |bits, (i, v)| bits | u8::from(passes(*v, lo, hi)) << i);
        merge(mask, at + i * 8, bits, values.len());
    }
}

/// Replaces `count` bits, at most eight, from bit `at` of `mask` on.
#[inline(always)]
fn merge(mask: &mut [u8], at: usize, bits: u8, count: usize) {
    let field = ((1u16 << count) - 1) << (at % 8);
    let bits = u16::from(bits) << (at % 8);
    let bytes = mask.get_mut(at / 8..).unwrap_or(&mut []);
    for ((byte, field), bits) in bytes.iter_mut().zip(field.to_le_bytes()).zip(bits.to_le_bytes()) {
        *byte = *byte & !field | bits & field;
    }
}

#[cfg(test)]
mod tests {
    use super::merge;

    #[test]
    fn merge_keeps_the_neighbors() {
        let mut mask = [0b1010_1010u8; 3];
        merge(&mut mask, 6, 0b0110_1101, 7);
        assert_eq!(mask, [0b0110_1010, 0b1011_1011, 0b1010_1010]);
        merge(&mut mask, 16, 0xff, 8);
        assert_eq!(mask, [0b0110_1010, 0b1011_1011, 0xff]);
    }
}
