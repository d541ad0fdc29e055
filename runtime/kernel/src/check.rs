//! Conditions that kernels require of a step at bind.

use ingraft_tensor::{DType, QParams};

use crate::{KernelError, Step};

/// [`KernelError::Operands`] unless `condition` holds.
pub(crate) fn require(step: &Step<'_>, condition: bool) -> Result<(), KernelError> {
    if condition { Ok(()) } else { Err(KernelError::Operands(step.op)) }
}

/// `inputs` inputs and `outputs` outputs, exactly.
pub(crate) fn operands(step: &Step<'_>, inputs: usize, outputs: usize) -> Result<(), KernelError> {
    require(step, step.inputs().len() == inputs && step.outputs().len() == outputs)
}

/// `inputs` inputs, one output and, optionally, a mask with one bit for each of its elements.
pub(crate) fn operands_and_mask(step: &Step<'_>, inputs: usize) -> Result<(), KernelError> {
    let bytes = step.output(0)?.shape.elements().div_ceil(8);
    let mask = match step.outputs() {
        [_] => true,
        [_, mask] => mask.dtype == DType::U8 && mask.shape.elements() == bytes,
        _ => false,
    };
    require(step, mask && step.inputs().len() == inputs)
}

/// Input `index` and output 0 have the same number of elements.
pub(crate) fn same_elements(step: &Step<'_>, index: usize) -> Result<(), KernelError> {
    require(step, step.input(index)?.shape.elements() == step.output(0)?.shape.elements())
}

/// A clamp with ordered bounds that are not NaN.
pub(crate) fn clamp(step: &Step<'_>, lo: f32, hi: f32) -> Result<(), KernelError> {
    require(step, lo <= hi)
}

/// A clamp in output steps after which rounding and adding `zero_point` stays within int8.
pub(crate) fn int8_clamp(step: &Step<'_>, lo: f32, hi: f32, zero_point: i32) -> Result<(), KernelError> {
    int8(step, zero_point)?;
    let zero = zero_point as f32;
    require(step, lo <= hi && lo + zero >= -128.0 && hi + zero <= 127.0)
}

/// A zero point that is an int8 code.
pub(crate) fn int8(step: &Step<'_>, zero_point: i32) -> Result<(), KernelError> {
    require(step, (-128..=127).contains(&zero_point))
}

/// A scale within the range the integer path accepts.
pub(crate) fn scale(step: &Step<'_>, scale: f32) -> Result<(), KernelError> {
    require(step, QParams::new(scale, 0).is_some())
}

/// A factor made of scales: positive and finite.
pub(crate) fn factor(step: &Step<'_>, factor: f32) -> Result<(), KernelError> {
    require(step, factor > 0.0 && factor.is_finite())
}
