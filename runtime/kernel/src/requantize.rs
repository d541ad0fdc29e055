//! From accumulators to output codes: the epilogue every integer kernel shares.

use ingraft_tensor::ROUND_MAGIC;

/// Clamps, rounds half to even and adds the zero point.
///
/// # Numerics
/// `v` is in output steps; `lo` and `hi` already intersect the fused activation
/// with the representable range, so the sum with the magic constant has no
/// fraction bits and the result fits the code. NaN cannot occur: scales and
/// factors are finite by construction of the plan and the adapter.
#[inline(always)]
pub fn to_code(v: f32, lo: f32, hi: f32, zero_point: i32) -> i8 {
    let v = clamp(v, lo, hi);
    (((v + ROUND_MAGIC) - ROUND_MAGIC) as i32).wrapping_add(zero_point) as i8
}

/// `v` limited to `lo..=hi`; NaN becomes `lo`, and `hi` wins when they cross.
#[inline(always)]
pub fn clamp(v: f32, lo: f32, hi: f32) -> f32 {
    let v = if v > lo { v } else { lo };
    if v < hi { v } else { hi }
}

/// Whether the straight-through gradient passes: strictly inside the clamp.
#[inline(always)]
pub fn passes(v: f32, lo: f32, hi: f32) -> bool {
    v > lo && v < hi
}

/// Rounds half to even and saturates to int16.
///
/// # Numerics
/// Clamped before the conversion, so the same on every target.
#[inline(always)]
pub fn to_i16(v: f32) -> i16 {
    let v = clamp(v, -32768.0, 32767.0);
    ((v + ROUND_MAGIC) - ROUND_MAGIC) as i32 as i16
}

/// Sets or clears bit `index` of a mask with one bit per element.
#[inline(always)]
pub fn set_bit(mask: &mut [u8], index: usize, value: bool) {
    if let Some(byte) = mask.get_mut(index / 8) {
        let bit = 1u8 << (index % 8);
        *byte = if value { *byte | bit } else { *byte & !bit };
    }
}

/// Bit `index` of a mask; false past the end.
#[inline(always)]
pub fn bit(mask: &[u8], index: usize) -> bool {
    mask.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_half_to_even_after_the_clamp() {
        let code = |v| to_code(v, -120.0, 135.0, -8);
        assert_eq!(code(0.5), -8);
        assert_eq!(code(1.5), -6);
        assert_eq!(code(1e9), 127);
        assert_eq!(code(-1e9), -128);
        assert_eq!(code(f32::NAN), -128);
    }

    #[test]
    fn int16_saturates() {
        assert_eq!(to_i16(40000.0), i16::MAX);
        assert_eq!(to_i16(-40000.0), i16::MIN);
        assert_eq!(to_i16(2.5), 2);
    }

    #[test]
    fn mask_bits() {
        let mut mask = [0u8; 2];
        set_bit(&mut mask, 9, true);
        assert!(bit(&mask, 9) && !bit(&mask, 8) && !bit(&mask, 99));
        set_bit(&mut mask, 9, false);
        assert_eq!(mask, [0, 0]);
    }
}
