//! Between real values and int8 codes.
//!
//! Quantize: `code = round(clamp(x / sy, lo, hi)) + zy`. Dequantize:
//! `x = f32(code − zx) · sx`. Requantize is the second followed by the first.

mod dynamic;

pub use dynamic::{KERNEL_DYNAMIC, dynamic_parameters};

use ingraft_tensor::DType;

use crate::attrs::QuantizeAttrs;
use crate::requantize::{passes, set_bit, to_code};
use crate::{Call, Kernel, KernelError, OpCode, Step, check};

/// f32 to int8.
///
/// # Shapes
/// Input f32, output int8 with as many elements; optionally the straight-through mask.
///
/// # Numerics
/// Divides by the scale as `QuantizeLinear` does, clamps, rounds half to even; NaN becomes the zero point.
pub const KERNEL: Kernel =
    Kernel::new("quantize_f32_qs8__scalar", OpCode::Quantize, Some(DType::F32), Some(DType::I8), run)
        .checked(check_quantize);

/// int8 to f32.
///
/// # Shapes
/// Input int8, output f32 with as many elements.
pub const KERNEL_DEQUANTIZE: Kernel =
    Kernel::new("dequantize_qs8_f32__scalar", OpCode::Dequantize, Some(DType::I8), Some(DType::F32), run_i8)
        .checked(check_dequantize);

/// i32 to f32.
///
/// # Shapes
/// Input i32, output f32 with as many elements.
pub const KERNEL_DEQUANTIZE_I32: Kernel = Kernel::new(
    "dequantize_s32_f32__scalar",
    OpCode::Dequantize,
    Some(DType::I32),
    Some(DType::F32),
    run_i32,
)
.checked(check_dequantize);

/// int8 to int8 with other quantization parameters.
///
/// # Shapes
/// Input int8, output int8 with as many elements; optionally the straight-through mask.
///
/// # Numerics
/// Dequantize, then quantize: one multiplication and one division, as in a
/// `DequantizeLinear`, `QuantizeLinear` pair.
pub const KERNEL_REQUANTIZE: Kernel = Kernel::new(
    "requantize_qs8_qs8__scalar",
    OpCode::Requantize,
    Some(DType::I8),
    Some(DType::I8),
    run_requantize,
)
.checked(check_quantize);

fn check_quantize(step: &Step<'_>) -> Result<(), KernelError> {
    let attrs: &QuantizeAttrs = step.attrs()?;
    check::operands_and_mask(step, 1)?;
    check::same_elements(step, 0)?;
    check::scale(step, attrs.in_scale)?;
    check::int8(step, attrs.in_zero_point)?;
    check::scale(step, attrs.out_scale)?;
    check::int8_clamp(step, attrs.lo, attrs.hi, attrs.out_zero_point)
}

fn check_dequantize(step: &Step<'_>) -> Result<(), KernelError> {
    let attrs: &QuantizeAttrs = step.attrs()?;
    check::operands(step, 1, 1)?;
    check::same_elements(step, 0)?;
    check::scale(step, attrs.in_scale)
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    quantize_all(call, |_, x: f32| x)
}

fn run_requantize(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    quantize_all(call, |attrs, code: i8| real(attrs, code as i32))
}

fn run_i8(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (attrs, input) = (call.attrs::<QuantizeAttrs>()?, call.slice::<i8>(0)?);
    for (y, &x) in call.slice_mut::<f32>(0)?.iter_mut().zip(input) {
        *y = real(attrs, x as i32);
    }
    Ok(())
}

fn run_i32(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (attrs, input) = (call.attrs::<QuantizeAttrs>()?, call.slice::<i32>(0)?);
    for (y, &x) in call.slice_mut::<f32>(0)?.iter_mut().zip(input) {
        *y = real(attrs, x);
    }
    Ok(())
}

fn quantize_all<T: ingraft_tensor::bytes::Element>(
    call: &mut Call<'_, '_>,
    real: impl Fn(&QuantizeAttrs, T) -> f32,
) -> Result<(), KernelError> {
    let (attrs, input) = (call.attrs::<QuantizeAttrs>()?, call.slice::<T>(0)?);
    let (out, mask) = call.out_and_mask::<i8>()?;
    let steps = |x: T| real(attrs, x) / attrs.out_scale;
    for (y, &x) in out.iter_mut().zip(input) {
        let v = steps(x);
        let v = if v.is_nan() { 0.0 } else { v };
        *y = to_code(v, attrs.lo, attrs.hi, attrs.out_zero_point);
    }
    if let Some(mask) = mask {
        for (i, &x) in input.iter().enumerate() {
            set_bit(mask, i, passes(steps(x), attrs.lo, attrs.hi));
        }
    }
    Ok(())
}

fn real(attrs: &QuantizeAttrs, code: i32) -> f32 {
    code.wrapping_sub(attrs.in_zero_point) as f32 * attrs.in_scale
}

#[cfg(test)]
mod tests;
