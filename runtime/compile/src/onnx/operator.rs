//! The table of ONNX operators that are understood.

use super::node::NodeReader;
use crate::error::Fault;
use crate::op::{
    conv, elementwise, gather, matmul, movement, norm, pad, pool, quantize, recurrent, reduce, resize, shape,
};

/// Reads one node and adds what it means to the graph.
pub(super) type Reader = fn(&mut NodeReader<'_>) -> Result<(), Fault>;

/// The reader of a standard operator.
pub(super) fn find(op_type: &str) -> Option<Reader> {
    let row = OPERATORS.binary_search_by(|(name, _)| (*name).cmp(op_type)).ok()?;
    OPERATORS.get(row).map(|&(_, reader)| reader)
}

/// The names of the operators that are understood, in alphabetical order.
pub fn operators() -> impl Iterator<Item = &'static str> {
    OPERATORS.iter().map(|&(name, _)| name)
}

/// Sorted by name (bytewise).
const OPERATORS: &[(&str, Reader)] = &[
    ("Abs", elementwise::unary),
    ("Add", elementwise::binary),
    ("And", elementwise::binary),
    ("ArgMax", reduce::argmax),
    ("AveragePool", pool::pool),
    ("BatchNormalization", norm::batch_norm),
    ("Cast", elementwise::cast),
    ("CastLike", elementwise::cast_like),
    ("Ceil", elementwise::unary),
    ("Clip", elementwise::clip),
    ("Concat", movement::concat),
    ("Constant", shape::constant),
    ("ConstantOfShape", shape::constant_of_shape),
    ("Conv", conv::conv),
    ("ConvInteger", conv::conv_integer),
    ("CumSum", reduce::cumsum),
    ("DepthToSpace", movement::depth_space),
    ("DequantizeLinear", quantize::dequantize_linear),
    ("Div", elementwise::binary),
    ("Dropout", elementwise::identity),
    ("DynamicQuantizeLinear", quantize::dynamic_quantize_linear),
    ("Elu", elementwise::unary),
    ("Equal", elementwise::binary),
    ("Erf", elementwise::unary),
    ("Exp", elementwise::unary),
    ("Expand", movement::expand),
    ("Flatten", movement::flatten),
    ("Floor", elementwise::unary),
    ("GRU", recurrent::gru),
    ("Gather", gather::gather),
    ("GatherElements", gather::gather),
    ("Gelu", elementwise::unary),
    ("Gemm", matmul::gemm),
    ("GlobalAveragePool", pool::global_pool),
    ("GlobalMaxPool", pool::global_pool),
    ("Greater", elementwise::binary),
    ("GreaterOrEqual", elementwise::binary),
    ("GroupNormalization", norm::group_norm),
    ("HardSigmoid", elementwise::unary),
    ("HardSwish", elementwise::unary),
    ("Identity", elementwise::identity),
    ("InstanceNormalization", norm::instance_norm),
    ("LSTM", recurrent::lstm),
    ("LayerNormalization", norm::layer_norm),
    ("LeakyRelu", elementwise::unary),
    ("Less", elementwise::binary),
    ("LessOrEqual", elementwise::binary),
    ("Log", elementwise::unary),
    ("LogSoftmax", reduce::softmax),
    ("MatMul", matmul::matmul),
    ("MatMulInteger", matmul::matmul_integer),
    ("Max", elementwise::variadic),
    ("MaxPool", pool::pool),
    ("Mean", elementwise::variadic),
    ("Min", elementwise::variadic),
    ("Mish", elementwise::unary),
    ("Mul", elementwise::binary),
    ("Neg", elementwise::unary),
    ("Not", elementwise::unary),
    ("Or", elementwise::binary),
    ("PRelu", elementwise::binary),
    ("Pad", pad::pad),
    ("Pow", elementwise::binary),
    ("QLinearConv", quantize::qlinear_conv),
    ("QLinearMatMul", quantize::qlinear_matmul),
    ("QuantizeLinear", quantize::quantize_linear),
    ("RMSNormalization", norm::rms_norm),
    ("Range", shape::range),
    ("Reciprocal", elementwise::unary),
    ("ReduceL1", reduce::reduce),
    ("ReduceL2", reduce::reduce),
    ("ReduceLogSum", reduce::reduce),
    ("ReduceLogSumExp", reduce::reduce),
    ("ReduceMax", reduce::reduce),
    ("ReduceMean", reduce::reduce),
    ("ReduceMin", reduce::reduce),
    ("ReduceProd", reduce::reduce),
    ("ReduceSum", reduce::reduce),
    ("ReduceSumSquare", reduce::reduce),
    ("Relu", elementwise::unary),
    ("Reshape", movement::reshape),
    ("Resize", resize::resize),
    ("Round", elementwise::unary),
    ("Selu", elementwise::unary),
    ("Shape", shape::shape),
    ("Sigmoid", elementwise::unary),
    ("Size", shape::size),
    ("Slice", movement::slice),
    ("Softmax", reduce::softmax),
    ("Softplus", elementwise::unary),
    ("Softsign", elementwise::unary),
    ("SpaceToDepth", movement::depth_space),
    ("Split", movement::split),
    ("Sqrt", elementwise::unary),
    ("Squeeze", movement::squeeze),
    ("Sub", elementwise::binary),
    ("Sum", elementwise::variadic),
    ("Swish", elementwise::unary),
    ("Tanh", elementwise::unary),
    ("Tile", movement::tile),
    ("Transpose", movement::transpose),
    ("Trilu", movement::trilu),
    ("Unsqueeze", movement::unsqueeze),
    ("Where", elementwise::select),
    ("Xor", elementwise::binary),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_sorted() {
        assert!(OPERATORS.is_sorted_by(|a, b| a.0 < b.0));
        assert!(find("Relu").is_some() && find("Loop").is_none());
    }
}
