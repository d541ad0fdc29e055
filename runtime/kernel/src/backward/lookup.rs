//! Gradient of a table: the incoming gradient times the derivative of the
//! function the table was made from, at the dequantized input.

use ingraft_tensor::DType;

use super::{F32, check_output, gradient};
use crate::{Call, Kernel, KernelError, OpCode, Step, check};

/// `dx = dy·table[x + 128]`.
///
/// # Shapes
/// Inputs `dy`, `x` int8 with as many elements, `[256]` f32 table of real output
/// per real input; output with as many elements.
pub const KERNEL: Kernel =
    Kernel::new("lookup_backward_f32_f32__scalar", OpCode::LookupBackward, F32, F32, run).checked(check);

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    check::operands(step, 3, 1)?;
    check_output(step)?;
    check::same_elements(step, 0)?;
    check::same_elements(step, 1)?;
    let table = step.input(2)?;
    let typed = step.input_dtype(1) == Some(DType::I8) && table.dtype == DType::F32;
    check::require(step, typed && table.shape.elements() == 256)
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (dy, x) = (call.slice::<f32>(0)?, call.slice::<i8>(1)?);
    let table: &[f32; 256] = call.slice::<f32>(2)?.try_into().map_err(|_| call.operands())?;
    for ((dx, dy), x) in gradient(call)?.iter_mut().zip(dy).zip(x) {
        *dx += dy * table[(*x as u8 ^ 0x80) as usize];
    }
    Ok(())
}
