use ingraft_tensor::DType;

use super::*;
use crate::graph::Builder;
use crate::op::{Binary, Layout, PadMode, Pool, PoolKind, ReduceKind, Unary, Window};
use crate::op::{Pad, SliceRange};
use crate::reference::{assert_same, conv_2d, noise};

fn transposes(graph: &Graph) -> usize {
    graph.nodes.iter().filter(|n| matches!(n.op, Op::Transpose { .. })).count()
}

fn assert_channels_last(graph: &Graph) {
    for node in &graph.nodes {
        let layout = match &node.op {
            Op::Conv(conv) | Op::ConvInteger(conv) => conv.layout,
            Op::Pool(pool) => pool.layout,
            Op::GroupNorm { layout, .. } => *layout,
            _ => Layout::ChannelsLast,
        };
        assert_eq!(layout, Layout::ChannelsLast, "{}", node.name);
    }
}

/// Runs the pass and checks that it computes the same and leaves this many transposes.
fn check(b: Builder, outputs: &[ValueId], left: usize) -> Graph {
    let before = b.finish(outputs);
    let after = channels_last(before.clone()).into_graph();
    assert_channels_last(&after);
    assert_same(&before, &after, 1e-6);
    assert_eq!(transposes(&after), left, "{:?}", after.census());
    after
}

fn conv(b: &mut Builder, x: ValueId, channels: (usize, usize)) -> ValueId {
    let w = b.constant("w", noise(&[channels.1, channels.0, 3, 3], 1));
    let bias = b.constant("b", noise(&[channels.1], 2));
    b.add("conv", conv_2d([3, 3], [1, 1], 1), &[x, w, bias]).unwrap()
}

#[test]
fn transposes_around_convolutions_cancel() {
    let mut b = Builder::new(0);
    let x = b.input("x", DType::F32, vec![1, 5, 6, 2]).unwrap();
    let first = b.add("t", Op::Transpose { perm: vec![0, 3, 1, 2] }, &[x]).unwrap();
    let first = conv(&mut b, first, (2, 4));
    let first = b.add("t", Op::Transpose { perm: vec![0, 2, 3, 1] }, &[first]).unwrap();
    let relu = b.add("relu", Op::Unary(Unary::Relu), &[first]).unwrap();
    let second = b.add("t", Op::Transpose { perm: vec![0, 3, 1, 2] }, &[relu]).unwrap();
    let second = conv(&mut b, second, (4, 4));
    let second = b.add("t", Op::Transpose { perm: vec![0, 2, 3, 1] }, &[second]).unwrap();
    let y = b.add("y", Op::Binary(Binary::Add), &[relu, second]).unwrap();
    check(b, &[y], 0);
}

#[test]
fn only_inputs_and_outputs_of_the_file_are_transposed() {
    let mut b = Builder::new(0);
    let x = b.input("x", DType::F32, vec![1, 2, 5, 6]).unwrap();
    let scale = b.constant("scale", Tensor::scalar_f32(0.02));
    let zero = b.constant("zero", Tensor::from_i64(DType::I8, &[], &[3]).unwrap());
    let q = b.add("q", Op::QuantizeLinear { axis: 0, to: DType::I8 }, &[x, scale, zero]).unwrap();
    let dq = b.add("dq", Op::DequantizeLinear { axis: 0 }, &[q, scale, zero]).unwrap();
    let y = conv(&mut b, dq, (2, 3));
    let graph = check(b, &[y], 2);
    assert!(matches!(graph.nodes[0].op, Op::Transpose { .. }));
    assert_eq!(graph[graph.inputs[0]].shape, [1, 2, 5, 6]);
}

#[test]
fn operators_take_the_order_of_their_operand() {
    let mut b = Builder::new(0);
    let x = b.input("x", DType::F32, vec![1, 2, 5, 6]).unwrap();
    let y = conv(&mut b, x, (2, 3));
    let row = b.constant("row", noise(&[6], 3));
    let y = b.add("row", Op::Binary(Binary::Mul), &[row, y]).unwrap();
    let channel = b.constant("channel", noise(&[3, 1, 1], 4));
    let y = b.add("channel", Op::Binary(Binary::Sub), &[y, channel]).unwrap();
    let mode = PadMode::Constant(0.5);
    let pad = Pad { mode, before: vec![0, 1, 0, 2], after: vec![0, 0, 1, 0] };
    let y = b.add("pad", Op::Pad(pad), &[y]).unwrap();
    let ranges = [(0, 1), (1, 3), (2, 4), (0, 7)].map(|(start, len)| SliceRange { start, step: 1, len });
    let y = b.add("slice", Op::Slice { ranges: ranges.to_vec() }, &[y]).unwrap();
    let y = b.add("softmax", Op::Softmax { axis: 1, log: false }, &[y]).unwrap();
    let y = b.add("tile", Op::Tile { repeats: vec![1, 2, 1, 1] }, &[y]).unwrap();
    let y = b.add("concat", Op::Concat { axis: 2 }, &[y, y]).unwrap();
    let (ones, zeros) = (vec![1; 2], vec![0; 2]);
    let window = Window {
        kernel: vec![2; 2],
        strides: vec![2; 2],
        dilations: ones,
        pads_begin: zeros.clone(),
        pads_end: zeros,
    };
    let pool = Pool { kind: PoolKind::Max, window, ceil: false, layout: Layout::ChannelsFirst };
    let y = b.add("pool", Op::Pool(pool), &[y]).unwrap();
    let mean = Op::Reduce { kind: ReduceKind::Mean, axes: vec![2, 3], keep_dims: true };
    let gate = b.add("mean", mean, &[y]).unwrap();
    let y = b.add("gated", Op::Binary(Binary::Mul), &[gate, y]).unwrap();
    let y =
        b.add("max", Op::Reduce { kind: ReduceKind::Max, axes: vec![3], keep_dims: false }, &[y]).unwrap();
    // One transpose for the input, one for the output [1, 6, 4].
    check(b, &[y], 2);
}

#[test]
fn dimensions_of_one_move_by_reshape() {
    let mut b = Builder::new(0);
    let x = b.input("x", DType::F32, vec![1, 1, 5, 6]).unwrap();
    let y = conv(&mut b, x, (1, 3));
    let mean = Op::Reduce { kind: ReduceKind::Mean, axes: vec![2, 3], keep_dims: true };
    let y = b.add("mean", mean, &[y]).unwrap();
    let y = b.add("flat", Op::Reshape { shape: vec![1, 3] }, &[y]).unwrap();
    check(b, &[y], 0);
}

#[test]
fn codes_are_transposed_rather_than_reals() {
    let mut b = Builder::new(0);
    let x = b.input("x", DType::F32, vec![1, 2, 5, 6]).unwrap();
    let y = conv(&mut b, x, (2, 3));
    let scale = b.constant("scale", Tensor::scalar_f32(0.2));
    let q = b.add("q", Op::QuantizeLinear { axis: 0, to: DType::U8 }, &[y, scale]).unwrap();
    let dq = b.add("dq", Op::DequantizeLinear { axis: 0 }, &[q, scale]).unwrap();
    let y = b.add("flat", Op::Reshape { shape: vec![1, 90] }, &[dq]).unwrap();
    let graph = check(b, &[y], 2);
    let inner = graph.nodes.iter().rfind(|n| matches!(n.op, Op::Transpose { .. })).unwrap();
    assert_eq!(graph[inner.outputs[0]].dtype, DType::U8);
}

#[test]
fn outputs_keep_names_and_orders_are_told() {
    let mut b = Builder::new(0);
    let x = b.input("x", DType::F32, vec![1, 4, 3, 2]).unwrap();
    let t = b.add("t", Op::Transpose { perm: vec![0, 3, 1, 2] }, &[x]).unwrap();
    let c = conv(&mut b, t, (2, 3));
    let before = b.finish(&[t, c]);
    let last = channels_last(before.clone());
    let names: Vec<_> = last.graph().outputs.iter().map(|&id| last.graph()[id].name.as_str()).collect();
    assert_eq!(names, ["t", "conv"]);
    assert_eq!(last.order(c), Some([0, 2, 3, 1].as_slice()));
    assert_same(&before, last.graph(), 1e-6);
}
