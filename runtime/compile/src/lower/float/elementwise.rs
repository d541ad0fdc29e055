//! Functions of one, two or three elements.

use ingraft_kernel::OpCode;
use ingraft_kernel::attrs::{BinaryAttrs, UnaryAttrs};
use ingraft_kernel::elementwise::{BinaryFn, CompareFn, LogicFn, UnaryFn};
use ingraft_tensor::DType;

use super::{arithmetic, wide};
use crate::graph::Node;
use crate::lower::LowerError;
use crate::lower::qops::NoAttrs;
use crate::lower::select::Selector;
use crate::op::{Binary, Unary};

pub(super) fn unary(selector: &mut Selector<'_>, node: &Node, unary: Unary) -> Result<(), LowerError> {
    let value = selector.operand_value(node, 0)?;
    match selector.graph[value].dtype {
        DType::F32 | DType::F16 | DType::Bool => {
            let input = selector.operand(node, 0)?;
            selector.push_result(node, OpCode::Unary, &attributes(unary), vec![input])?;
            Ok(())
        }
        _ => integer_unary(selector, node, unary),
    }
}

/// The record of a function of a real number. Negation of truth values does not read it.
fn attributes(unary: Unary) -> UnaryAttrs {
    let (function, alpha, beta) = match unary {
        Unary::Abs => (UnaryFn::Abs, 0.0, 0.0),
        Unary::Ceil => (UnaryFn::Ceil, 0.0, 0.0),
        Unary::Clip { min, max } => (UnaryFn::Clip, min as f32, max as f32),
        Unary::Elu { alpha } => (UnaryFn::Elu, alpha, 0.0),
        Unary::Erf => (UnaryFn::Erf, 0.0, 0.0),
        Unary::Exp => (UnaryFn::Exp, 0.0, 0.0),
        Unary::Floor => (UnaryFn::Floor, 0.0, 0.0),
        Unary::Gelu { tanh: false } => (UnaryFn::Gelu, 0.0, 0.0),
        Unary::Gelu { tanh: true } => (UnaryFn::GeluTanh, 0.0, 0.0),
        Unary::HardSigmoid { alpha, beta } => (UnaryFn::HardSigmoid, alpha, beta),
        Unary::HardSwish => (UnaryFn::HardSwish, 0.0, 0.0),
        Unary::LeakyRelu { alpha } => (UnaryFn::LeakyRelu, alpha, 0.0),
        Unary::Log => (UnaryFn::Log, 0.0, 0.0),
        Unary::Mish => (UnaryFn::Mish, 0.0, 0.0),
        Unary::Neg | Unary::Not => (UnaryFn::Neg, 0.0, 0.0),
        Unary::Reciprocal => (UnaryFn::Reciprocal, 0.0, 0.0),
        Unary::Relu => (UnaryFn::Clip, 0.0, f32::INFINITY),
        Unary::Round => (UnaryFn::Round, 0.0, 0.0),
        Unary::Selu { alpha, gamma } => (UnaryFn::Selu, alpha, gamma),
        Unary::Sigmoid => (UnaryFn::Sigmoid, 0.0, 0.0),
        Unary::Softplus => (UnaryFn::Softplus, 0.0, 0.0),
        Unary::Softsign => (UnaryFn::Softsign, 0.0, 0.0),
        Unary::Sqrt => (UnaryFn::Sqrt, 0.0, 0.0),
        Unary::Swish { alpha } => (UnaryFn::Swish, alpha, 0.0),
        Unary::Tanh => (UnaryFn::Tanh, 0.0, 0.0),
    };
    UnaryAttrs { function: function.code(), alpha, beta }
}

/// A function of an integer, as functions of it and a constant.
fn integer_unary(selector: &mut Selector<'_>, node: &Node, unary: Unary) -> Result<(), LowerError> {
    let value = selector.operand_value(node, 0)?;
    let dtype = wide(selector.graph[value].dtype);
    let x = selector.converted(value, dtype)?;
    let shape = selector.graph[value].shape.clone();
    let mut scalar = |v: i64| match dtype {
        DType::I64 => selector.constant_of(node, &[], &[v]),
        _ => selector.constant_of(node, &[], &[v.clamp(i32::MIN.into(), i32::MAX.into()) as i32]),
    };
    let zero = scalar(0)?;
    let result = match unary {
        Unary::Relu => selector.combined(node, BinaryFn::Max, [x, zero], &shape)?,
        Unary::Neg => selector.combined(node, BinaryFn::Sub, [zero, x], &shape)?,
        Unary::Abs => {
            let negated = selector.combined(node, BinaryFn::Sub, [zero, x], &shape)?;
            selector.combined(node, BinaryFn::Max, [x, negated], &shape)?
        }
        Unary::Clip { min, max } => {
            // Casts from float saturate: an open bound becomes the end of the type.
            let (low, high) = (scalar(min.ceil() as i64)?, scalar(max.floor() as i64)?);
            let raised = selector.combined(node, BinaryFn::Max, [x, low], &shape)?;
            selector.combined(node, BinaryFn::Min, [raised, high], &shape)?
        }
        _ => return Err(selector.unsupported(node, "is not computed on integers")),
    };
    let stored = selector.convert(result, dtype, selector.graph[value].dtype);
    selector.finish(node.outputs[0], stored);
    Ok(())
}

pub(super) fn binary(selector: &mut Selector<'_>, node: &Node, binary: Binary) -> Result<(), LowerError> {
    let (lhs, rhs) = (selector.operand_value(node, 0)?, selector.operand_value(node, 1)?);
    let (left, right) = (wide(selector.graph[lhs].dtype), wide(selector.graph[rhs].dtype));
    // Only `Pow` has operands of two types; the wider of them computes.
    let dtype = match (left, right) {
        (DType::F32, _) | (_, DType::F32) => DType::F32,
        (DType::I64, _) | (_, DType::I64) => DType::I64,
        _ => left,
    };
    let attrs = arithmetic(code(binary));
    let inputs = vec![selector.converted(lhs, dtype)?, selector.converted(rhs, dtype)?];
    let result = if binary.is_comparison() { DType::Bool } else { dtype };
    selector.compute_as(node.outputs[0], result, |selector, output| {
        selector.program.push::<BinaryAttrs>(OpCode::Binary, &attrs, inputs, vec![output], &node.name);
        Ok(())
    })
}

fn code(binary: Binary) -> u32 {
    match binary {
        Binary::Add => BinaryFn::Add.code(),
        Binary::And => LogicFn::And.code(),
        Binary::Div => BinaryFn::Div.code(),
        Binary::Equal => CompareFn::Equal.code(),
        Binary::Greater => CompareFn::Greater.code(),
        Binary::GreaterOrEqual => CompareFn::GreaterOrEqual.code(),
        Binary::Less => CompareFn::Less.code(),
        Binary::LessOrEqual => CompareFn::LessOrEqual.code(),
        Binary::Max => BinaryFn::Max.code(),
        Binary::Min => BinaryFn::Min.code(),
        Binary::Mul => BinaryFn::Mul.code(),
        Binary::Or => LogicFn::Or.code(),
        Binary::Pow => BinaryFn::Pow.code(),
        Binary::PRelu => BinaryFn::Prelu.code(),
        Binary::Sub => BinaryFn::Sub.code(),
        Binary::Xor => LogicFn::Xor.code(),
    }
}

/// `Where`.
pub(super) fn choice(selector: &mut Selector<'_>, node: &Node) -> Result<(), LowerError> {
    let inputs = vec![selector.operand(node, 0)?, selector.operand(node, 1)?, selector.operand(node, 2)?];
    selector.push_result(node, OpCode::Where, &NoAttrs {}, inputs)?;
    Ok(())
}

pub(super) fn cast(selector: &mut Selector<'_>, node: &Node, to: DType) -> Result<(), LowerError> {
    let value = selector.operand_value(node, 0)?;
    let tensor = selector.tensor(value)?;
    let result = selector.convert(tensor, selector.graph[value].dtype, to);
    selector.bind(node.outputs[0], result);
    Ok(())
}
