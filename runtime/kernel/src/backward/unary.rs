//! Gradient of the functions of one operand.

use ingraft_tensor::DType;

use super::{F32, check_output, gradient};
use crate::attrs::UnaryAttrs;
use crate::elementwise::{UnaryFn, sigmoid};
use crate::requantize::passes;
use crate::{Call, Kernel, KernelError, OpCode, Step, check};

/// `dx = dy·f'(x)`.
///
/// # Shapes
/// Inputs `dy` and `x` f32, output f32, all with as many elements; the
/// attributes are those of the forward step.
///
/// # Numerics
/// Transcendental functions are `libm`'s. Where `dy` is 0, so is `dx`, even where
/// the derivative is infinite: behind a clip, a square root of 0 must not make NaN.
pub const KERNEL: Kernel =
    Kernel::new("unary_backward_f32_f32__scalar", OpCode::UnaryBackward, F32, F32, run).checked(check);

/// The derivative of `function` at `x`.
///
/// # Numerics
/// Where a function clips, 0 at the bound itself: the gradient passes strictly
/// inside. Steps (floor, round, sign…) have derivative 0.
pub fn derivative(function: UnaryFn, alpha: f32, beta: f32, x: f32) -> f32 {
    match function {
        UnaryFn::Clip => unit(passes(x, alpha, beta)),
        UnaryFn::Sigmoid | UnaryFn::Softplus | UnaryFn::Swish | UnaryFn::Mish => logistic(function, alpha, x),
        UnaryFn::Tanh => 1.0 - square(libm::tanhf(x)),
        UnaryFn::Exp => libm::expf(x),
        UnaryFn::Log => 1.0 / x,
        UnaryFn::Sqrt => 0.5 / libm::sqrtf(x),
        UnaryFn::Erf => core::f32::consts::FRAC_2_SQRT_PI * libm::expf(-x * x),
        UnaryFn::Abs => unit(x > 0.0) - unit(x < 0.0),
        UnaryFn::Neg => -1.0,
        UnaryFn::Reciprocal => -1.0 / square(x),
        UnaryFn::Floor | UnaryFn::Ceil | UnaryFn::Round | UnaryFn::Sign => 0.0,
        UnaryFn::Sin => libm::cosf(x),
        UnaryFn::Cos => -libm::sinf(x),
        UnaryFn::Gelu => {
            let normal = libm::erff(x * core::f32::consts::FRAC_1_SQRT_2);
            0.5 * (1.0 + normal) + x * INV_SQRT_TAU * libm::expf(-0.5 * x * x)
        }
        UnaryFn::GeluTanh => {
            let t = libm::tanhf(SQRT_2_OVER_PI * (x + CUBIC * x * x * x));
            let slope = SQRT_2_OVER_PI * (1.0 + 3.0 * CUBIC * x * x);
            0.5 * (1.0 + t) + 0.5 * x * (1.0 - square(t)) * slope
        }
        UnaryFn::Softsign => 1.0 / square(1.0 + libm::fabsf(x)),
        UnaryFn::HardSigmoid
        | UnaryFn::HardSwish
        | UnaryFn::LeakyRelu
        | UnaryFn::Elu
        | UnaryFn::Selu
        | UnaryFn::Celu
        | UnaryFn::ThresholdedRelu => piecewise(function, alpha, beta, x),
    }
}

/// Functions made of the logistic function.
fn logistic(function: UnaryFn, alpha: f32, x: f32) -> f32 {
    let s = sigmoid(x);
    match function {
        UnaryFn::Sigmoid => s * (1.0 - s),
        UnaryFn::Swish => {
            let s = sigmoid(alpha * x);
            s + alpha * x * s * (1.0 - s)
        }
        UnaryFn::Mish => {
            let t = libm::tanhf(UnaryFn::Softplus.eval(0.0, 0.0, x));
            t + x * (1.0 - square(t)) * s
        }
        _ => s,
    }
}

/// Functions with a different formula on either side of a threshold.
fn piecewise(function: UnaryFn, alpha: f32, beta: f32, x: f32) -> f32 {
    match function {
        UnaryFn::HardSigmoid => alpha * unit(passes(alpha * x + beta, 0.0, 1.0)),
        UnaryFn::HardSwish if x <= -3.0 => 0.0,
        UnaryFn::HardSwish if x < 3.0 => x / 3.0 + 0.5,
        UnaryFn::LeakyRelu if x < 0.0 => alpha,
        UnaryFn::Elu if x < 0.0 => alpha * libm::expf(x),
        UnaryFn::Selu if x > 0.0 => beta,
        UnaryFn::Selu => beta * alpha * libm::expf(x),
        UnaryFn::Celu if x <= 0.0 => libm::expf(x / alpha),
        UnaryFn::ThresholdedRelu => unit(x > alpha),
        _ => 1.0,
    }
}

fn unit(condition: bool) -> f32 {
    if condition { 1.0 } else { 0.0 }
}

fn square(x: f32) -> f32 {
    x * x
}

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    let attrs: &UnaryAttrs = step.attrs()?;
    check::operands(step, 2, 1)?;
    check_output(step)?;
    check::same_elements(step, 0)?;
    check::same_elements(step, 1)?;
    let known = UnaryFn::from_code(attrs.function).is_some();
    check::require(step, known && step.input_dtype(1) == Some(DType::F32))
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let UnaryAttrs { function, alpha, beta } = *call.attrs()?;
    let function = UnaryFn::from_code(function).ok_or(call.operands())?;
    let (dy, x) = (call.slice::<f32>(0)?, call.slice::<f32>(1)?);
    let pairs = gradient(call)?.iter_mut().zip(dy.iter().zip(x));
    match function {
        // The one that every float convolution net runs, as a loop that vectorizes.
        UnaryFn::Clip => {
            pairs.for_each(|(dx, (dy, x))| *dx += if passes(*x, alpha, beta) { *dy } else { 0.0 });
        }
        _ => pairs
            .filter(|(_, (dy, _))| **dy != 0.0)
            .for_each(|(dx, (dy, x))| *dx += dy * derivative(function, alpha, beta, *x)),
    }
    Ok(())
}

const SQRT_2_OVER_PI: f32 = 0.797_884_6;
const INV_SQRT_TAU: f32 = 0.398_942_3;
const CUBIC: f32 = 0.044_715;
