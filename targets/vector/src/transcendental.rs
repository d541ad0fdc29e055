//! Exponentials and what is made of them, a vector at a time.
//!
//! # Numerics
//! `exp` reduces by `n·ln 2` in two parts and takes a polynomial of degree 6 (Cephes, `expf`): within 2 units of the
//! last place over the whole range, 0 below −104 and infinity above 88.8. `erf` is formula 7.1.26 of Abramowitz
//! and Stegun, absolute error below 2·10⁻⁷; `tanh` and the sigmoid keep an absolute error below 2·10⁻⁷.
//! NaN passes.

use crate::Vector;

/// `eˣ`.
#[inline(always)]
pub fn exp<V: Vector>(s: V, x: V::Real) -> V::Real {
    // NaN in the first operand takes the second, so x comes second.
    let bounded = s.min(s.splat(89.0), s.max(s.splat(-104.0), x));
    let n = s.round_real(s.mul(bounded, s.splat(core::f32::consts::LOG2_E)));
    let r = s.mul_add(n, s.splat(-0.693_359_4), bounded);
    let r = s.mul_add(n, s.splat(2.121_944_4e-4), r);
    let mut p = s.splat(1.987_569_1e-4);
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5, 1.0, 1.0] {
        p = s.mul_add(p, r, s.splat(c));
    }
    s.scale(p, n)
}

/// `1 / (1 + e⁻ˣ)`.
#[inline(always)]
pub fn sigmoid<V: Vector>(s: V, x: V::Real) -> V::Real {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp(s, s.sub(s.splat(0.0), x))))
}

/// `1 − 2/(e²ˣ + 1)`.
#[inline(always)]
pub fn tanh<V: Vector>(s: V, x: V::Real) -> V::Real {
    let (one, two) = (s.splat(1.0), s.splat(2.0));
    s.sub(one, s.div(two, s.add(exp(s, s.mul(x, two)), one)))
}

/// The error function.
#[inline(always)]
pub fn erf<V: Vector>(s: V, x: V::Real) -> V::Real {
    let one = s.splat(1.0);
    let size = s.size(x);
    let t = s.div(one, s.mul_add(size, s.splat(0.327_591_1), one));
    let mut p = s.splat(1.061_405_4);
    for c in [-1.453_152, 1.421_413_8, -0.284_496_74, 0.254_829_6] {
        p = s.mul_add(p, t, s.splat(c));
    }
    let tail = s.mul(s.mul(p, t), exp(s, s.sub(s.splat(0.0), s.mul(x, x))));
    s.with_sign(s.sub(one, tail), x)
}
