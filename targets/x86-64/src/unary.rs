//! f32 functions of one operand.

use ingraft_kernel::attrs::UnaryAttrs;
use ingraft_kernel::elementwise::{KERNEL_UNARY as REFERENCE, UnaryFn};
use ingraft_kernel::{Call, Kernel, KernelError, Step};

use crate::features::{Avx2, Avx512};
use crate::simd::{Row, Simd, entry};
use ingraft_vector::transcendental::{erf, exp, sigmoid, tanh};

/// The functions that networks run most; others take the reference.
pub(crate) const AVX512: Kernel =
    Kernel { name: "unary_f32_f32__avx512", run: entry::<Avx512, Unary>, ..REFERENCE }.checked(check);

/// As [`AVX512`], on vectors of 256 bits.
pub(crate) const AVX2: Kernel =
    Kernel { name: "unary_f32_f32__avx2", run: entry::<Avx2, Unary>, ..REFERENCE }.checked(check);

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    (REFERENCE.check)(step)?;
    let known = matches!(
        UnaryFn::from_code(step.attrs::<UnaryAttrs>()?.function),
        Some(
            UnaryFn::Clip
                | UnaryFn::Sigmoid
                | UnaryFn::Tanh
                | UnaryFn::Exp
                | UnaryFn::Sqrt
                | UnaryFn::Erf
                | UnaryFn::HardSigmoid
                | UnaryFn::HardSwish
                | UnaryFn::Gelu
                | UnaryFn::GeluTanh
                | UnaryFn::Swish
        )
    );
    known.then_some(()).ok_or(KernelError::Operands(step.op))
}

/// Vectors worked on together, so that one hides what another waits for.
const TOGETHER: usize = 4;

/// Every value of a step.
struct Unary;

impl<S: Simd> Row<S> for Unary {
    #[inline(always)]
    fn run(call: &mut Call<'_, '_>, simd: S) -> Result<(), KernelError> {
        let (attrs, input): (&UnaryAttrs, &[f32]) = (call.attrs()?, call.slice(0)?);
        let function = UnaryFn::from_code(attrs.function).ok_or(call.operands())?;
        let (alpha, beta) = (simd.splat(attrs.alpha), simd.splat(attrs.beta));
        let out = call.slice_mut::<f32>(0)?;
        for (x, out) in input.chunks(TOGETHER * S::LANES).zip(out.chunks_mut(TOGETHER * S::LANES)) {
            let len = x.len().min(out.len());
            let mut values = [simd.splat(0.0); TOGETHER];
            for (v, value) in values.iter_mut().enumerate() {
                let (at, left) = (v * S::LANES, len.saturating_sub(v * S::LANES));
                // SAFETY: only values of the chunk are read.
                *value = unsafe { simd.load_some(x.as_ptr().wrapping_add(at), left.min(S::LANES)) };
            }
            apply(simd, function, [alpha, beta], &mut values);
            for (v, value) in values.into_iter().enumerate() {
                let (at, left) = (v * S::LANES, len.saturating_sub(v * S::LANES));
                // SAFETY: only values of the chunk are written.
                unsafe { simd.store_some(out.as_mut_ptr().wrapping_add(at), value, left.min(S::LANES)) };
            }
        }
        Ok(())
    }
}

/// The function of every value.
#[inline(always)]
fn apply<S: Simd>(s: S, function: UnaryFn, [alpha, beta]: [S::Real; 2], values: &mut [S::Real; TOGETHER]) {
    let (half, one) = (s.splat(0.5), s.splat(1.0));
    match function {
        // NaN in either operand takes the second, so x comes second.
        UnaryFn::Clip => values.iter_mut().for_each(|x| *x = s.min(beta, s.max(alpha, *x))),
        UnaryFn::Sigmoid => values.iter_mut().for_each(|x| *x = sigmoid(s, *x)),
        UnaryFn::Tanh => values.iter_mut().for_each(|x| *x = tanh(s, *x)),
        UnaryFn::Exp => values.iter_mut().for_each(|x| *x = exp(s, *x)),
        UnaryFn::Sqrt => values.iter_mut().for_each(|x| *x = s.sqrt(*x)),
        UnaryFn::Erf => values.iter_mut().for_each(|x| *x = erf(s, *x)),
        UnaryFn::HardSigmoid => values.iter_mut().for_each(|x| *x = unit(s, s.add(s.mul(alpha, *x), beta))),
        UnaryFn::HardSwish => {
            // A product with the nearest to a sixth: a division takes four times as long.
            let sixth = s.splat(1.0 / 6.0);
            values.iter_mut().for_each(|x| *x = s.mul(*x, unit(s, s.mul_add(*x, sixth, half))));
        }
        UnaryFn::Gelu => {
            let scale = s.splat(core::f32::consts::FRAC_1_SQRT_2);
            values.iter_mut().for_each(|x| {
                *x = s.mul(s.mul(half, *x), s.add(one, erf(s, s.mul(*x, scale))));
            });
        }
        UnaryFn::GeluTanh => {
            let (scale, cubic) = (s.splat(0.797_884_6), s.splat(0.044_715));
            values.iter_mut().for_each(|x| {
                let cube = s.mul(s.mul(s.mul(cubic, *x), *x), *x);
                let inner = tanh(s, s.mul(scale, s.add(*x, cube)));
                *x = s.mul(s.mul(half, *x), s.add(one, inner));
            });
        }
        UnaryFn::Swish => values.iter_mut().for_each(|x| *x = s.mul(*x, sigmoid(s, s.mul(alpha, *x)))),
        _ => {}
    }
}

/// `x` limited to 0…1.
#[inline(always)]
fn unit<S: Simd>(s: S, x: S::Real) -> S::Real {
    s.min(s.max(x, s.splat(0.0)), s.splat(1.0))
}
