//! IEEE 754 binary16, which plans store but never compute in.

/// The value of a binary16, exactly.
pub fn f16_to_f32(bits: u16) -> f32 {
    let sign = (bits as u32 & 0x8000) << 16;
    let (exponent, fraction) = (bits as u32 >> 10 & 0x1f, bits as u32 & 0x3ff);
    let magnitude = match exponent {
        // Zero and subnormals are a whole number of 2⁻²⁴.
        0 => fraction as f32 * TINY,
        0x1f => f32::from_bits(0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(exponent.wrapping_add(112) << 23 | fraction << 13),
    };
    f32::from_bits(magnitude.to_bits() | sign)
}

/// The nearest binary16, ties to even; overflow gives infinity.
pub fn f32_to_f16(value: f32) -> u16 {
    let sign = (value.to_bits() >> 16 & 0x8000) as u16;
    let magnitude = value.to_bits() & 0x7fff_ffff;
    let half = if magnitude > 0x7f80_0000 {
        0x7e00
    } else if magnitude >= OVERFLOW {
        0x7c00
    } else if magnitude < SMALLEST_NORMAL {
        // Adding 1.5·2²³ in units of 2⁻²⁴ leaves the rounded count in the low bits.
        let units = f32::from_bits(magnitude) * (1.0 / TINY) + ingraft_tensor::ROUND_MAGIC;
        (units.to_bits() & 0x7ff) as u16
    } else {
        // Half of the dropped bits' weight, less one unless the kept part is odd.
        let round = 0xfffu32.wrapping_add(magnitude >> 13 & 1);
        (magnitude.wrapping_add(round) >> 13).wrapping_sub(112 << 10) as u16
    };
    half | sign
}

/// 2⁻²⁴, the smallest binary16.
const TINY: f32 = 1.0 / (1 << 24) as f32;
/// 65520: from here on the nearest binary16 is infinity.
const OVERFLOW: u32 = 0x477f_f000;
/// 2⁻¹⁴.
const SMALLEST_NORMAL: u32 = 0x3880_0000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_half_to_even() {
        let cases = [
            (1.0, 0x3c00),
            (-2.0, 0xc000),
            (65504.0, 0x7bff),
            (65519.9, 0x7bff),
            (65520.0, 0x7c00),
            (1.0 + 1.0 / 2048.0, 0x3c00),
            (1.0 + 3.0 / 2048.0, 0x3c02),
            (TINY, 0x0001),
            (TINY * 0.5, 0x0000),
            (TINY * 1.5, 0x0002),
            (TINY * 1023.75, 0x0400),
            (-0.0, 0x8000),
            (f32::NEG_INFINITY, 0xfc00),
        ];
        for (value, bits) in cases {
            assert_eq!(f32_to_f16(value), bits, "{value}");
        }
        assert!(f16_to_f32(f32_to_f16(f32::NAN)).is_nan());
        assert_eq!(f16_to_f32(0x3555), 0.333_251_95);
    }
}
