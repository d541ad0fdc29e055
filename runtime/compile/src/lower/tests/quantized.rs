//! Operators that the file quantizes: none may run in float, each stays within a step.

use super::*;
use crate::graph::{Builder, ValueId};
use crate::op::{
    Conv, Coordinates, Layout, NearestRounding, Op, Pad, PadMode, ReduceKind, Resize, ResizeMode, Window,
};

/// Codes with one scale.
#[derive(Clone, Copy)]
struct Step {
    scale: f32,
    zero: i64,
    dtype: DType,
}

const X: Step = Step { scale: 0.03, zero: 7, dtype: DType::I8 };
const Y: Step = Step { scale: 0.05, zero: 120, dtype: DType::U8 };

fn parameters(b: &mut Builder, step: Step) -> [ValueId; 2] {
    let zero = Tensor::from_i64(step.dtype, &[], &[step.zero]).expect("in range");
    [b.constant("scale", Tensor::scalar_f32(step.scale)), b.constant("zero", zero)]
}

/// A quantized input, and its reals.
fn input(b: &mut Builder, name: &str, shape: &[usize]) -> ValueId {
    let x = b.input(name, DType::F32, shape.to_vec()).expect("small");
    let [scale, zero] = parameters(b, X);
    let codes = b.add("q", Op::QuantizeLinear { axis: 0, to: X.dtype }, &[x, scale, zero]).expect("fits");
    b.add("dq", Op::DequantizeLinear { axis: 0 }, &[codes, scale, zero]).expect("fits")
}

/// Rounds `y` and gives its reals back.
fn output(b: &mut Builder, y: ValueId) -> ValueId {
    let [scale, zero] = parameters(b, Y);
    let codes = b.add("qy", Op::QuantizeLinear { axis: 0, to: Y.dtype }, &[y, scale, zero]).expect("fits");
    b.add("y", Op::DequantizeLinear { axis: 0 }, &[codes, scale, zero]).expect("fits")
}

/// Weights behind `DequantizeLinear`, one scale and zero point per output channel.
fn weights(b: &mut Builder, dtype: DType, shape: &[usize], zero: i64) -> ValueId {
    let codes = b.constant("w", values(dtype, shape, 31));
    let scales: Vec<f32> = (0..shape[0]).map(|o| 0.002 + o as f32 * 0.001).collect();
    let scales = b.constant("w_scale", Tensor::from_f32(&[shape[0]], &scales).expect("length"));
    let zeros = Tensor::from_i64(dtype, &[shape[0]], &vec![zero; shape[0]]).expect("in range");
    let zeros = b.constant("w_zero", zeros);
    b.add("dw", Op::DequantizeLinear { axis: 0 }, &[codes, scales, zeros]).expect("fits")
}

/// Asserts that the plan is within a step of the interpreter and that, between the ends, it has only these operators.
fn check(b: Builder, y: ValueId, ops: &[OpCode]) -> Program {
    let program = assert_agrees(&b.finish(&[y]), Y.scale * 1.001);
    let mut found: Vec<OpCode> = program.steps.iter().map(|step| step.op).collect();
    found.retain(|op| !matches!(op, OpCode::Copy));
    let want: Vec<OpCode> = [&[OpCode::Quantize], ops, &[OpCode::Dequantize]].concat();
    assert_eq!(found, want);
    assert!(program.notes.float_nodes.is_empty(), "{:?}", program.notes.float_nodes);
    program
}

fn conv(groups: usize) -> Op {
    let ones = vec![1; 2];
    let window = Window {
        kernel: vec![3; 2],
        strides: ones.clone(),
        dilations: ones.clone(),
        pads_begin: ones.clone(),
        pads_end: ones,
    };
    Op::Conv(Conv { window, groups, layout: Layout::ChannelsFirst })
}

#[test]
fn weights_with_zero_points_stay_int8() {
    let mut b = Builder::new(0);
    let x = input(&mut b, "x", &[1, 2, 5, 4]);
    let w = weights(&mut b, DType::U8, &[3, 2, 3, 3], 40);
    let y = b.add("conv", conv(1), &[x, w]).unwrap();
    let y = output(&mut b, y);
    check(b, y, &[OpCode::QConv]);
}

#[test]
fn batch_normalization_between_codes_is_a_site() {
    let mut b = Builder::new(0);
    let x = input(&mut b, "x", &[1, 2, 5, 4]);
    let mut inputs = vec![x];
    inputs.extend((5..8).map(|seed| b.constant("norm", reference::noise(&[2], seed))));
    inputs.push(b.constant("variance", Tensor::from_f32(&[2], &[4.0, 9.0]).unwrap()));
    let y = b.add("norm", Op::BatchNorm { axis: 1, epsilon: 1e-3 }, &inputs).unwrap();
    let y = output(&mut b, y);
    let w = weights(&mut b, DType::I8, &[3, 2, 3, 3], 0);
    let y = b.add("conv", conv(1), &[y, w]).unwrap();
    let y = output(&mut b, y);
    let program = assert_agrees(&b.finish(&[y]), Y.scale * 1.001);
    let found = census(&program);
    assert_eq!((found[&OpCode::Norm], found[&OpCode::QConv], found[&OpCode::Dequantize]), (2, 1, 2));
    assert_eq!(program.sites[0].kind, ingraft_kernel::SiteKind::Norm);
    assert!(program.notes.float_nodes.iter().any(|[_, op, _]| op == "BatchNormalization"));
}

#[test]
fn depthwise_results_need_not_be_rounded() {
    let mut b = Builder::new(0);
    let x = input(&mut b, "x", &[1, 3, 5, 4]);
    let w = weights(&mut b, DType::I8, &[3, 1, 3, 3], 0);
    let y = b.add("y", conv(3), &[x, w]).unwrap();
    let program = assert_agrees(&b.finish(&[y]), 1e-4);
    assert_eq!(census(&program)[&OpCode::QConv], 1);
}

#[test]
fn borders_and_resampling_move_codes() {
    let mut b = Builder::new(0);
    let x = input(&mut b, "x", &[1, 2, 3, 4]);
    let edges = vec![0, 0, 1, 2];
    let pad = Pad { mode: PadMode::Constant(0.0), before: edges.clone(), after: edges.clone() };
    let y = b.add("pad", Op::Pad(pad), &[x]).unwrap();
    let pad = Pad { mode: PadMode::Reflect, before: edges.clone(), after: edges };
    let y = b.add("mirror", Op::Pad(pad), &[y]).unwrap();
    let y = output(&mut b, y);
    let program = check(b, y, &[OpCode::Fill, OpCode::Requantize]);
    assert!(program.steps.iter().all(|step| step.op != OpCode::Unary));

    let mut b = Builder::new(0);
    let x = input(&mut b, "x", &[1, 2, 3, 4]);
    let resize = Resize {
        mode: ResizeMode::Nearest(NearestRounding::Floor),
        coordinates: Coordinates::Asymmetric,
        scales: vec![1.0, 1.0, 2.0, 2.0],
        shape: vec![1, 2, 6, 8],
    };
    let y = b.add("y", Op::Resize(resize), &[x]).unwrap();
    let program = lowered(&b.finish(&[y])).unwrap();
    let ops: Vec<OpCode> = program.steps.iter().map(|step| step.op).collect();
    assert_eq!(ops, [OpCode::Quantize, OpCode::Resize, OpCode::Dequantize]);
}

#[test]
fn reductions_over_any_axes_stay_int8() {
    for kind in [ReduceKind::Mean, ReduceKind::Max, ReduceKind::Sum] {
        let mut b = Builder::new(0);
        let x = input(&mut b, "x", &[2, 3, 4]);
        let y = b.add("reduce", Op::Reduce { kind, axes: vec![0, 2], keep_dims: false }, &[x]).unwrap();
        let y = output(&mut b, y);
        check(b, y, &[OpCode::Reduce]);
    }
}

#[test]
fn products_of_two_activations_multiply_codes() {
    let mut b = Builder::new(0);
    let (lhs, rhs) = (input(&mut b, "a", &[2, 3, 6]), input(&mut b, "b", &[6, 4]));
    let y = b.add("product", Op::MatMul, &[lhs, rhs]).unwrap();
    let y = output(&mut b, y);
    let program = assert_agrees(&b.finish(&[y]), Y.scale * 1.001);
    let census = census(&program);
    assert_eq!((census.get(&OpCode::MatMulInteger), census.get(&OpCode::MatMul)), (Some(&1), None));
    assert!(program.notes.float_nodes.is_empty());
}

#[test]
fn parameters_per_channel_or_of_other_widths_are_arithmetic() {
    for dtype in [DType::I8, DType::U8, DType::I16] {
        let mut b = Builder::new(0);
        let x = b.input("x", DType::F32, vec![2, 3, 4]).unwrap();
        let scale = b.constant("scale", Tensor::from_f32(&[3], &[0.1, 0.2, 0.05]).unwrap());
        let zero = b.constant("zero", Tensor::from_i64(dtype, &[3], &[3, 100, 7]).unwrap());
        let quantized = Op::QuantizeLinear { axis: 1, to: dtype };
        let codes = b.add("codes", quantized, &[x, scale, zero]).unwrap();
        let y = b.add("y", Op::DequantizeLinear { axis: 1 }, &[codes, scale, zero]).unwrap();
        assert_agrees(&b.finish(&[codes, y]), 1e-6);
    }
}
