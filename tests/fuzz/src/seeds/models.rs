//! Small models that take one step each of the ways through the compiler.

use ingraft_compile::Tensor;
use ingraft_compile::onnx::proto::dimension_proto::Value as Extent;
use ingraft_compile::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use ingraft_tensor::{DType, Rng};

use crate::exercise;

/// Every model, by name.
pub(super) fn all() -> Vec<(&'static str, ModelProto)> {
    vec![
        ("convolutions", exercise::model()),
        ("attention", attention()),
        ("recurrent", recurrent()),
        ("shapes", shapes()),
        ("pictures", pictures()),
        ("codes", codes()),
        ("integers", integers()),
    ]
}

/// One operator on up to four operands: an activation, weights and a list of integers.
pub(super) fn single(operator: &str, operands: usize) -> ModelProto {
    let names = ["x", "w", "b", "i"];
    let graph = GraphProto::new(operator)
        .with_input("x", DType::F32, &extents(&[1, 2, 4, 4]))
        .with_constant(weight("w", &[2, 2, 3, 3], 5))
        .with_constant(weight("b", &[2], 6))
        .with_constant(integers_of("i", &[0, 0, 1, 1]))
        .with_node(NodeProto::new(operator, &names[..operands.min(4)], &["y"]))
        .with_output("y", DType::F32);
    ModelProto::new(17, graph)
}

fn attention() -> ModelProto {
    let graph = GraphProto::new("attention")
        .with_input("x", DType::F32, &extents(&[1, 4, 8]))
        .with_constant(weight("query.weight", &[8, 8], 1))
        .with_constant(weight("key.weight", &[8, 8], 2))
        .with_constant(weight("norm.weight", &[8], 3))
        .with_constant(weight("norm.bias", &[8], 4))
        .with_constant(weight("out.weight", &[8, 3], 5))
        .with_node(
            NodeProto::new("LayerNormalization", &["x", "norm.weight", "norm.bias"], &["n"])
                .with_float("epsilon", 1e-5),
        )
        .with_node(NodeProto::new("MatMul", &["n", "query.weight"], &["q"]))
        .with_node(NodeProto::new("MatMul", &["n", "key.weight"], &["k"]))
        .with_node(NodeProto::new("Transpose", &["k"], &["t"]).with_ints("perm", &[0, 2, 1]))
        .with_node(NodeProto::new("MatMul", &["q", "t"], &["s"]))
        .with_node(NodeProto::new("Softmax", &["s"], &["p"]).with_int("axis", -1))
        .with_node(NodeProto::new("MatMul", &["p", "n"], &["a"]))
        .with_node(NodeProto::new("Add", &["a", "x"], &["r"]))
        .with_node(NodeProto::new("Gelu", &["r"], &["g"]))
        .with_node(NodeProto::new("MatMul", &["g", "out.weight"], &["y"]))
        .with_output("y", DType::F32);
    ModelProto::new(20, graph)
}

fn recurrent() -> ModelProto {
    let graph = GraphProto::new("recurrent")
        .with_input("x", DType::F32, &extents(&[3, 1, 4]))
        .with_constant(weight("gru.weight", &[1, 6, 4], 1))
        .with_constant(weight("gru.recurrence", &[1, 6, 2], 2))
        .with_constant(weight("gru.bias", &[1, 12], 3))
        .with_constant(weight("lstm.weight", &[1, 8, 2], 4))
        .with_constant(weight("lstm.recurrence", &[1, 8, 2], 5))
        .with_constant(integers_of("axes", &[1]))
        .with_node(
            NodeProto::new("GRU", &["x", "gru.weight", "gru.recurrence", "gru.bias"], &["g"])
                .with_int("hidden_size", 2)
                .with_int("linear_before_reset", 1),
        )
        .with_node(NodeProto::new("Squeeze", &["g", "axes"], &["s"]))
        .with_node(
            NodeProto::new("LSTM", &["s", "lstm.weight", "lstm.recurrence"], &["l", "h"])
                .with_int("hidden_size", 2),
        )
        .with_node(NodeProto::new("Tanh", &["l"], &["y"]))
        .with_output("y", DType::F32);
    ModelProto::new(17, graph)
}

fn shapes() -> ModelProto {
    let graph = GraphProto::new("shapes")
        .with_input("x", DType::F32, &["N".into(), 2.into(), 3.into(), 4.into()])
        .with_constant(integers_of("zero", &[0]))
        .with_constant(integers_of("one", &[1]))
        .with_constant(integers_of("two", &[2]))
        .with_constant(integers_of("rest", &[-1]))
        .with_constant(integers_of("starts", &[0, 1]))
        .with_constant(integers_of("ends", &[1, i64::MAX]))
        .with_constant(integers_of("axes", &[1, 3]))
        .with_constant(integers_of("times", &[1, 2]))
        .with_node(NodeProto::new("Shape", &["x"], &["s"]))
        .with_node(NodeProto::new("Gather", &["s", "zero"], &["n"]).with_int("axis", 0))
        .with_node(NodeProto::new("Slice", &["x", "starts", "ends", "axes"], &["c"]))
        .with_node(NodeProto::new("Concat", &["n", "rest"], &["r"]).with_int("axis", 0))
        .with_node(NodeProto::new("Reshape", &["c", "r"], &["f"]))
        .with_node(NodeProto::new("Tile", &["f", "times"], &["t"]))
        .with_node(NodeProto::new("Unsqueeze", &["t", "one"], &["u"]))
        .with_node(NodeProto::new("Split", &["u"], &["a", "b"]).with_int("axis", 2))
        .with_node(NodeProto::new("Greater", &["a", "b"], &["g"]))
        .with_node(NodeProto::new("Where", &["g", "a", "b"], &["w"]))
        .with_node(NodeProto::new("ReduceMean", &["w", "two"], &["m"]).with_int("keepdims", 0))
        .with_node(NodeProto::new("Sub", &["w", "m"], &["d"]))
        .with_node(NodeProto::new("CumSum", &["d", "two"], &["y"]))
        .with_output("y", DType::F32);
    ModelProto::new(18, graph)
}

fn pictures() -> ModelProto {
    let graph = GraphProto::new("pictures")
        .with_input("x", DType::F32, &extents(&[1, 4, 6, 6]))
        .with_constant(weight("norm.weight", &[4], 1))
        .with_constant(weight("norm.bias", &[4], 2))
        .with_constant(weight("norm.mean", &[4], 3))
        .with_constant(TensorProto::new("norm.var", &Tensor::from_f32(&[4], &[1.5; 4]).expect("four")))
        .with_constant(TensorProto::new(
            "factors",
            &Tensor::from_f32(&[4], &[1.0, 1.0, 2.0, 2.0]).expect("four"),
        ))
        .with_constant(integers_of("around", &[0, 0, 1, 1, 0, 0, 1, 1]))
        .with_node(NodeProto::new(
            "BatchNormalization",
            &["x", "norm.weight", "norm.bias", "norm.mean", "norm.var"],
            &["n"],
        ))
        .with_node(NodeProto::new("Pad", &["n", "around"], &["p"]).with_string("mode", "reflect"))
        .with_node(
            NodeProto::new("MaxPool", &["p"], &["m"])
                .with_ints("kernel_shape", &[2, 2])
                .with_ints("strides", &[2, 2]),
        )
        .with_node(NodeProto::new("HardSwish", &["m"], &["h"]))
        .with_node(NodeProto::new("Resize", &["h", "", "factors"], &["r"]).with_string("mode", "nearest"))
        .with_node(NodeProto::new("DepthToSpace", &["r"], &["d"]).with_int("blocksize", 2))
        .with_node(
            NodeProto::new("AveragePool", &["d"], &["a"])
                .with_ints("kernel_shape", &[3, 3])
                .with_int("ceil_mode", 1),
        )
        .with_node(NodeProto::new("Clip", &["a"], &["c"]))
        .with_node(NodeProto::new("ArgMax", &["c"], &["i"]).with_int("axis", 2))
        .with_node(NodeProto::new("Cast", &["i"], &["y"]).with_int("to", 1))
        .with_output("y", DType::F32);
    ModelProto::new(14, graph)
}

/// A convolution between codes, as quantizers write it.
fn codes() -> ModelProto {
    let scalar = |name: &str, value: f32| TensorProto::new(name, &Tensor::scalar_f32(value));
    let integer = |name: &str, dtype: DType, shape: &[usize], values: &[i64]| {
        TensorProto::new(name, &Tensor::from_i64(dtype, shape, values).expect("they fit"))
    };
    let graph = GraphProto::new("codes")
        .with_input("x", DType::F32, &extents(&[1, 2, 4, 4]))
        .with_constant(scalar("x.scale", 0.02))
        .with_constant(integer("x.zero", DType::I8, &[], &[-3]))
        .with_constant(scalar("y.scale", 0.05))
        .with_constant(integer("y.zero", DType::I8, &[], &[4]))
        .with_constant(integer("weight", DType::I8, &[2, 2, 1, 1], &[100, -20, 33, -128]))
        .with_constant(TensorProto::new("weight.scale", &Tensor::from_f32(&[2], &[0.01, 0.02]).expect("two")))
        .with_constant(integer("weight.zero", DType::I8, &[2], &[0, 0]))
        .with_constant(integer("bias", DType::I32, &[2], &[500, -70]))
        .with_constant(TensorProto::new(
            "bias.scale",
            &Tensor::from_f32(&[2], &[0.0002, 0.0004]).expect("two"),
        ))
        .with_node(NodeProto::new("QuantizeLinear", &["x", "x.scale", "x.zero"], &["xq"]))
        .with_node(NodeProto::new("DequantizeLinear", &["xq", "x.scale", "x.zero"], &["xd"]))
        .with_node(
            NodeProto::new("DequantizeLinear", &["weight", "weight.scale", "weight.zero"], &["wd"])
                .with_int("axis", 0),
        )
        .with_node(NodeProto::new("DequantizeLinear", &["bias", "bias.scale"], &["bd"]).with_int("axis", 0))
        .with_node(NodeProto::new("Conv", &["xd", "wd", "bd"], &["c"]))
        .with_node(NodeProto::new("Relu", &["c"], &["r"]))
        .with_node(NodeProto::new("QuantizeLinear", &["r", "y.scale", "y.zero"], &["rq"]))
        .with_node(NodeProto::new("DequantizeLinear", &["rq", "y.scale", "y.zero"], &["y"]))
        .with_output("y", DType::F32);
    ModelProto::new(13, graph)
}

/// A product that is quantized at run time.
fn integers() -> ModelProto {
    let weights: Vec<i64> = (0..12).map(|i| 20 * i - 110).collect();
    let graph = GraphProto::new("integers")
        .with_input("x", DType::F32, &extents(&[1, 3, 4]))
        .with_constant(TensorProto::new(
            "weight",
            &Tensor::from_i64(DType::I8, &[4, 3], &weights).expect("fit"),
        ))
        .with_constant(TensorProto::new("zero", &Tensor::from_i64(DType::I8, &[], &[0]).expect("fits")))
        .with_constant(TensorProto::new("scale", &Tensor::scalar_f32(0.01)))
        .with_constant(weight("bias", &[3], 1))
        .with_node(NodeProto::new("DynamicQuantizeLinear", &["x"], &["q", "qs", "qz"]))
        .with_node(NodeProto::new("MatMulInteger", &["q", "weight", "qz", "zero"], &["m"]))
        .with_node(NodeProto::new("Cast", &["m"], &["f"]).with_int("to", 1))
        .with_node(NodeProto::new("Mul", &["qs", "scale"], &["s"]))
        .with_node(NodeProto::new("Mul", &["f", "s"], &["p"]))
        .with_node(NodeProto::new("Add", &["p", "bias"], &["y"]))
        .with_output("y", DType::F32);
    ModelProto::new(13, graph)
}

fn extents(dims: &[usize]) -> Vec<Extent> {
    dims.iter().map(|dim| (*dim).into()).collect()
}

fn weight(name: &str, shape: &[usize], seed: u64) -> TensorProto {
    let mut random = Rng::new(seed);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| random.uniform(-0.7, 0.7) as f32).collect();
    TensorProto::new(name, &Tensor::from_f32(shape, &values).expect("as many values"))
}

fn integers_of(name: &str, values: &[i64]) -> TensorProto {
    TensorProto::new(name, &Tensor::from_i64(DType::I64, &[values.len()], values).expect("as many values"))
}
