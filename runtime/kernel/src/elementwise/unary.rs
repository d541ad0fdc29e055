//! Functions of one operand.

use ingraft_tensor::DType;

use crate::attrs::UnaryAttrs;
use crate::codes::function_codes;
use crate::requantize::clamp;
use crate::{Call, Kernel, KernelError, OpCode, Step, check};

function_codes! {
    /// A function of one f32. `α` and `β` are the record's parameters.
    pub enum UnaryFn {
        /// `min(max(x, α), β)`; Relu is α = 0, β = ∞.
        Clip = 0,
        /// `1 / (1 + exp(−x))`.
        Sigmoid = 1,
        /// Hyperbolic tangent.
        Tanh = 2,
        /// Exponential.
        Exp = 3,
        /// Natural logarithm.
        Log = 4,
        /// Square root.
        Sqrt = 5,
        /// Error function.
        Erf = 6,
        /// Absolute value.
        Abs = 7,
        /// `−x`.
        Neg = 8,
        /// `1 / x`.
        Reciprocal = 9,
        /// Largest integer not above.
        Floor = 10,
        /// Smallest integer not below.
        Ceil = 11,
        /// Nearest integer, ties to even.
        Round = 12,
        /// −1, 0 or 1.
        Sign = 13,
        /// Sine.
        Sin = 14,
        /// Cosine.
        Cos = 15,
        /// `min(max(α·x + β, 0), 1)`.
        HardSigmoid = 16,
        /// `x · min(max(x/6 + 1/2, 0), 1)`.
        HardSwish = 17,
        /// `x` where it is not negative, else `α·x`.
        LeakyRelu = 18,
        /// `x` where it is not negative, else `α·(exp(x) − 1)`.
        Elu = 19,
        /// `β·x` where x is positive, else `β·α·(exp(x) − 1)`.
        Selu = 20,
        /// `x/2 · (1 + erf(x/√2))`.
        Gelu = 21,
        /// `x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³)))`.
        GeluTanh = 22,
        /// `x · tanh(ln(1 + exp(x)))`.
        Mish = 23,
        /// `ln(1 + exp(x))`.
        Softplus = 24,
        /// `x / (1 + |x|)`.
        Softsign = 25,
        /// `max(0, x) + min(0, α·(exp(x/α) − 1))`.
        Celu = 26,
        /// `x` above α, else 0.
        ThresholdedRelu = 27,
        /// `x · sigmoid(α·x)`.
        Swish = 28,
    }
}

/// f32 functions.
///
/// # Shapes
/// Input and output with as many elements.
///
/// # Numerics
/// Transcendental functions are `libm`'s, the same bits on every target that inherits this row.
pub const KERNEL_UNARY: Kernel =
    Kernel::new("unary_f32_f32__scalar", OpCode::Unary, Some(DType::F32), Some(DType::F32), run)
        .checked(check);

/// Logical negation of bool; the record's function is not read.
pub const KERNEL_NOT: Kernel =
    Kernel::new("not_bool_bool__scalar", OpCode::Unary, Some(DType::Bool), Some(DType::Bool), run_not)
        .checked(check_not);

impl UnaryFn {
    /// The value at `x`.
    pub fn eval(self, alpha: f32, beta: f32, x: f32) -> f32 {
        match self {
            Self::Clip => clip(x, alpha, beta),
            Self::Sigmoid => sigmoid(x),
            Self::Tanh => libm::tanhf(x),
            Self::Exp => libm::expf(x),
            Self::Log => libm::logf(x),
            Self::Sqrt => libm::sqrtf(x),
            Self::Erf => libm::erff(x),
            Self::Abs => libm::fabsf(x),
            Self::Neg => -x,
            Self::Reciprocal => 1.0 / x,
            Self::Floor => libm::floorf(x),
            Self::Ceil => libm::ceilf(x),
            Self::Round => libm::rintf(x),
            Self::Sign if x > 0.0 => 1.0,
            Self::Sign if x < 0.0 => -1.0,
            Self::Sign => x * 0.0,
            Self::Sin => libm::sinf(x),
            Self::Cos => libm::cosf(x),
            Self::HardSigmoid => clamp(alpha * x + beta, 0.0, 1.0),
            Self::HardSwish => x * clamp(x / 6.0 + 0.5, 0.0, 1.0),
            Self::LeakyRelu => {
                if x < 0.0 {
                    alpha * x
                } else {
                    x
                }
            }
            Self::Elu => {
                if x < 0.0 {
                    alpha * libm::expm1f(x)
                } else {
                    x
                }
            }
            Self::Selu => beta * if x > 0.0 { x } else { alpha * libm::expm1f(x) },
            Self::Gelu => 0.5 * x * (1.0 + libm::erff(x * core::f32::consts::FRAC_1_SQRT_2)),
            Self::GeluTanh => 0.5 * x * (1.0 + libm::tanhf(SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x))),
            Self::Mish => x * libm::tanhf(softplus(x)),
            Self::Softplus => softplus(x),
            Self::Softsign => x / (1.0 + libm::fabsf(x)),
            Self::Celu => {
                if x > 0.0 {
                    x
                } else {
                    alpha * libm::expm1f(x / alpha)
                }
            }
            Self::ThresholdedRelu => {
                if x > alpha {
                    x
                } else {
                    0.0
                }
            }
            Self::Swish => x * sigmoid(alpha * x),
        }
    }
}

/// `1 / (1 + exp(−x))`.
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + libm::expf(-x))
}

/// Written so that exp never overflows.
fn softplus(x: f32) -> f32 {
    (if x > 0.0 { x } else { 0.0 }) + libm::log1pf(libm::expf(-libm::fabsf(x)))
}

/// Clamps but lets NaN pass, as `Clip` and `Relu` do.
fn clip(x: f32, lo: f32, hi: f32) -> f32 {
    let x = if x < lo { lo } else { x };
    if x > hi { hi } else { x }
}

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    let attrs: &UnaryAttrs = step.attrs()?;
    check::operands(step, 1, 1)?;
    check::same_elements(step, 0)?;
    check::require(step, UnaryFn::from_code(attrs.function).is_some())
}

fn check_not(step: &Step<'_>) -> Result<(), KernelError> {
    check::operands(step, 1, 1)?;
    check::same_elements(step, 0)
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let UnaryAttrs { function, alpha, beta } = *call.attrs()?;
    let function = UnaryFn::from_code(function).ok_or(call.operands())?;
    let input = call.slice::<f32>(0)?;
    let pairs = call.slice_mut::<f32>(0)?.iter_mut().zip(input);
    match function {
        // The one that every float convolution net runs, as a loop that vectorizes.
        UnaryFn::Clip => pairs.for_each(|(y, &x)| *y = clip(x, alpha, beta)),
        _ => pairs.for_each(|(y, &x)| *y = function.eval(alpha, beta, x)),
    }
    Ok(())
}

fn run_not(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let input = call.input(0)?;
    for (y, &x) in call.output(0)?.bytes().iter_mut().zip(input.bytes()) {
        *y = u8::from(x == 0);
    }
    Ok(())
}

const SQRT_2_OVER_PI: f32 = 0.797_884_6;

#[cfg(test)]
mod tests;
