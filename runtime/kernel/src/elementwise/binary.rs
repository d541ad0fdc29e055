//! Functions of two operands: arithmetic, comparison, logic.

use ingraft_tensor::DType;
use ingraft_tensor::bytes::Element;

use super::fmod::fmod;
use super::{Pair, check_pair};
use crate::attrs::BinaryAttrs;
use crate::codes::function_codes;
use crate::integer::Integer;
use crate::requantize::clamp;
use crate::{Call, Kernel, KernelError, OpCode, Step, check};

function_codes! {
    /// Arithmetic on f32, i32 and i64; the result has the operands' type.
    ///
    /// Integers wrap on overflow; dividing by zero gives 0. Maximum and minimum
    /// of floats propagate NaN.
    pub enum BinaryFn {
        /// `a + b`.
        Add = 0,
        /// `a − b`.
        Sub = 1,
        /// `a · b`.
        Mul = 2,
        /// `a / b`; integers truncate toward zero.
        Div = 3,
        /// The larger.
        Max = 4,
        /// The smaller.
        Min = 5,
        /// `a` to the power `b`.
        Pow = 6,
        /// Remainder with the sign of `b` (ONNX `Mod`, `fmod = 0`).
        Mod = 7,
        /// Remainder with the sign of `a` (ONNX `Mod`, `fmod = 1`).
        Fmod = 8,
        /// `a` where it is not negative, else `a · b`.
        Prelu = 9,
    }
}

function_codes! {
    /// Comparison of f32, i32, i64 or bool; the result is bool.
    pub enum CompareFn {
        /// `a = b`.
        Equal = 16,
        /// `a < b`.
        Less = 17,
        /// `a ≤ b`.
        LessOrEqual = 18,
        /// `a > b`.
        Greater = 19,
        /// `a ≥ b`.
        GreaterOrEqual = 20,
    }
}

function_codes! {
    /// Logic on bool.
    pub enum LogicFn {
        /// Both.
        And = 24,
        /// At least one.
        Or = 25,
        /// Exactly one.
        Xor = 26,
    }
}

/// f32 arithmetic, clamped to the fused activation.
///
/// # Shapes
/// Two inputs that broadcast to the output.
pub const KERNEL_F32: Kernel =
    Kernel::new("binary_f32_f32_f32__scalar", OpCode::Binary, Some(DType::F32), Some(DType::F32), run_f32)
        .checked(check_f32);

/// i32 arithmetic. Shapes as [`KERNEL_F32`].
pub const KERNEL_I32: Kernel =
    Kernel::new("binary_s32_s32_s32__scalar", OpCode::Binary, Some(DType::I32), Some(DType::I32), run_i32)
        .checked(check_integer);

/// i64 arithmetic. Shapes as [`KERNEL_F32`].
pub const KERNEL_I64: Kernel =
    Kernel::new("binary_s64_s64_s64__scalar", OpCode::Binary, Some(DType::I64), Some(DType::I64), run_i64)
        .checked(check_integer);

/// f32 comparison. Shapes as [`KERNEL_F32`].
pub const KERNEL_COMPARE_F32: Kernel = Kernel::new(
    "binary_f32_f32_bool__scalar",
    OpCode::Binary,
    Some(DType::F32),
    Some(DType::Bool),
    compare_f32,
)
.checked(check_compare);

/// i32 comparison. Shapes as [`KERNEL_F32`].
pub const KERNEL_COMPARE_I32: Kernel = Kernel::new(
    "binary_s32_s32_bool__scalar",
    OpCode::Binary,
    Some(DType::I32),
    Some(DType::Bool),
    compare_i32,
)
.checked(check_compare);

/// i64 comparison. Shapes as [`KERNEL_F32`].
pub const KERNEL_COMPARE_I64: Kernel = Kernel::new(
    "binary_s64_s64_bool__scalar",
    OpCode::Binary,
    Some(DType::I64),
    Some(DType::Bool),
    compare_i64,
)
.checked(check_compare);

/// Comparison of bool, false before true. Shapes as [`KERNEL_F32`].
pub const KERNEL_COMPARE_BOOL: Kernel = Kernel::new(
    "compare_bool_bool_bool__scalar",
    OpCode::Binary,
    Some(DType::Bool),
    Some(DType::Bool),
    compare_bool,
)
.checked(check_compare);

/// Logic. Shapes as [`KERNEL_F32`].
pub const KERNEL_BOOL: Kernel = Kernel::new(
    "logic_bool_bool_bool__scalar",
    OpCode::Binary,
    Some(DType::Bool),
    Some(DType::Bool),
    run_bool,
)
.checked(check_logic);

impl BinaryFn {
    /// The value in f32.
    pub fn eval(self, a: f32, b: f32) -> f32 {
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
            Self::Div => a / b,
            Self::Max => {
                if a > b || a.is_nan() {
                    a
                } else {
                    b
                }
            }
            Self::Min => {
                if a < b || a.is_nan() {
                    a
                } else {
                    b
                }
            }
            Self::Pow => libm::powf(a, b),
            Self::Mod => {
                let rem = fmod(a, b);
                if rem != 0.0 && (rem < 0.0) != (b < 0.0) { rem + b } else { rem }
            }
            Self::Fmod => fmod(a, b),
            Self::Prelu => {
                if a < 0.0 {
                    a * b
                } else {
                    a
                }
            }
        }
    }

    fn eval_integer<T: Integer>(self, a: T, b: T) -> T {
        match self {
            Self::Add => a.add(b),
            Self::Sub => a.sub(b),
            Self::Mul => a.mul(b),
            Self::Div => a.div(b),
            Self::Max => a.max(b),
            Self::Min => a.min(b),
            Self::Pow => a.pow(b),
            Self::Mod => a.floor_rem(b),
            Self::Fmod => a.rem(b),
            Self::Prelu => {
                if a < T::default() {
                    a.mul(b)
                } else {
                    a
                }
            }
        }
    }
}

impl CompareFn {
    /// Whether the relation holds; false for NaN.
    pub fn eval<T: PartialOrd>(self, a: T, b: T) -> bool {
        match self {
            Self::Equal => a == b,
            Self::Less => a < b,
            Self::LessOrEqual => a <= b,
            Self::Greater => a > b,
            Self::GreaterOrEqual => a >= b,
        }
    }
}

impl LogicFn {
    /// The truth value.
    pub fn eval(self, a: bool, b: bool) -> bool {
        match self {
            Self::And => a & b,
            Self::Or => a | b,
            Self::Xor => a ^ b,
        }
    }
}

fn check_f32(step: &Step<'_>) -> Result<(), KernelError> {
    let attrs: &BinaryAttrs = step.attrs()?;
    check::clamp(step, attrs.lo, attrs.hi)?;
    check_integer(step)
}

fn check_integer(step: &Step<'_>) -> Result<(), KernelError> {
    check_function(step, |code| BinaryFn::from_code(code).is_some())
}

fn check_compare(step: &Step<'_>) -> Result<(), KernelError> {
    check_function(step, |code| CompareFn::from_code(code).is_some())
}

fn check_logic(step: &Step<'_>) -> Result<(), KernelError> {
    check_function(step, |code| LogicFn::from_code(code).is_some())
}

fn check_function(step: &Step<'_>, known: fn(u32) -> bool) -> Result<(), KernelError> {
    let attrs: &BinaryAttrs = step.attrs()?;
    check::operands(step, 2, 1)?;
    check::require(step, known(attrs.function))?;
    check_pair(step)
}

fn run_f32(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let attrs: &BinaryAttrs = call.attrs()?;
    let function = BinaryFn::from_code(attrs.function).ok_or(call.operands())?;
    let (pair, shape) = operands::<f32>(call)?;
    let error = call.operands();
    pair.blocks(shape, call.slice_mut(0)?, |_, a, b, out| {
        // The common functions as loops of their own, which vectorize.
        match function {
            BinaryFn::Add => map(a, b, out, |a, b| a + b),
            BinaryFn::Mul => map(a, b, out, |a, b| a * b),
            _ => map(a, b, out, |a, b| function.eval(a, b)),
        }
        // Without a fused activation values pass unchanged, NaN included.
        if attrs.lo > f32::NEG_INFINITY || attrs.hi < f32::INFINITY {
            for y in out {
                *y = clamp(*y, attrs.lo, attrs.hi);
            }
        }
    })
    .ok_or(error)
}

fn run_i32(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    run_integer::<i32>(call)
}

fn run_i64(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    run_integer::<i64>(call)
}

fn run_integer<T: Integer>(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let error = call.operands();
    let function = BinaryFn::from_code(call.attrs::<BinaryAttrs>()?.function).ok_or(error)?;
    let (pair, shape) = operands::<T>(call)?;
    let block = |_, a: &[T], b: &[T], out: &mut [T]| map(a, b, out, |a, b| function.eval_integer(a, b));
    pair.blocks(shape, call.slice_mut(0)?, block).ok_or(error)
}

fn compare_f32(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let pair = operands::<f32>(call)?.0;
    compare(call, pair)
}

fn compare_i32(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let pair = operands::<i32>(call)?.0;
    compare(call, pair)
}

fn compare_i64(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let pair = operands::<i64>(call)?.0;
    compare(call, pair)
}

fn compare_bool(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let pair = bools(call)?;
    compare(call, pair)
}

fn compare<T: Copy + Default + PartialOrd>(
    call: &mut Call<'_, '_>,
    pair: Pair<'_, T>,
) -> Result<(), KernelError> {
    let error = call.operands();
    let function = CompareFn::from_code(call.attrs::<BinaryAttrs>()?.function).ok_or(error)?;
    let out = call.output(0)?;
    let block = |_, a: &[T], b: &[T], out: &mut [u8]| map(a, b, out, |a, b| function.eval(a, b).into());
    pair.blocks(out.shape(), out.bytes(), block).ok_or(error)
}

fn run_bool(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let error = call.operands();
    let function = LogicFn::from_code(call.attrs::<BinaryAttrs>()?.function).ok_or(error)?;
    let pair = bools(call)?;
    let out = call.output(0)?;
    let block = |_, a: &[u8], b: &[u8], out: &mut [u8]| {
        map(a, b, out, |a, b| function.eval(a != 0, b != 0).into());
    };
    pair.blocks(out.shape(), out.bytes(), block).ok_or(error)
}

fn operands<'c, T: Element>(
    call: &mut Call<'c, '_>,
) -> Result<(Pair<'c, T>, ingraft_tensor::Shape), KernelError> {
    let pair =
        Pair { lhs: (call.input(0)?.shape(), call.slice(0)?), rhs: (call.input(1)?.shape(), call.slice(1)?) };
    Ok((pair, call.output(0)?.shape()))
}

fn bools<'c>(call: &Call<'c, '_>) -> Result<Pair<'c, u8>, KernelError> {
    let (lhs, rhs) = (call.input(0)?, call.input(1)?);
    Ok(Pair { lhs: (lhs.shape(), lhs.bytes()), rhs: (rhs.shape(), rhs.bytes()) })
}

fn map<T: Copy, O>(a: &[T], b: &[T], out: &mut [O], f: impl Fn(T, T) -> O) {
    for (y, (&a, &b)) in out.iter_mut().zip(a.iter().zip(b)) {
        *y = f(a, b);
    }
}

#[cfg(test)]
mod tests;
