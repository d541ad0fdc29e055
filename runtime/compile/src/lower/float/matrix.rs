//! Matrix products of two activations, of any batch, in reals and in codes.

use ingraft_kernel::OpCode;
use ingraft_kernel::attrs::{QConvAttrs, QuantizeAttrs};
use ingraft_kernel::elementwise::BinaryFn;
use ingraft_tensor::DType;

use crate::graph::{Node, ValueId};
use crate::lower::filters::Filters;
use crate::lower::linear::plan_window;
use crate::lower::pattern::code_bounds;
use crate::lower::qops::NoAttrs;
use crate::lower::select::Selector;
use crate::lower::{LowerError, TensorRef};
use crate::op::{Layout, Op};

pub(super) fn product(selector: &mut Selector<'_>, node: &Node) -> Result<(), LowerError> {
    let (lhs, rhs) = (selector.real_operand(node, 0)?, selector.real_operand(node, 1)?);
    multiply(selector, node, [lhs, rhs], OpCode::MatMul, DType::F32, Vec::new())
}

/// `MatMulInteger`. A zero point the file leaves out is the code of zero.
pub(super) fn integer_product(selector: &mut Selector<'_>, node: &Node) -> Result<(), LowerError> {
    let operands = [selector.operand(node, 0)?, selector.operand(node, 1)?];
    let mut zero_points = Vec::with_capacity(2);
    for index in 0..2 {
        zero_points.push(zero_point(selector, node, index)?);
    }
    let rows = selector.extents(operands[0]).into_iter().rev().nth(1).unwrap_or(1);
    let columns = selector.extents(operands[1]).into_iter().skip(1).next_back().unwrap_or(1);
    // One for all, or one for each row on the left and each column on the right.
    for (zero, extent) in zero_points.iter().zip([rows, columns]) {
        let count = selector.program.tensor(*zero).shape.elements();
        if count != 1 && count != extent {
            return Err(selector.unsupported(node, "has zero points that differ between matrices of a batch"));
        }
    }
    multiply(selector, node, operands, OpCode::MatMulInteger, DType::I32, zero_points)
}

fn zero_point(selector: &mut Selector<'_>, node: &Node, index: usize) -> Result<TensorRef, LowerError> {
    if node.input(index + 2).is_some() {
        return selector.operand(node, index + 2);
    }
    let value = selector.operand_value(node, index)?;
    let zero = if selector.graph[value].dtype == DType::U8 { -128i8 } else { 0 };
    selector.constant_of(node, &[1], &[zero])
}

/// A product of two tensors of codes, each with one scale: integer accumulators, dequantized with the product of the
/// scales and, where the file rounds the result, quantized. Says whether `node` is one.
pub(in crate::lower) fn quantized_product(
    selector: &mut Selector<'_>,
    node: &Node,
) -> Result<bool, LowerError> {
    let codes = |index: usize| node.input(index).and_then(|value| selector.uses.codes(value));
    let (Some(lhs), Some(rhs)) = (codes(0), codes(1)) else { return Ok(false) };
    let operands = [selector.codes(lhs)?, selector.codes(rhs)?];
    let mut zero_points = Vec::with_capacity(2);
    for q in [lhs.qparams, rhs.qparams] {
        zero_points.push(selector.constant_of(node, &[1], &[q.zero_point as i8])?);
    }
    let sums = batched(selector, node, operands, OpCode::MatMulInteger, DType::I32, zero_points)?;
    let chain = selector.uses.chain(node.outputs[0]);
    let attrs = QuantizeAttrs {
        in_scale: lhs.qparams.scale * rhs.qparams.scale,
        in_zero_point: 0,
        out_scale: 1.0,
        out_zero_point: 0,
        lo: f32::NEG_INFINITY,
        hi: f32::INFINITY,
    };
    let shape = selector.graph[node.outputs[0]].shape.clone();
    let Some(q) = chain.qparams else {
        selector.push_result(node, OpCode::Dequantize, &attrs, vec![sums])?;
        return Ok(true);
    };
    let real = selector.push_temporary(node, (OpCode::Dequantize, &attrs), vec![sums], DType::F32, &shape)?;
    let [lo, hi] = code_bounds(chain.bounds, q);
    let attrs = QuantizeAttrs {
        in_scale: 1.0,
        in_zero_point: 0,
        out_scale: q.scale,
        out_zero_point: q.zero_point,
        lo,
        hi,
    };
    let output = selector.result(&chain)?;
    selector.program.push(OpCode::Quantize, &attrs, vec![real], vec![output], &node.name);
    Ok(true)
}

fn multiply(
    selector: &mut Selector<'_>,
    node: &Node,
    operands: [TensorRef; 2],
    op: OpCode,
    dtype: DType,
    zero_points: Vec<TensorRef>,
) -> Result<(), LowerError> {
    let product = batched(selector, node, operands, op, dtype, zero_points)?;
    selector.finish(node.outputs[0], product);
    Ok(())
}

/// A batched product; a vector is a matrix of one row on the left, of one column on the right.
fn batched(
    selector: &mut Selector<'_>,
    node: &Node,
    [lhs, rhs]: [TensorRef; 2],
    op: OpCode,
    dtype: DType,
    zero_points: Vec<TensorRef>,
) -> Result<TensorRef, LowerError> {
    let (mut left, mut right) = (selector.extents(lhs), selector.extents(rhs));
    let result = node.outputs[0];
    let mut shape = selector.graph[result].shape.clone();
    if right.len() == 1 {
        right.push(1);
        shape.push(1);
    }
    if left.len() == 1 {
        left.insert(0, 1);
        shape.insert(shape.len() - 1, 1);
    }
    let mut inputs = vec![selector.reshaped(lhs, &left)?, selector.reshaped(rhs, &right)?];
    inputs.extend(zero_points);
    let full = selector.push_temporary(node, (op, &NoAttrs {}), inputs, dtype, &shape)?;
    let shape = selector.graph[result].shape.clone();
    selector.reshaped(full, &shape)
}

/// `alpha·A·B + beta·C` in its general form; with a constant `B` and both factors one it is a linear layer.
pub(super) fn gemm(selector: &mut Selector<'_>, node: &Node) -> Result<(), LowerError> {
    let Op::Gemm { alpha, beta, trans_a, trans_b } = node.op else {
        return Err(selector.unsupported(node, "is not a general product"));
    };
    let shape = selector.graph[node.outputs[0]].shape.clone();
    let (a, b) = (matrix(selector, node, 0, trans_a)?, matrix(selector, node, 1, trans_b)?);
    let mut y =
        selector.push_temporary(node, (OpCode::MatMul, &NoAttrs {}), vec![a, b], DType::F32, &shape)?;
    if alpha != 1.0 {
        let alpha = selector.constant_of(node, &[], &[alpha])?;
        y = selector.combined(node, BinaryFn::Mul, [y, alpha], &shape)?;
    }
    if node.input(2).is_some() && beta != 0.0 {
        let mut c = selector.real_operand(node, 2)?;
        if beta != 1.0 {
            let (beta, extents) = (selector.constant_of(node, &[], &[beta])?, selector.extents(c));
            c = selector.combined(node, BinaryFn::Mul, [c, beta], &extents)?;
        }
        y = selector.combined(node, BinaryFn::Add, [y, c], &shape)?;
    }
    selector.finish(node.outputs[0], y);
    Ok(())
}

fn matrix(
    selector: &mut Selector<'_>,
    node: &Node,
    index: usize,
    transposed: bool,
) -> Result<TensorRef, LowerError> {
    let tensor = selector.real_operand(node, index)?;
    if transposed { selector.transposed(node, tensor, &[1, 0]) } else { Ok(tensor) }
}

/// `ConvInteger` with constant weights and input zero point: the accumulators of an int8 convolution.
///
/// A weight minus its zero point may need nine bits; it is then the sum of two codes, and the convolution that of two.
pub(super) fn integer_convolution(selector: &mut Selector<'_>, node: &Node) -> Result<(), LowerError> {
    let Op::ConvInteger(conv) = &node.op else {
        return Err(selector.unsupported(node, "is not a convolution"));
    };
    let window = plan_window(&conv.window).filter(|_| conv.layout == Layout::ChannelsLast);
    let window = window.ok_or_else(|| selector.unsupported(node, "has more than two spatial dimensions"))?;
    let (x, weight) = (selector.operand_value(node, 0)?, selector.operand_value(node, 1)?);
    let zero = constant_zero_point(selector, node, x)?;
    let filters = Filters::of_convolution(selector.graph, weight, node.input(3))
        .ok_or_else(|| selector.unsupported(node, "its weights or their zero points are not constant"))?;
    let attrs = QConvAttrs {
        window,
        groups: conv.groups as u32,
        in_zero_point: zero,
        out_zero_point: 0,
        lo: f32::NEG_INFINITY,
        hi: f32::INFINITY,
        in_scale: 1.0,
        out_scale: 1.0,
    };
    let shape = selector.graph[node.outputs[0]].shape.clone();
    let input = selector.tensor(x)?;
    let mut sum: Option<TensorRef> = None;
    for codes in filters.parts() {
        let inputs = accumulator_operands(selector, node, input, &filters, &codes, zero)?;
        let part = selector.push_temporary(node, (OpCode::QConv, &attrs), inputs, DType::I32, &shape)?;
        sum = Some(match sum {
            Some(sum) => selector.combined(node, BinaryFn::Add, [sum, part], &shape)?,
            None => part,
        });
    }
    let sum = sum.ok_or_else(|| selector.unsupported(node, "has no weights"))?;
    selector.finish(node.outputs[0], sum);
    Ok(())
}

/// Operands of an int8 convolution that gives its accumulators.
fn accumulator_operands(
    selector: &mut Selector<'_>,
    node: &Node,
    input: TensorRef,
    filters: &Filters,
    codes: &[i8],
    zero: i32,
) -> Result<Vec<TensorRef>, LowerError> {
    let out = filters.out();
    let bias: Vec<i32> =
        filters.sums(codes).iter().map(|sum| zero.wrapping_mul(*sum).wrapping_neg()).collect();
    Ok(vec![
        input,
        selector.constant_of(node, filters.shape(), codes)?,
        selector.constant_of(node, &[out], &bias)?,
        selector.constant_of(node, &[out], &vec![1.0f32; out])?,
    ])
}

/// The zero point of the codes `x`, as stored.
fn constant_zero_point(selector: &Selector<'_>, node: &Node, x: ValueId) -> Result<i32, LowerError> {
    let offset = if selector.graph[x].dtype == DType::U8 { 128 } else { 0 };
    let zero = match node.input(2) {
        Some(zero) => selector.graph.konst(zero).and_then(|konst| konst.scalar_f64()),
        None => Some(0.0),
    };
    let zero =
        zero.ok_or_else(|| selector.unsupported(node, "its input's zero point is found at run time"))?;
    Ok(zero as i32 - offset)
}
