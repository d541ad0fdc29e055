//! Conversions between reals and codes whose parameters are no constant pair: one per channel, found at run
//! time, or for codes of 16 and 32 bits.

use ingraft_kernel::OpCode;
use ingraft_kernel::attrs::UnaryAttrs;
use ingraft_kernel::elementwise::{BinaryFn, UnaryFn};
use ingraft_tensor::DType;

use crate::graph::{Node, ValueId};
use crate::lower::qops::NoAttrs;
use crate::lower::select::Selector;
use crate::lower::{LowerError, TensorRef};

/// `x / scale` rounded, plus the zero point, clamped to the type.
pub(super) fn quantize(
    selector: &mut Selector<'_>,
    node: &Node,
    axis: usize,
    to: DType,
) -> Result<(), LowerError> {
    let x = selector.operand_value(node, 0)?;
    let shape = selector.graph[x].shape.clone();
    let [least, most] = match to {
        DType::I8 => [-128.0, 127.0],
        DType::U8 => [0.0, 255.0],
        DType::I16 => [-32768.0, 32767.0],
        _ => return Err(selector.unsupported(node, "its codes have no type a plan quantizes to")),
    };
    let input = selector.converted(x, DType::F32)?;
    let scale = parameter(selector, node, 1, DType::F32, &shape, axis)?;
    let mut y = selector.combined(node, BinaryFn::Div, [input, scale], &shape)?;
    y = function(selector, node, UnaryFn::Round, [0.0; 2], y, &shape)?;
    if node.input(2).is_some() {
        let zero = parameter(selector, node, 2, DType::F32, &shape, axis)?;
        y = selector.combined(node, BinaryFn::Add, [y, zero], &shape)?;
    }
    y = function(selector, node, UnaryFn::Clip, [least, most], y, &shape)?;
    let codes = selector.convert(y, DType::F32, to);
    selector.finish(node.outputs[0], codes);
    Ok(())
}

/// `(code − zero point) · scale`; the difference is an exact integer.
pub(super) fn dequantize(selector: &mut Selector<'_>, node: &Node, axis: usize) -> Result<(), LowerError> {
    let codes = selector.operand_value(node, 0)?;
    let shape = selector.graph[codes].shape.clone();
    let mut steps = selector.converted(codes, DType::I32)?;
    if node.input(2).is_some() {
        let zero = parameter(selector, node, 2, DType::I32, &shape, axis)?;
        steps = selector.combined(node, BinaryFn::Sub, [steps, zero], &shape)?;
    }
    let real = selector.convert(steps, DType::I32, DType::F32);
    let scale = parameter(selector, node, 1, DType::F32, &shape, axis)?;
    let attrs = super::arithmetic(BinaryFn::Mul.code());
    selector.push_result(node, OpCode::Binary, &attrs, vec![real, scale])?;
    Ok(())
}

/// `DynamicQuantizeLinear`.
pub(super) fn dynamic(selector: &mut Selector<'_>, node: &Node) -> Result<(), LowerError> {
    let x = selector.real_operand(node, 0)?;
    let mut outputs = Vec::with_capacity(node.outputs.len());
    for &value in &node.outputs {
        let tensor = selector.arena(value, None)?;
        selector.bind(value, tensor);
        outputs.push(tensor);
    }
    selector.program.push(OpCode::DynamicQuantize, &NoAttrs {}, vec![x], outputs, &node.name);
    Ok(())
}

/// A scale or zero point, shaped so that it broadcasts along dimension `axis` of `shape`.
fn parameter(
    selector: &mut Selector<'_>,
    node: &Node,
    index: usize,
    dtype: DType,
    shape: &[usize],
    axis: usize,
) -> Result<TensorRef, LowerError> {
    let value: ValueId = selector.operand_value(node, index)?;
    let tensor = selector.converted(value, dtype)?;
    let count = selector.program.tensor(tensor).shape.elements();
    let mut extents = vec![1; shape.len().saturating_sub(axis)];
    if let Some(first) = extents.first_mut() {
        *first = count;
    }
    selector.reshaped(tensor, &extents)
}

fn function(
    selector: &mut Selector<'_>,
    node: &Node,
    function: UnaryFn,
    [alpha, beta]: [f32; 2],
    input: TensorRef,
    shape: &[usize],
) -> Result<TensorRef, LowerError> {
    let attrs = UnaryAttrs { function: function.code(), alpha, beta };
    selector.push_temporary(node, (OpCode::Unary, &attrs), vec![input], DType::F32, shape)
}
