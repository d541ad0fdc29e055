//! Quantization parameters.

/// Affine quantization of one tensor: `real = scale * (code - zero_point)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QParams {
    /// Real value of one code step; finite, in 2⁻⁶⁰…2⁶⁰.
    pub scale: f32,
    /// The code of real zero, in the stored (signed) representation.
    pub zero_point: i32,
}

impl QParams {
    /// Parameters with a usable scale and an int8 zero point, or `None`.
    pub fn new(scale: f32, zero_point: i32) -> Option<Self> {
        let in_range = (SCALE_MIN..=SCALE_MAX).contains(&scale);
        (in_range && (-128..=127).contains(&zero_point)).then_some(Self { scale, zero_point })
    }

    /// The real value of `code`.
    pub fn dequantize(self, code: i8) -> f32 {
        (code as i32 - self.zero_point) as f32 * self.scale
    }

    /// The code nearest to `real` (ties to even, saturating, NaN to the zero point).
    pub fn quantize(self, real: f32) -> i8 {
        let lo = (-128 - self.zero_point) as f32;
        let hi = (127 - self.zero_point) as f32;
        let v = real / self.scale;
        if v.is_nan() {
            return self.zero_point as i8;
        }
        let v = v.clamp(lo, hi);
        (round_half_even(v) + self.zero_point) as i8
    }
}

/// Rounds to the nearest integer, ties to even, for |v| ≤ 2²².
///
/// # Numerics
/// Adds and subtracts 1.5·2²³, so no rounding instruction is needed and every
/// target gives the same bits. The caller clamps first.
pub fn round_half_even(v: f32) -> i32 {
    ((v + ROUND_MAGIC) - ROUND_MAGIC) as i32
}

/// 1.5·2²³: at this magnitude a float has no fraction bits left.
pub const ROUND_MAGIC: f32 = 12_582_912.0;

/// Smallest scale accepted from a file.
pub const SCALE_MIN: f32 = 8.673_617_4e-19;
/// Largest scale accepted from a file.
pub const SCALE_MAX: f32 = 1.152_921_5e18;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_even() {
        let cases = [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (-2.5, -2), (126.5, 126)];
        for (v, want) in cases {
            assert_eq!(round_half_even(v), want, "{v}");
        }
    }

    #[test]
    fn quantize_saturates_and_maps_nan_to_zero_point() {
        let q = QParams::new(0.5, 3).unwrap();
        assert_eq!(q.quantize(f32::NAN), 3);
        assert_eq!(q.quantize(f32::INFINITY), 127);
        assert_eq!(q.quantize(f32::NEG_INFINITY), -128);
        assert_eq!(q.quantize(0.25), 3);
        assert_eq!(q.quantize(0.75), 5);
        for code in i8::MIN..=i8::MAX {
            assert_eq!(q.quantize(q.dequantize(code)), code);
        }
    }

    #[test]
    fn refuses_unusable_parameters() {
        for (scale, zero_point) in
            [(0.0, 0), (-1.0, 0), (f32::NAN, 0), (f32::INFINITY, 0), (1e-30, 0), (1.0, 128)]
        {
            assert!(QParams::new(scale, zero_point).is_none(), "{scale} {zero_point}");
        }
    }
}
