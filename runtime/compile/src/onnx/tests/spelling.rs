use std::collections::BTreeMap;

use ingraft_tensor::DType;

use super::super::proto::{GraphProto, NodeProto};
use super::{floats, graph, ints, node, read};
use crate::graph::Tensor;
use crate::reference::{assert_close, noise, run};

/// Asserts that two graphs, each with its opset, give the same `y` for noise as `x`.
fn assert_equal(first: (i64, GraphProto), second: (i64, GraphProto)) {
    let name = first.1.node[0].op_type.clone();
    let [first, second] = [first, second].map(|(opset, proto)| {
        let graph = read(opset, proto).unwrap_or_else(|e| panic!("{e}"));
        let inputs = graph.inputs.iter().map(|&id| (graph[id].name.clone(), noise(&graph[id].shape, 3)));
        run(&graph, &inputs.collect::<BTreeMap<_, _>>())["y"].clone()
    });
    assert_close(&name, &first, &second, 1e-6);
}

const SHAPE: [usize; 4] = [2, 4, 3, 6];

fn on_noise(constants: &[(&str, Tensor)], nodes: Vec<NodeProto>) -> GraphProto {
    graph(&SHAPE, constants, nodes)
}

#[test]
fn axes_as_attribute_or_operand() {
    let sum = |inputs: &[&str]| node("ReduceSum", inputs).with_int("keepdims", 0);
    assert_equal(
        (11, on_noise(&[], vec![sum(&["x"]).with_ints("axes", &[-1, 1])])),
        (13, on_noise(&[("a", ints(&[3, 1]))], vec![sum(&["x", "a"])])),
    );
    assert_equal(
        (11, on_noise(&[], vec![node("Unsqueeze", &["x"]).with_ints("axes", &[0, -1])])),
        (13, on_noise(&[("a", ints(&[5, 0]))], vec![node("Unsqueeze", &["x", "a"])])),
    );
    assert_equal(
        (11, graph(&[2, 1, 3, 1], &[], vec![node("Squeeze", &["x"]).with_ints("axes", &[1, 3])])),
        (13, graph(&[2, 1, 3, 1], &[], vec![node("Squeeze", &["x"])])),
    );
    assert_equal(
        (13, on_noise(&[], vec![node("GlobalAveragePool", &["x"])])),
        (18, on_noise(&[("a", ints(&[2, 3]))], vec![node("ReduceMean", &["x", "a"])])),
    );
}

#[test]
fn bounds_as_attribute_or_operand() {
    let bounds = [("lo", Tensor::scalar_f32(-0.5)), ("hi", Tensor::scalar_f32(0.75))];
    assert_equal(
        (9, on_noise(&[], vec![node("Clip", &["x"]).with_float("min", -0.5).with_float("max", 0.75)])),
        (13, on_noise(&bounds, vec![node("Clip", &["x", "lo", "hi"])])),
    );
    let old =
        node("Slice", &["x"]).with_ints("starts", &[-3]).with_ints("ends", &[4]).with_ints("axes", &[3]);
    let bounds = [("s", ints(&[3])), ("e", ints(&[-2])), ("a", ints(&[-1]))];
    assert_equal(
        (9, on_noise(&[], vec![old])),
        (13, on_noise(&bounds, vec![node("Slice", &["x", "s", "e", "a"])])),
    );
    let old = node("Pad", &["x"]).with_ints("pads", &[0, 1, 1, -2]).with_float("value", 0.5);
    let pads = [("p", ints(&[1, 0, -2, 1])), ("v", Tensor::scalar_f32(0.5)), ("a", ints(&[1, 0]))];
    assert_equal(
        (10, graph(&[2, 4], &[], vec![old])),
        (18, graph(&[2, 4], &pads, vec![node("Pad", &["x", "p", "v", "a"])])),
    );
}

#[test]
fn slices_and_splits_pick_what_gathers_pick() {
    let bounds = [
        ("s", ints(&[1, -2])),
        ("e", ints(&[i64::MAX, i64::MIN])),
        ("a", ints(&[1, 3])),
        ("d", ints(&[2, -3])),
    ];
    let gathers = vec![
        NodeProto::new("Gather", &["x", "i"], &["g"]).with_int("axis", 1),
        node("Gather", &["g", "j"]).with_int("axis", -1),
    ];
    assert_equal(
        (13, on_noise(&bounds, vec![node("Slice", &["x", "s", "e", "a", "d"])])),
        (13, on_noise(&[("i", ints(&[1, 3])), ("j", ints(&[4, 1]))], gathers)),
    );
    let split = |inputs: &[&str]| NodeProto::new("Split", inputs, &["", "y"]);
    let gather = node("Gather", &["x", "i"]).with_int("axis", 1);
    let gather = || on_noise(&[("i", ints(&[2, 3]))], vec![gather.clone()]);
    assert_equal((11, on_noise(&[], vec![split(&["x"]).with_int("axis", 1)])), (13, gather()));
    let sized = split(&["x", "n"]).with_int("axis", -3);
    assert_equal((13, on_noise(&[("n", ints(&[2, 2]))], vec![sized])), (13, gather()));
    assert_equal(
        (18, on_noise(&[], vec![split(&["x"]).with_int("axis", 1).with_int("num_outputs", 2)])),
        (13, gather()),
    );
}

#[test]
fn old_softmax_is_over_a_matrix() {
    let shapes = [("matrix", ints(&[8, -1])), ("whole", ints(&[2, 4, 3, 6]))];
    let written_out = vec![
        NodeProto::new("Reshape", &["x", "matrix"], &["m"]),
        NodeProto::new("Softmax", &["m"], &["n"]),
        node("Reshape", &["n", "whole"]),
    ];
    assert_equal(
        (11, on_noise(&[], vec![node("Softmax", &["x"]).with_int("axis", 2)])),
        (13, on_noise(&shapes, written_out)),
    );
}

#[test]
fn old_group_norm_has_parameters_per_group() {
    let groups = [("s", floats(&[2], &[1.5, -2.0])), ("b", floats(&[2], &[0.1, 0.2]))];
    let channels = [("s", floats(&[4], &[1.5, 1.5, -2.0, -2.0])), ("b", floats(&[4], &[0.1, 0.1, 0.2, 0.2]))];
    let norm = || node("GroupNormalization", &["x", "s", "b"]).with_int("num_groups", 2);
    assert_equal((18, on_noise(&groups, vec![norm()])), (21, on_noise(&channels, vec![norm()])));
}

#[test]
fn batch_first_recurrence_is_transposed() {
    let weights = [("w", noise(&[1, 8, 3], 1)), ("r", noise(&[1, 8, 2], 2))];
    let lstm = |inputs: &[&str], outputs: &[&str]| {
        NodeProto::new("LSTM", inputs, outputs).with_int("hidden_size", 2)
    };
    let batch_first = vec![lstm(&["x", "w", "r"], &["y"]).with_int("layout", 1)];
    let time_first = vec![
        NodeProto::new("Transpose", &["x"], &["t"]).with_ints("perm", &[1, 0, 2]),
        lstm(&["t", "w", "r"], &["s"]),
        node("Transpose", &["s"]).with_ints("perm", &[2, 0, 1, 3]),
    ];
    assert_equal(
        (14, graph(&[2, 5, 3], &weights, batch_first)),
        (14, graph(&[2, 5, 3], &weights, time_first)),
    );
}

#[test]
fn quantized_operators_are_their_dequantized_form() {
    let code = |v| Tensor::from_i64(DType::U8, &[], &[v]).unwrap();
    let weights = Tensor::from_i64(DType::I8, &[2, 4, 1, 1], &[5, -3, 100, -128, 1, 2, 3, 4]).unwrap();
    let constants = [
        ("xs", Tensor::scalar_f32(0.02)),
        ("xz", code(100)),
        ("w", weights),
        ("ws", floats(&[2], &[0.5, 0.25])),
        ("wz", Tensor::from_i64(DType::I8, &[2], &[0, 0]).unwrap()),
        ("ys", Tensor::scalar_f32(0.9)),
        ("yz", code(120)),
        ("b", Tensor::from_i64(DType::I32, &[2], &[7, -9]).unwrap()),
        ("bs", floats(&[2], &[0.01, 0.005])),
    ];
    let quantize = NodeProto::new("QuantizeLinear", &["x", "xs", "xz"], &["q"]);
    let dequantize = NodeProto::new("DequantizeLinear", &["p", "ys", "yz"], &["y"]);
    let fused = NodeProto::new("QLinearConv", &["q", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"], &["p"]);
    let per_channel =
        |inputs: &[&str], output| NodeProto::new("DequantizeLinear", inputs, &[output]).with_int("axis", 0);
    let written_out = vec![
        quantize.clone(),
        NodeProto::new("DequantizeLinear", &["q", "xs", "xz"], &["xd"]),
        per_channel(&["w", "ws", "wz"], "wd"),
        per_channel(&["b", "bs"], "bd"),
        NodeProto::new("Conv", &["xd", "wd", "bd"], &["c"]),
        NodeProto::new("QuantizeLinear", &["c", "ys", "yz"], &["p"]),
        dequantize.clone(),
    ];
    assert_equal(
        (13, on_noise(&constants[..8], vec![quantize, fused, dequantize])),
        (13, on_noise(&constants, written_out)),
    );
}

#[test]
fn blocks_move_to_depth_and_back() {
    for mode in ["DCR", "CRD"] {
        let there =
            NodeProto::new("SpaceToDepth", &["x"], &["d"]).with_int("blocksize", 3).with_string("mode", mode);
        let back = node("DepthToSpace", &["d"]).with_int("blocksize", 3).with_string("mode", mode);
        assert_equal(
            (28, on_noise(&[], vec![there, back])),
            (28, on_noise(&[], vec![node("Identity", &["x"])])),
        );
    }
}

#[test]
fn shape_arithmetic_is_gone_after_import() {
    let constants = [("i", ints(&[1])), ("minus", ints(&[-1])), ("two", ints(&[2]))];
    let nodes = vec![
        NodeProto::new("Shape", &["x"], &["shape"]),
        NodeProto::new("Gather", &["shape", "i"], &["c"]),
        NodeProto::new("Div", &["c", "two"], &["half"]),
        NodeProto::new("Concat", &["half", "minus"], &["target"]).with_int("axis", 0),
        node("Reshape", &["x", "target"]),
    ];
    let graph = read(13, on_noise(&constants, nodes)).unwrap();
    assert_eq!(graph.census(), [("Reshape", 1)].into());
    assert_eq!(graph[graph.outputs[0]].shape, [2, 72]);
}
