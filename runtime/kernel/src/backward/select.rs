//! Gradient of an elementwise choice, with respect to one of the two chosen from.

use ingraft_tensor::DType;

use super::{F32, check_output, gradient};
use crate::attrs::WhereBackwardAttrs;
use crate::walk::Walk;
use crate::{Call, Kernel, KernelError, OpCode, Step, check};

/// `dx = Σ dy` where the operand was chosen, summed over the axes along which it was broadcast.
///
/// # Shapes
/// Inputs `dy` f32 and the bool condition, which broadcasts to it; output of the wanted operand's shape, which does too.
pub const KERNEL: Kernel =
    Kernel::new("where_backward_f32_f32__scalar", OpCode::WhereBackward, F32, F32, run).checked(check);

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    let attrs: &WhereBackwardAttrs = step.attrs()?;
    check::operands(step, 2, 1)?;
    check_output(step)?;
    let (dy, condition) = (step.input(0)?, step.input(1)?);
    let walk = Walk::broadcast(dy.shape, [condition.shape, step.output(0)?.shape]);
    check::require(step, attrs.operand <= 1 && condition.dtype == DType::Bool && walk.is_some())
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (error, attrs) = (call.operands(), *call.attrs::<WhereBackwardAttrs>()?);
    let (dy, condition) = (call.slice::<f32>(0)?, call.input(1)?);
    let shapes = [condition.shape(), call.output(0)?.shape()];
    let walk = Walk::broadcast(call.input(0)?.shape(), shapes).ok_or(error)?;
    let condition = condition.bytes();
    let dx = gradient(call)?;
    let mut add = |dy: f32, flag: usize, at: usize| {
        let chosen = (*condition.get(flag)? != 0) == (attrs.operand == 0);
        let dx = dx.get_mut(at)?;
        *dx += if chosen { dy } else { 0.0 };
        Some(())
    };
    let mut pairs = dy.iter().zip(walk.elements());
    pairs.try_for_each(|(dy, [flag, at])| add(*dy, flag, at)).ok_or(error)
}
