//! Floating-point remainder.

/// `a − b·trunc(a / b)`, exactly; NaN for an infinite `a` or a zero `b`.
///
/// `libm`'s version leaves panics in the linked code.
pub(super) fn fmod(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() || a.is_infinite() || b == 0.0 {
        return f32::NAN;
    }
    let ((significand, high), (divisor, low)) = (parts(a), parts(b));
    if b.is_infinite() || high < low {
        return a;
    }
    // Long division of the significands, one bit of the quotient at a time; at most 253 of them.
    let mut rest = significand.checked_rem(divisor).unwrap_or(0);
    for _ in low..high {
        rest = rest.wrapping_shl(1);
        rest = if rest >= divisor { rest.wrapping_sub(divisor) } else { rest };
    }
    // Both the exponent's range and the remainder's width make this product exact.
    f32::copysign(scale(rest as f32, low), a)
}

/// Significand and exponent: `|v| = significand · 2^exponent`.
fn parts(v: f32) -> (u32, i32) {
    let bits = v.to_bits();
    let (exponent, fraction) = ((bits >> 23 & 0xff) as i32, bits & 0x7f_ffff);
    match exponent {
        0 => (fraction, -149),
        _ => (fraction | 0x80_0000, exponent.wrapping_sub(150)),
    }
}

/// `v · 2^exponent` for an exponent in −149..=104.
fn scale(v: f32, exponent: i32) -> f32 {
    let power = |e: i32| f32::from_bits((e.wrapping_add(127) as u32) << 23);
    if exponent < -126 { v * power(-126) * power(exponent.wrapping_add(126)) } else { v * power(exponent) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_case::Random;

    #[test]
    fn agrees_with_the_language() {
        let mut random = Random(17);
        for _ in 0..20_000 {
            let [a, b] = [0; 2].map(|_| f32::from_bits(random.word()));
            let (have, want) = (fmod(a, b), a % b);
            assert!(
                have.to_bits() == want.to_bits() || have.is_nan() && want.is_nan(),
                "{a:e} % {b:e}: {have:e}"
            );
            let near = a * 1.5e-3;
            let (have, want) = (fmod(a, near), a % near);
            assert!(have.to_bits() == want.to_bits() || have.is_nan() && want.is_nan(), "{a:e} % {near:e}");
        }
        for (a, b) in [(5.5f32, 2.0f32), (-5.5, 2.0), (1e-45, 3e-45), (6e-45, 4e-45), (0.0, 1.0), (-0.0, 1.0)]
        {
            assert_eq!(fmod(a, b).to_bits(), (a % b).to_bits(), "{a} {b}");
        }
    }
}
