//! Gradients of the functions of one operand that are made of an exponential.
//!
//! # Numerics
//! `exp`, `erf` and the sigmoid are those of [`crate::transcendental`]: derivatives are within 6·10⁻⁷ of the
//! reference's, those above 1 relatively. Of an infinite operand those of GELU and Swish are their limits, where the
//! reference has NaN; NaN passes, whatever `dy`.
//!
//! # Limit
//! The exponential and a division of each value.

use ingraft_kernel::attrs::UnaryAttrs;
use ingraft_kernel::backward::gradient;
use ingraft_kernel::backward::unary::KERNEL as REFERENCE;
use ingraft_kernel::elementwise::UnaryFn;
use ingraft_kernel::{Call, KernelError, Step};

use super::row::pairs;
use crate::transcendental::{erf, exp, sigmoid};
use crate::{Task, Vector};

/// The functions that are not a compare or two, for which the reference is as fast.
pub(super) fn check(step: &Step<'_>) -> Result<(), KernelError> {
    (REFERENCE.check)(step)?;
    let known = matches!(
        UnaryFn::from_code(step.attrs::<UnaryAttrs>()?.function),
        Some(
            UnaryFn::Sigmoid
                | UnaryFn::Tanh
                | UnaryFn::Exp
                | UnaryFn::Erf
                | UnaryFn::Gelu
                | UnaryFn::GeluTanh
                | UnaryFn::Swish
        )
    );
    known.then_some(()).ok_or(KernelError::Operands(step.op))
}

/// Adds `dy·f'(x)`.
pub(super) fn run<V: Vector>(v: V, call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (error, attrs) = (call.operands(), *call.attrs::<UnaryAttrs>()?);
    let function = UnaryFn::from_code(attrs.function).ok_or(error)?;
    let (dy, x) = (call.slice::<f32>(0)?, call.slice::<f32>(1)?);
    let dx = gradient(call)?;
    v.perform(Gradient { function, alpha: attrs.alpha, dy, x, dx });
    Ok(())
}

/// Every value of a step.
#[derive(Debug)]
struct Gradient<'a, 'o> {
    function: UnaryFn,
    alpha: f32,
    dy: &'a [f32],
    x: &'a [f32],
    dx: &'o mut [f32],
}

impl<V: Vector> Task<V> for Gradient<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run(self, v: V) {
        let Self { function, alpha, dy, x, dx } = self;
        let (len, alpha) = (dx.len().min(dy.len()).min(x.len()), v.splat(alpha));
        // A loop for each function, without a choice in it. A macro, as a closure would not be compiled for the
        // instruction set.
        macro_rules! each {
            ($x:ident => $slope:expr) => {
                pairs!(V, len, |at, lanes, _| {
                    // SAFETY: all three have `lanes` elements from `at` on.
                    unsafe {
                        let $x = v.load_some(x.as_ptr().add(at), lanes);
                        let (dy, dx) = (v.load_some(dy.as_ptr().add(at), lanes), dx.as_mut_ptr().add(at));
                        v.store_some(dx, v.mul_add(dy, $slope, v.load_some(dx, lanes)), lanes);
                    }
                })
            };
        }
        match function {
            UnaryFn::Sigmoid => each!(x => of_sigmoid(v, x)),
            UnaryFn::Tanh => each!(x => tanh_and_slope(v, x)[1]),
            UnaryFn::Exp => each!(x => exp(v, x)),
            UnaryFn::Erf => each!(x => bell(v, core::f32::consts::FRAC_2_SQRT_PI, -1.0, x)),
            UnaryFn::Gelu => each!(x => of_gelu(v, bounded(v, x, 20.0))),
            UnaryFn::GeluTanh => each!(x => of_gelu_tanh(v, bounded(v, x, 20.0))),
            UnaryFn::Swish => each!(x => of_swish(v, bounded(v, v.mul(alpha, x), 120.0))),
            // Refused by the check.
            _ => {}
        }
    }
}

#[inline(always)]
fn of_sigmoid<V: Vector>(v: V, x: V::Real) -> V::Real {
    let s = sigmoid(v, x);
    v.mul(s, v.sub(v.splat(1.0), s))
}

/// Of `x·sigmoid(x)`; with α, of `x·sigmoid(α·x)` at `α·x`.
#[inline(always)]
fn of_swish<V: Vector>(v: V, x: V::Real) -> V::Real {
    let s = sigmoid(v, x);
    v.mul_add(v.mul(x, s), v.sub(v.splat(1.0), s), s)
}

#[inline(always)]
fn of_gelu<V: Vector>(v: V, x: V::Real) -> V::Real {
    let normal = erf(v, v.mul(x, v.splat(core::f32::consts::FRAC_1_SQRT_2)));
    let density = bell(v, 0.398_942_3, -0.5, x);
    v.mul_add(v.splat(0.5), v.add(v.splat(1.0), normal), v.mul(x, density))
}

#[inline(always)]
fn of_gelu_tanh<V: Vector>(v: V, x: V::Real) -> V::Real {
    let (scale, square) = (v.splat(0.797_884_6), v.mul(x, x));
    let [t, less_square] = tanh_and_slope(v, v.mul(scale, v.mul_add(v.mul(v.splat(CUBIC), square), x, x)));
    let slope = v.mul(scale, v.mul_add(v.splat(3.0 * CUBIC), square, v.splat(1.0)));
    let rise = v.mul(v.mul(x, less_square), slope);
    v.mul(v.splat(0.5), v.add(v.add(v.splat(1.0), t), rise))
}

/// `tanh x` and `1 − tanh² x`, both by `e = exp(−2·|x|)`: where the first is nearly 1, nothing is left of a difference.
#[inline(always)]
fn tanh_and_slope<V: Vector>(v: V, x: V::Real) -> [V::Real; 2] {
    let one = v.splat(1.0);
    let e = exp(v, v.mul(v.splat(-2.0), v.size(x)));
    let share = v.div(one, v.add(one, e));
    let size = v.mul(v.sub(one, e), share);
    [v.with_sign(size, x), v.mul(v.mul(v.splat(4.0), e), v.mul(share, share))]
}

/// `peak·exp(width·x²)`.
#[inline(always)]
fn bell<V: Vector>(v: V, peak: f32, width: f32, x: V::Real) -> V::Real {
    v.mul(v.splat(peak), exp(v, v.mul(v.splat(width), v.mul(x, x))))
}

/// `x` within ±`limit`. NaN in the first operand takes the second, so `x` comes second.
#[inline(always)]
fn bounded<V: Vector>(v: V, x: V::Real, limit: f32) -> V::Real {
    v.min(v.splat(limit), v.max(v.splat(-limit), x))
}

const CUBIC: f32 = 0.044_715;
