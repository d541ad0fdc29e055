//! Selection by index.

use ingraft_tensor::DType;

use super::{Op, Operands, ValueType};
use crate::error::Fault;
use crate::onnx::NodeReader;

pub(super) fn infer_gather(axis: usize, x: Operands<'_>) -> Result<ValueType, Fault> {
    let (data, indices) = (x.at(0)?, x.typed(1, &[DType::I32, DType::I64])?);
    let (Some(before), Some(after)) = (data.shape.get(..axis), data.shape.get(axis + 1..)) else {
        return Err(Fault::shape("the axis is outside the input"));
    };
    Ok(ValueType::new(data.dtype, [before, &indices.shape, after].concat()))
}

pub(super) fn infer_gather_elements(axis: usize, x: Operands<'_>) -> Result<ValueType, Fault> {
    let (data, indices) = (x.at(0)?, x.typed(1, &[DType::I32, DType::I64])?);
    let exceeds = |(i, (d, n)): (usize, (&usize, &usize))| i != axis && n > d;
    let outside = data.rank() != indices.rank()
        || axis >= data.rank()
        || data.shape.iter().zip(&indices.shape).enumerate().any(exceeds);
    if outside {
        return Err(Fault::shape("the indices do not fit the input"));
    }
    Ok(ValueType::new(data.dtype, indices.shape.clone()))
}

/// `Gather` and `GatherElements`. Constant indices are checked here, others when they are used.
pub(crate) fn gather(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let (data, indices) = (node.input(0)?, node.input(1)?);
    let shape = node.value_type(data).shape;
    let axis = node.axis("axis", 0, shape.len())?;
    let extent = shape.get(axis).copied().unwrap_or(0) as i64;
    let outside = |i: &i64| !(-extent..extent).contains(i);
    if node.known(1).is_some_and(|known| known.to_i64().iter().any(outside)) {
        return Err(Fault::Operand { index: 1, reason: "holds an index outside the input" });
    }
    let op = if node.op_type() == "Gather" { Op::Gather { axis } } else { Op::GatherElements { axis } };
    node.finish(op, &[Some(data), Some(indices)])
}
