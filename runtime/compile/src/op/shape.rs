//! Operators that are gone after import, because their result is a constant.

use ingraft_tensor::DType;

use crate::error::{Fault, TensorFault};
use crate::graph::Tensor;
use crate::graph::fold;
use crate::onnx::NodeReader;

/// `Shape`.
pub(crate) fn shape(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let extents = node.input_type(0)?.shape;
    let rank = extents.len() as i64;
    let bound = |v: i64| (if v < 0 { v.saturating_add(rank) } else { v }).clamp(0, rank) as usize;
    let (start, end) = (bound(node.int("start", 0)?), bound(node.int("end", rank)?));
    let kept: Vec<i64> = extents.get(start..end).unwrap_or_default().iter().map(|&e| e as i64).collect();
    let tensor = Tensor::from_i64(DType::I64, &[kept.len()], &kept).ok_or(Fault::TooLarge)?;
    node.finish_constant(tensor)
}

/// `Size`.
pub(crate) fn size(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let count: usize = node.input_type(0)?.shape.iter().product();
    let tensor = Tensor::from_i64(DType::I64, &[], &[count as i64]).ok_or(Fault::TooLarge)?;
    node.finish_constant(tensor)
}

/// `Constant`, whichever attribute holds the value.
pub(crate) fn constant(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let mut found = node.tensor("value")?;
    if let Some(value) = node.optional_float("value_float")? {
        found = found.or(Some(Tensor::scalar_f32(value)));
    }
    if let Some(values) = node.floats("value_floats")? {
        found = found.or(Tensor::from_f32(&[values.len()], &values));
    }
    if let Some(value) = node.optional_int("value_int")? {
        found = found.or(Tensor::from_i64(DType::I64, &[], &[value]));
    }
    if let Some(values) = node.ints("value_ints")? {
        found = found.or(Tensor::from_i64(DType::I64, &[values.len()], &values));
    }
    node.finish_constant(found.ok_or(Fault::MissingAttribute { attribute: "value" })?)
}

/// `ConstantOfShape`.
pub(crate) fn constant_of_shape(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let extents = node.extents_operand(0)?;
    let value = node.tensor("value")?.unwrap_or_else(|| Tensor::scalar_f32(0.0));
    if value.elements() != 1 {
        return Err(Fault::Tensor(TensorFault::Length { expected: 1, found: value.elements() }));
    }
    node.reserve(&extents, value.dtype())?;
    node.finish_constant(fold::fill(&extents, &value).ok_or(Fault::TooLarge)?)
}

/// `Range`.
pub(crate) fn range(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let [start, limit, step] = [node.constant(0)?, node.constant(1)?, node.constant(2)?];
    let dtype = start.dtype();
    for (index, operand) in [(1, &limit), (2, &step)] {
        if operand.dtype() != dtype {
            return Err(Fault::DType { index, dtype: operand.dtype() });
        }
    }
    let too_large = Fault::TooLarge;
    if matches!(dtype, DType::F32 | DType::F16) {
        let scalars = (start.scalar(), limit.scalar(), step.scalar());
        let (Some(start), Some(limit), Some(step)) = scalars else {
            return Err(Fault::shape("the operands must be scalars"));
        };
        let count = ((f64::from(limit) - f64::from(start)) / f64::from(step)).ceil();
        let len = element_count(count)?;
        node.reserve(&[len], dtype)?;
        let values: Vec<f32> = (0..len).map(|i| start + i as f32 * step).collect();
        let floats = Tensor::from_f32(&[len], &values).and_then(|floats| fold::cast(&floats, dtype));
        return node.finish_constant(floats.ok_or(too_large)?);
    }
    let (&[start], &[limit], &[step]) = (&start.to_i64()[..], &limit.to_i64()[..], &step.to_i64()[..]) else {
        return Err(Fault::shape("the operands must be scalars"));
    };
    if step == 0 {
        return Err(Fault::Operand { index: 2, reason: "must not be zero" });
    }
    let distance =
        if step > 0 { i128::from(limit) - i128::from(start) } else { i128::from(start) - i128::from(limit) };
    let len = (distance.max(0) as u128).div_ceil(u128::from(step.unsigned_abs()));
    let len = element_count(len as f64)?;
    node.reserve(&[len], dtype)?;
    let values: Vec<i64> = (0..len as i64).map(|i| start.wrapping_add(i.wrapping_mul(step))).collect();
    node.finish_constant(Tensor::from_i64(dtype, &[len], &values).ok_or(too_large)?)
}

/// A count of elements that a plan can hold; negative and undefined counts are none.
fn element_count(count: f64) -> Result<usize, Fault> {
    if count > f64::from(i32::MAX) { Err(Fault::TooLarge) } else { Ok(count.max(0.0) as usize) }
}
