//! Unary f32 functions that a compiler does not vectorize by itself.
//!
//! # Numerics
//! Those of [`crate::math`]: within a few units of the last place of the reference.

use core::arch::aarch64::*;

use ingraft_kernel::attrs::UnaryAttrs;
use ingraft_kernel::elementwise::{KERNEL_UNARY as REFERENCE, UnaryFn};
use ingraft_kernel::{Call, Kernel, KernelError, OpCode, Step};
use ingraft_tensor::DType;

use crate::math::{erf, exp, map, sigmoid, tanh};

/// The functions that [`compute`] knows; others are the reference's.
pub(crate) const KERNEL: Kernel =
    Kernel::new("unary_f32_f32__neon", OpCode::Unary, Some(DType::F32), Some(DType::F32), run).checked(check);

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    (REFERENCE.check)(step)?;
    let attrs: &UnaryAttrs = step.attrs()?;
    let known = UnaryFn::from_code(attrs.function).is_some_and(|function| {
        use UnaryFn::{Erf, Exp, Gelu, GeluTanh, HardSigmoid, HardSwish, Sigmoid, Swish, Tanh};
        matches!(function, Exp | Sigmoid | Tanh | Erf | Gelu | GeluTanh | Swish | HardSigmoid | HardSwish)
    });
    if known { Ok(()) } else { Err(KernelError::Operands(step.op)) }
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through functions whose arguments prove NEON.
    unsafe { compute(call) }
}

#[target_feature(enable = "neon")]
fn compute(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let error = call.operands();
    let UnaryAttrs { function, alpha, beta } = *call.attrs()?;
    let input = call.slice::<f32>(0)?;
    let out = call.slice_mut::<f32>(0)?;
    let (one, half) = (vdupq_n_f32(1.0), vdupq_n_f32(0.5));
    let unit = |x| vminq_f32(vmaxnmq_f32(x, vdupq_n_f32(0.0)), one);
    match UnaryFn::from_code(function).ok_or(error)? {
        UnaryFn::Exp => map(input, out, |x| exp(x)),
        UnaryFn::Sigmoid => map(input, out, |x| sigmoid(x)),
        UnaryFn::Tanh => map(input, out, |x| tanh(x)),
        UnaryFn::Erf => map(input, out, |x| erf(x)),
        UnaryFn::Swish => map(input, out, |x| vmulq_f32(x, sigmoid(vmulq_n_f32(x, alpha)))),
        UnaryFn::Gelu => map(input, out, |x| {
            let inner = erf(vmulq_n_f32(x, core::f32::consts::FRAC_1_SQRT_2));
            vmulq_f32(vmulq_f32(half, x), vaddq_f32(one, inner))
        }),
        UnaryFn::GeluTanh => map(input, out, |x| {
            let cube = vmulq_f32(vmulq_f32(vmulq_n_f32(x, 0.044_715), x), x);
            let inner = tanh(vmulq_n_f32(vaddq_f32(x, cube), SQRT_2_OVER_PI));
            vmulq_f32(vmulq_f32(half, x), vaddq_f32(one, inner))
        }),
        UnaryFn::HardSigmoid => {
            map(input, out, |x| unit(vaddq_f32(vmulq_n_f32(x, alpha), vdupq_n_f32(beta))));
        }
        UnaryFn::HardSwish => {
            map(input, out, |x| vmulq_f32(x, unit(vaddq_f32(vdivq_f32(x, vdupq_n_f32(6.0)), half))));
        }
        _ => return Err(error),
    }
    Ok(())
}

const SQRT_2_OVER_PI: f32 = 0.797_884_6;
