//! int8 addition and multiplication.
//!
//! Add: `v = f32(a−za)·ka + f32(b−zb)·kb`. Multiply: `v = f32((a−za)·(b−zb))·ka`.
//! Then `y = round(clamp(v, lo, hi)) + zy`.

use ingraft_tensor::DType;

use super::{Pair, check_pair};
use crate::attrs::QBinaryAttrs;
use crate::requantize::{passes, set_bit, to_code};
use crate::{Call, Kernel, KernelError, OpCode, Step, check};

/// int8 addition of two tensors with their own scales.
///
/// # Shapes
/// Two int8 inputs that broadcast to the int8 output; optionally a second
/// output with the straight-through mask.
///
/// # Numerics
/// Two multiplications and one addition in f32, not contracted.
pub const KERNEL_ADD_Q: Kernel =
    Kernel::new("add_qs8_qs8_qs8__scalar", OpCode::QAdd, Some(DType::I8), Some(DType::I8), run_add)
        .checked(check);

/// int8 multiplication.
///
/// # Shapes
/// As [`KERNEL_ADD_Q`].
///
/// # Numerics
/// An exact i32 product, then one multiplication in f32.
pub const KERNEL_MUL_Q: Kernel =
    Kernel::new("mul_qs8_qs8_qs8__scalar", OpCode::QMul, Some(DType::I8), Some(DType::I8), run_mul)
        .checked(check);

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    let attrs: &QBinaryAttrs = step.attrs()?;
    check::operands_and_mask(step, 2)?;
    check_pair(step)?;
    let [za, zb] = attrs.zero_points;
    let [ka, kb] = attrs.factors;
    check::int8(step, za)?;
    check::int8(step, zb)?;
    check::int8_clamp(step, attrs.lo, attrs.hi, attrs.out_zero_point)?;
    check::factor(step, ka)?;
    check::require(step, kb >= 0.0 && kb.is_finite())
}

fn run_add(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let attrs: &QBinaryAttrs = call.attrs()?;
    let ([za, zb], [ka, kb]) = (attrs.zero_points, attrs.factors);
    binary(call, attrs, |a, b| a.wrapping_sub(za) as f32 * ka + b.wrapping_sub(zb) as f32 * kb)
}

fn run_mul(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let attrs: &QBinaryAttrs = call.attrs()?;
    let ([za, zb], [ka, _]) = (attrs.zero_points, attrs.factors);
    binary(call, attrs, |a, b| a.wrapping_sub(za).wrapping_mul(b.wrapping_sub(zb)) as f32 * ka)
}

/// Writes `value` of each pair of codes, in output steps, as a code.
fn binary(
    call: &mut Call<'_, '_>,
    attrs: &QBinaryAttrs,
    value: impl Fn(i32, i32) -> f32,
) -> Result<(), KernelError> {
    let error = call.operands();
    let pair = Pair {
        lhs: (call.input(0)?.shape(), call.slice::<i8>(0)?),
        rhs: (call.input(1)?.shape(), call.slice::<i8>(1)?),
    };
    let shape = call.output(0)?.shape();
    let (out, mut mask) = call.out_and_mask::<i8>()?;
    pair.blocks(shape, out, |start, a, b, out| {
        let values = a.iter().zip(b).map(|(&a, &b)| value(a as i32, b as i32));
        for (y, v) in out.iter_mut().zip(values.clone()) {
            *y = to_code(v, attrs.lo, attrs.hi, attrs.out_zero_point);
        }
        if let Some(mask) = &mut mask {
            for (i, v) in (start..).zip(values) {
                set_bit(mask, i, passes(v, attrs.lo, attrs.hi));
            }
        }
    })
    .ok_or(error)
}

#[cfg(test)]
mod tests;
