//! f32 functions of one operand.

use core::arch::x86_64::*;

use ingraft_kernel::attrs::UnaryAttrs;
use ingraft_kernel::elementwise::{KERNEL_UNARY as REFERENCE, UnaryFn};
use ingraft_kernel::{Call, Kernel, KernelError, Step};

use crate::blocks::{BLOCK, load_reals, map, store_reals};
use crate::transcendental::{erf, exp, sigmoid, tanh};

/// The functions that networks run most; others take the reference.
pub(crate) const AVX512: Kernel = Kernel { name: "unary_f32_f32__avx512", run, ..REFERENCE }.checked(check);

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    (REFERENCE.check)(step)?;
    let known = matches!(
        UnaryFn::from_code(step.attrs::<UnaryAttrs>()?.function),
        Some(
            UnaryFn::Sigmoid
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

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through a target, whose argument proves the instructions.
    unsafe { compute(call) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
fn compute(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (UnaryAttrs { function, alpha, beta }, input) = (*call.attrs()?, call.slice::<f32>(0)?);
    let function = UnaryFn::from_code(function).ok_or(call.operands())?;
    let out = call.slice_mut::<f32>(0)?;
    let (alpha, beta) = (_mm512_set1_ps(alpha), _mm512_set1_ps(beta));
    let (half, one) = (_mm512_set1_ps(0.5), _mm512_set1_ps(1.0));
    match function {
        UnaryFn::Sigmoid => each(input, out, |x| sigmoid(x)),
        UnaryFn::Tanh => each(input, out, |x| tanh(x)),
        UnaryFn::Exp => each(input, out, |x| exp(x)),
        UnaryFn::Sqrt => each(input, out, |x| _mm512_sqrt_ps(x)),
        UnaryFn::Erf => each(input, out, |x| erf(x)),
        UnaryFn::HardSigmoid => each(input, out, |x| unit(_mm512_add_ps(_mm512_mul_ps(alpha, x), beta))),
        UnaryFn::HardSwish => {
            // A product with the nearest to a sixth: a division takes four times as long.
            let sixth = _mm512_set1_ps(1.0 / 6.0);
            each(input, out, |x| _mm512_mul_ps(x, unit(_mm512_fmadd_ps(x, sixth, half))));
        }
        UnaryFn::Gelu => {
            let scale = _mm512_set1_ps(core::f32::consts::FRAC_1_SQRT_2);
            each(input, out, |x| {
                _mm512_mul_ps(_mm512_mul_ps(half, x), _mm512_add_ps(one, erf(_mm512_mul_ps(x, scale))))
            });
        }
        UnaryFn::GeluTanh => {
            let (scale, cubic) = (_mm512_set1_ps(0.797_884_6), _mm512_set1_ps(0.044_715));
            each(input, out, |x| {
                let cube = _mm512_mul_ps(_mm512_mul_ps(_mm512_mul_ps(cubic, x), x), x);
                let inner = tanh(_mm512_mul_ps(scale, _mm512_add_ps(x, cube)));
                _mm512_mul_ps(_mm512_mul_ps(half, x), _mm512_add_ps(one, inner))
            });
        }
        UnaryFn::Swish => each(input, out, |x| _mm512_mul_ps(x, sigmoid(_mm512_mul_ps(alpha, x)))),
        _ => return Err(call.operands()),
    }
    Ok(())
}

/// `x` limited to 0…1.
#[inline]
#[target_feature(enable = "avx512f")]
fn unit(x: __m512) -> __m512 {
    _mm512_min_ps(_mm512_max_ps(x, _mm512_setzero_ps()), _mm512_set1_ps(1.0))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
fn each(input: &[f32], out: &mut [f32], function: impl Fn(__m512) -> __m512) {
    map(input, out, |x: &[f32; BLOCK], out: &mut [f32; BLOCK]| {
        let mut values = load_reals(x);
        for value in &mut values {
            *value = function(*value);
        }
        store_reals(out, values);
    });
}
