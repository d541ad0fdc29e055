//! Exponential, hyperbolic tangent and error function of four floats at a time.
//!
//! # Numerics
//! Within a few units of the last place of the real value over the whole range;
//! infinities and NaN give what the functions' limits are. Not the bits of
//! `libm`, which the scalar reference uses.

use core::arch::aarch64::*;

/// `c[0] + x·(c[1] + x·(…))`.
#[inline]
#[target_feature(enable = "neon")]
fn polynomial(x: float32x4_t, coefficients: &[f32]) -> float32x4_t {
    let (last, rest) = coefficients.split_last().unwrap_or((&0.0, &[]));
    rest.iter().rev().fold(vdupq_n_f32(*last), |sum, c| vfmaq_f32(vdupq_n_f32(*c), sum, x))
}

/// `exp(x)`.
///
/// # Numerics
/// `x = n·ln 2 + r` with `|r| ≤ ln 2 / 2`; a polynomial of degree seven in r (Cephes `expf`),
/// times two powers of two, so that subnormal and infinite results come out as such.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn exp(x: float32x4_t) -> float32x4_t {
    let x = vminq_f32(vmaxq_f32(x, vdupq_n_f32(-105.0)), vdupq_n_f32(89.0));
    let n = vrndnq_f32(vmulq_f32(x, vdupq_n_f32(core::f32::consts::LOG2_E)));
    let r = vfmsq_f32(vfmsq_f32(x, n, vdupq_n_f32(0.693_359_4)), n, vdupq_n_f32(-2.121_944_4e-4));
    let p =
        polynomial(r, &[0.5, 1.666_666_5e-1, 4.166_579_6e-2, 8.333_452e-3, 1.398_199_9e-3, 1.987_569_1e-4]);
    let y = vaddq_f32(vfmaq_f32(r, p, vmulq_f32(r, r)), vdupq_n_f32(1.0));
    scale(y, vcvtq_s32_f32(n))
}

/// `v·2ⁿ`, in two products, each with a power of two that f32 has.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn scale(v: float32x4_t, n: int32x4_t) -> float32x4_t {
    let half = vshrq_n_s32::<1>(n);
    vmulq_f32(vmulq_f32(v, power_of_two(half)), power_of_two(vsubq_s32(n, half)))
}

/// `2ⁿ` for n within the exponents of normal numbers.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn power_of_two(n: int32x4_t) -> float32x4_t {
    vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(n, vdupq_n_s32(127))))
}

/// `1 / (1 + exp(−x))`.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn sigmoid(x: float32x4_t) -> float32x4_t {
    let one = vdupq_n_f32(1.0);
    vdivq_f32(one, vaddq_f32(one, exp(vnegq_f32(x))))
}

/// `tanh(x)`.
///
/// # Numerics
/// An odd polynomial of degree eleven below 0.625 (Cephes `tanhf`), `1 − 2/(exp(2|x|) + 1)` above.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn tanh(x: float32x4_t) -> float32x4_t {
    let (one, size, square) = (vdupq_n_f32(1.0), vabsq_f32(x), vmulq_f32(x, x));
    let p = polynomial(
        square,
        &[-3.333_328e-1, 1.333_144_2e-1, -5.373_971_6e-2, 2.063_908_8e-2, -5.704_988_7e-3],
    );
    let near = vfmaq_f32(x, vmulq_f32(p, square), x);
    let denominator = vaddq_f32(exp(vaddq_f32(size, size)), one);
    let far = with_sign(vsubq_f32(one, vdivq_f32(vdupq_n_f32(2.0), denominator)), x);
    vbslq_f32(vcltq_f32(size, vdupq_n_f32(0.625)), near, far)
}

/// The error function.
///
/// # Numerics
/// An odd polynomial below 0.921875, `1 − exp(p(|x|))` above, both minimax fits.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn erf(x: float32x4_t) -> float32x4_t {
    let (size, square) = (vabsq_f32(x), vmulq_f32(x, x));
    let p = polynomial(
        square,
        &[1.283_791_7e-1, -3.761_253_4e-1, 1.128_199_25e-1, -2.676_813_5e-2, 4.991_194e-3, -5.967_617e-4],
    );
    let near = vfmaq_f32(x, p, x);
    let p = polynomial(
        size,
        &[
            -1.287_175_1e-1,
            -6.348_467e-1,
            -1.067_778_8e-1,
            2.425_462_2e-2,
            -3.883_964_4e-3,
            3.831_971_3e-4,
            -1.728_534_7e-5,
        ],
    );
    let far = vsubq_f32(vdupq_n_f32(1.0), exp(vfmsq_f32(vmulq_f32(p, size), size, vdupq_n_f32(1.0))));
    // The polynomial of the tail turns round past the values that differ from one.
    let far = vbslq_f32(vcltq_f32(size, vdupq_n_f32(4.0)), far, vdupq_n_f32(1.0));
    let y = vbslq_f32(vcltq_f32(size, vdupq_n_f32(0.921_875)), near, with_sign(far, x));
    vbslq_f32(vceqq_f32(x, x), y, x)
}

/// The magnitude of `magnitude` with the sign of `sign`.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn with_sign(magnitude: float32x4_t, sign: float32x4_t) -> float32x4_t {
    vbslq_f32(vdupq_n_u32(1 << 31), sign, magnitude)
}

/// Writes `function` of every element, four at a time.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn map(input: &[f32], out: &mut [f32], function: impl Fn(float32x4_t) -> float32x4_t) {
    let ((input, rest), (out, out_rest)) = (input.as_chunks::<4>(), out.as_chunks_mut::<4>());
    let apply = |x: &[f32; 4], y: &mut [f32; 4]| {
        // SAFETY: the references cover the 16 bytes read and written.
        unsafe { vst1q_f32(y.as_mut_ptr(), function(vld1q_f32(x.as_ptr()))) }
    };
    input.iter().zip(out).for_each(|(x, y)| apply(x, y));
    let (mut x, mut y) = ([0.0; 4], [0.0; 4]);
    x.iter_mut().zip(rest).for_each(|(x, v)| *x = *v);
    apply(&x, &mut y);
    out_rest.iter_mut().zip(y).for_each(|(o, v)| *o = v);
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use ingraft_kernel::elementwise::UnaryFn;

    /// Against the reference's functions, which are `libm`'s.
    fn worst(function: UnaryFn, ours: fn(float32x4_t) -> float32x4_t) -> f32 {
        let mut worst = 0.0f32;
        for i in -120_000..120_000 {
            let x = i as f32 * 1e-3;
            let mut y = [0.0];
            // SAFETY: tests run where NEON is, as on every processor with an operating system.
            unsafe { map(&[x], &mut y, ours) };
            let want = function.eval(1.0, 0.0, x);
            let error = if y[0] == want { 0.0 } else { (y[0] - want).abs() / want.abs().max(1e-37) };
            worst = worst.max(error);
        }
        worst
    }

    #[test]
    fn functions_are_close_to_their_reference_everywhere() {
        for (name, function, ours) in FUNCTIONS {
            let worst = worst(function, ours);
            assert!(worst < 1e-6, "{name}: {worst}");
        }
    }

    #[test]
    fn limits_and_nan_pass() {
        let inputs = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 0.0];
        for (name, function, ours) in FUNCTIONS {
            let mut have = [0.5; 4];
            // SAFETY: tests run where NEON is, as on every processor with an operating system.
            unsafe { map(&inputs, &mut have, ours) };
            let want = inputs.map(|x| function.eval(1.0, 0.0, x));
            for (have, want) in have.into_iter().zip(want) {
                assert!(have == want || have.is_nan() && want.is_nan(), "{name}: {have} {want}");
            }
        }
    }

    type Function = fn(float32x4_t) -> float32x4_t;

    // SAFETY: tests run where NEON is, as on every processor with an operating system.
    const FUNCTIONS: [(&str, UnaryFn, Function); 4] = unsafe {
        [
            ("exp", UnaryFn::Exp, |x| exp(x)),
            ("sigmoid", UnaryFn::Sigmoid, |x| sigmoid(x)),
            ("tanh", UnaryFn::Tanh, |x| tanh(x)),
            ("erf", UnaryFn::Erf, |x| erf(x)),
        ]
    };
}
