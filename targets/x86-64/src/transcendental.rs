//! Exponentials and what is made of them, sixteen at a time.
//!
//! # Numerics
//! `exp` reduces by `n·ln 2` in two parts and takes a polynomial of degree 6 (Cephes, `expf`): within 2 units of the
//! last place over the whole range, 0 below −104 and infinity above 88.8. `erf` is formula 7.1.26 of Abramowitz
//! and Stegun, absolute error below 2·10⁻⁷; `tanh` and the sigmoid keep an absolute error below 2·10⁻⁷.
//! NaN passes.

use core::arch::x86_64::*;

/// `eˣ`.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(crate) fn exp(x: __m512) -> __m512 {
    // NaN in the first operand takes the second, so x comes second.
    let bounded = _mm512_min_ps(_mm512_set1_ps(89.0), _mm512_max_ps(_mm512_set1_ps(-104.0), x));
    let n = _mm512_roundscale_ps::<0>(_mm512_mul_ps(bounded, _mm512_set1_ps(core::f32::consts::LOG2_E)));
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693_359_4), bounded);
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.121_944_4e-4), r);
    let mut p = _mm512_set1_ps(1.987_569_1e-4);
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5, 1.0, 1.0] {
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
    }
    _mm512_scalef_ps(p, n)
}

/// `1 / (1 + e⁻ˣ)`.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(crate) fn sigmoid(x: __m512) -> __m512 {
    let one = _mm512_set1_ps(1.0);
    _mm512_div_ps(one, _mm512_add_ps(one, exp(_mm512_sub_ps(_mm512_setzero_ps(), x))))
}

/// `1 − 2/(e²ˣ + 1)`.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(crate) fn tanh(x: __m512) -> __m512 {
    let (one, two) = (_mm512_set1_ps(1.0), _mm512_set1_ps(2.0));
    _mm512_sub_ps(one, _mm512_div_ps(two, _mm512_add_ps(exp(_mm512_mul_ps(x, two)), one)))
}

/// The error function.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(crate) fn erf(x: __m512) -> __m512 {
    let one = _mm512_set1_ps(1.0);
    let size = _mm512_abs_ps(x);
    let t = _mm512_div_ps(one, _mm512_fmadd_ps(size, _mm512_set1_ps(0.327_591_1), one));
    let mut p = _mm512_set1_ps(1.061_405_4);
    for c in [-1.453_152, 1.421_413_8, -0.284_496_74, 0.254_829_6] {
        p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(c));
    }
    let tail =
        _mm512_mul_ps(_mm512_mul_ps(p, t), exp(_mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(x, x))));
    let sign = _mm512_and_ps(x, _mm512_set1_ps(-0.0));
    _mm512_or_ps(_mm512_sub_ps(one, tail), sign)
}
