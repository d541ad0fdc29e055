//! From pre-activation values to outputs, in the reference's arithmetic.

use core::arch::x86_64::*;

use ingraft_kernel::requantize::clamp;
use ingraft_tensor::ROUND_MAGIC;

use crate::avx2::lanes::load_f32;

/// Clamped, rounded codes of `values`.
///
/// # Numerics
/// A sum with the rounding constant holds the rounded integer in its low
/// mantissa bits: the same value as subtracting the constant and converting,
/// for bounds within ±2²², without a saturating conversion.
#[target_feature(enable = "avx2")]
pub(crate) fn codes(values: &[f32], lo: f32, hi: f32, zero_point: i32, out: &mut [i8]) {
    let offset = (zero_point as u32).wrapping_sub(ROUND_MAGIC.to_bits());
    for (o, v) in out.iter_mut().zip(values) {
        *o = (clamp(*v, lo, hi) + ROUND_MAGIC).to_bits().wrapping_add(offset) as i8;
    }
}

/// Whether [`codes`] computes what the reference does with these bounds.
pub(crate) fn rounds(lo: f32, hi: f32) -> bool {
    const LIMIT: f32 = 4_194_304.0;
    -LIMIT <= lo && lo <= hi && hi <= LIMIT
}

/// Clamped `values`.
#[target_feature(enable = "avx2")]
pub(crate) fn clamped(values: &[f32], lo: f32, hi: f32, out: &mut [f32]) {
    for (o, v) in out.iter_mut().zip(values) {
        *o = clamp(*v, lo, hi);
    }
}

/// Writes the straight-through bits of `values` from bit `at` of `mask` on.
#[target_feature(enable = "avx2")]
pub(crate) fn mask(values: &[f32], lo: f32, hi: f32, mask: &mut [u8], at: usize) {
    let (low, high) = (_mm256_set1_ps(lo), _mm256_set1_ps(hi));
    for (i, values) in values.chunks(8).enumerate() {
        let mut padded = [lo; 8];
        padded.iter_mut().zip(values).for_each(|(p, v)| *p = *v);
        let v = load_f32(&padded);
        let inside = _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(v, low), _mm256_cmp_ps::<_CMP_LT_OQ>(v, high));
        merge(mask, at + i * 8, _mm256_movemask_ps(inside) as u8, values.len());
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
