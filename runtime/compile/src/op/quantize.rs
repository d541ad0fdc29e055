//! Conversion between reals and codes.

use ingraft_tensor::DType;

use super::conv::read_for;
use super::{Op, Operands, ValueType};
use crate::error::Fault;
use crate::graph::{Tensor, ValueId};
use crate::onnx::NodeReader;

/// The element types of codes.
const CODES: [DType; 4] = [DType::I8, DType::U8, DType::I16, DType::I32];

pub(super) fn infer_quantize(axis: usize, to: DType, x: Operands<'_>) -> Result<ValueType, Fault> {
    let input = x.typed(0, &[DType::F32, DType::F16, DType::I32])?;
    let codes = [DType::I8, DType::U8, DType::I16];
    if !codes.contains(&to) || x.get(2).is_some_and(|zero_point| zero_point.dtype != to) {
        return Err(Fault::DType { index: 2, dtype: x.get(2).map_or(to, |z| z.dtype) });
    }
    check_parameters(axis, input, x)?;
    Ok(ValueType::new(to, input.shape.clone()))
}

pub(super) fn infer_dequantize(axis: usize, x: Operands<'_>) -> Result<ValueType, Fault> {
    let input = x.typed(0, &CODES)?;
    if x.get(2).is_some() {
        x.like_first(2)?;
    }
    check_parameters(axis, input, x)?;
    Ok(ValueType::new(x.float(1)?.dtype, input.shape.clone()))
}

pub(super) fn infer_dynamic(x: Operands<'_>) -> Result<Vec<ValueType>, Fault> {
    let input = x.typed(0, &[DType::F32])?;
    Ok(vec![
        ValueType::new(DType::U8, input.shape.clone()),
        ValueType::new(DType::F32, Vec::new()),
        ValueType::new(DType::U8, Vec::new()),
    ])
}

/// Scale and zero point are alike: one each, or one per element of the axis.
fn check_parameters(axis: usize, input: &ValueType, x: Operands<'_>) -> Result<(), Fault> {
    let scale = x.float(1)?;
    let per_tensor = scale.shape.iter().product::<usize>() == 1 && scale.rank() <= 1;
    let per_channel = scale.rank() == 1 && input.shape.get(axis) == scale.shape.first();
    let alike =
        |zero_point: &ValueType| zero_point.shape.iter().product::<usize>() == scale.shape.iter().product();
    if !(per_tensor || per_channel) || !x.get(2).is_none_or(alike) {
        return Err(Fault::shape(
            "scale and zero point do not fit the input; scales per block are not supported",
        ));
    }
    Ok(())
}

/// `QuantizeLinear`.
pub(crate) fn quantize_linear(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let (x, scale, axis) = read_parameters(node)?;
    let zero_point = node.optional(2);
    let declared = node.optional_dtype("output_dtype")?;
    // Concerns the 8-bit float formats, which are refused as types.
    node.ignore(&["saturate"]);
    let to = declared.or(zero_point.map(|z| node.value_type(z).dtype)).unwrap_or(DType::U8);
    node.finish(Op::QuantizeLinear { axis, to }, &[Some(x), Some(scale), zero_point])
}

/// `DequantizeLinear`.
pub(crate) fn dequantize_linear(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let (x, scale, axis) = read_parameters(node)?;
    if node.optional_dtype("output_dtype")?.is_some_and(|dtype| dtype != node.value_type(scale).dtype) {
        return Err(Fault::Attribute { attribute: "output_dtype", reason: "must be the type of the scale" });
    }
    let operands = [Some(x), Some(scale), node.optional(2)];
    node.finish(Op::DequantizeLinear { axis }, &operands)
}

/// The operands and the axis that both directions share. An axis that no vector of scales uses is not checked.
fn read_parameters(node: &mut NodeReader<'_>) -> Result<(ValueId, ValueId, usize), Fault> {
    node.freeze(&[1, 2]);
    let (x, scale) = (node.input(0)?, node.input(1)?);
    if node.int("block_size", 0)? != 0 {
        return Err(Fault::Attribute { attribute: "block_size", reason: "must be zero" });
    }
    let per_channel = node.value_type(scale).rank() > 0;
    let rank = node.value_type(x).rank();
    let axis = if per_channel && rank > 1 { node.axis("axis", 1, rank)? } else { 0 };
    node.ignore(&["axis", "precision"]);
    Ok((x, scale, axis))
}

/// `DynamicQuantizeLinear`.
pub(crate) fn dynamic_quantize_linear(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let x = node.input(0)?;
    node.finish(Op::DynamicQuantizeLinear, &[Some(x)])
}

/// `QLinearConv`, as dequantize, convolve, quantize.
pub(crate) fn qlinear_conv(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    node.freeze(&[1, 2, 3, 4, 5, 6, 7, 8]);
    let (codes, weights) = (node.input(0)?, node.input(3)?);
    let conv = read_for(node, codes, weights)?;
    let x = dequantize(node, 0, 1, 2, 1)?;
    let w = dequantize(node, 3, 4, 5, 0)?;
    let bias = match node.optional(8) {
        None => None,
        Some(bias) => {
            let scale = bias_scale(node)?;
            Some(node.emit(Op::DequantizeLinear { axis: 0 }, &[Some(bias), Some(scale)])?)
        }
    };
    let y = node.emit(Op::Conv(conv), &[Some(x), Some(w), bias])?;
    requantize(node, y, 6, 7)
}

/// `QLinearMatMul`, as dequantize, multiply, quantize.
pub(crate) fn qlinear_matmul(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    node.freeze(&[1, 2, 4, 5, 6, 7]);
    let lhs_axis = node.input_type(0)?.rank().saturating_sub(2);
    let rhs_axis = node.input_type(3)?.rank().saturating_sub(1);
    let lhs = dequantize(node, 0, 1, 2, lhs_axis)?;
    let rhs = dequantize(node, 3, 4, 5, rhs_axis)?;
    let y = node.emit(Op::MatMul, &[Some(lhs), Some(rhs)])?;
    requantize(node, y, 6, 7)
}

fn dequantize(
    node: &mut NodeReader<'_>,
    codes: usize,
    scale: usize,
    zero_point: usize,
    axis: usize,
) -> Result<ValueId, Fault> {
    let operands = [node.input(codes)?, node.input(scale)?, node.input(zero_point)?];
    node.emit(Op::DequantizeLinear { axis }, &operands.map(Some))
}

fn requantize(node: &mut NodeReader<'_>, y: ValueId, scale: usize, zero_point: usize) -> Result<(), Fault> {
    let (scale, zero_point) = (node.input(scale)?, node.input(zero_point)?);
    let to = node.value_type(zero_point).dtype;
    node.finish(Op::QuantizeLinear { axis: 0, to }, &[Some(y), Some(scale), Some(zero_point)])
}

/// The scale ONNX gives the bias of a `QLinearConv`: input scale times weight scale, in single precision.
fn bias_scale(node: &mut NodeReader<'_>) -> Result<ValueId, Fault> {
    let input = node.scalar_operand(1)?.ok_or(Fault::MissingInput { index: 1 })? as f32;
    let weights = node.constant(4)?;
    let products: Vec<f32> = weights.to_f32().iter().map(|w| w * input).collect();
    let scale = Tensor::from_f32(weights.shape(), &products).ok_or(Fault::TooLarge)?;
    Ok(node.emit_constant(scale))
}
