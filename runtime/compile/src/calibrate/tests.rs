//! The whole way from a float graph to codes, on small networks made here.

use std::collections::BTreeMap;

use ingraft_adapter::Base;
use ingraft_kernel::OpCode;
use ingraft_tensor::DType;

use super::observe::{floats, in_session};
use super::*;
use crate::aligned::Aligned;
use crate::graph::{Builder, Tensor, channels_last};
use crate::lower::emit::{EmitOptions, emit};
use crate::lower::{Program, select};
use crate::op::{Binary, Layout, Pad, PadMode, Pool, PoolKind, ReduceKind, Unary, Window};
use crate::quantize::settle;
use crate::reference::{self, conv_2d, noise};

/// A convolution in ONNX's layout, as tests of this module write it.
pub(super) fn conv(kernel: [usize; 2], pad: usize, groups: usize) -> Op {
    conv_2d(kernel, [pad, pad], groups)
}

/// `count` samples of noise for every input of `graph`.
pub(super) fn samples(graph: &Graph, count: usize) -> Vec<Vec<(String, Vec<u8>)>> {
    let input = |(index, id): (usize, &ValueId), sample: usize| {
        let value = &graph[*id];
        (value.name.clone(), noise(&value.shape, (900 + sample * 7 + index) as u32).bytes().to_vec())
    };
    (0..count)
        .map(|sample| graph.inputs.iter().enumerate().map(|pair| input(pair, sample)).collect())
        .collect()
}

fn options(graph: &Graph) -> CalibrateOptions {
    CalibrateOptions { samples: samples(graph, 12), ..CalibrateOptions::default() }
}

fn calibrated(graph: &Graph, options: &CalibrateOptions) -> Calibrated {
    let mut made = calibrate(graph.clone(), Diagonals::default(), options).unwrap();
    settle(&mut made.graph);
    made
}

fn lowered(made: &Calibrated) -> Program {
    select(&made.graph).unwrap().annotated(made.diagonals.clone(), &made.float_reasons)
}

/// The first output of `program` on samples the calibration has not seen.
fn outputs(program: &Program, graph: &Graph, count: usize) -> Vec<f32> {
    let plan = Aligned::of(&emit(program, None, &EmitOptions::default()).unwrap());
    let mut all = Vec::new();
    let ran = in_session(&plan, &Host::SCALAR, |session| {
        for sample in samples(graph, 40 + count).iter().skip(40) {
            for (index, (_, bytes)) in sample.iter().enumerate() {
                session.write_input(index, bytes)?;
            }
            session.run(&Base)?;
            all.extend(floats(session.output(0).unwrap().bytes()));
        }
        Ok(())
    });
    ran.unwrap();
    all
}

/// Σ(a−b)² ÷ Σa².
fn error(wanted: &[f32], found: &[f32]) -> f64 {
    assert_eq!(wanted.len(), found.len());
    let square = |v: f32| f64::from(v).powi(2);
    let (noise, signal): (f64, f64) =
        (wanted.iter().zip(found).map(|(a, b)| square(a - b)).sum(), wanted.iter().map(|a| square(*a)).sum());
    noise / signal
}

fn ops(program: &Program) -> BTreeMap<OpCode, usize> {
    let mut counts = BTreeMap::new();
    program.steps.iter().for_each(|step| *counts.entry(step.op).or_insert(0) += 1);
    counts
}

fn pool(kind: PoolKind) -> Op {
    let window = Window {
        kernel: vec![2, 2],
        strides: vec![2, 2],
        dilations: vec![1, 1],
        pads_begin: vec![0, 0],
        pads_end: vec![0, 0],
    };
    Op::Pool(Pool { kind, window, ceil: false, layout: Layout::ChannelsFirst })
}

/// Every operator with an integer form, between two convolutions and a classifier.
fn network() -> Graph {
    let mut b = Builder::new(0);
    let x = b.input("x", DType::F32, vec![1, 3, 12, 12]).unwrap();
    let weight = |b: &mut Builder, name: &str, shape: &[usize]| {
        let count: usize = shape.iter().product();
        let values: Vec<f32> =
            noise(shape, count as u32).to_f32().iter().map(|v| v / (count as f32 / 6.0).sqrt()).collect();
        b.constant(name, Tensor::from_f32(shape, &values).unwrap())
    };
    let (w1, b1) = (weight(&mut b, "w1", &[8, 3, 3, 3]), weight(&mut b, "b1", &[8]));
    let stem = b.add("stem", conv([3, 3], 0, 1), &[x, w1, b1]).unwrap();
    let stem = b.add("stem.relu", Op::Unary(Unary::Relu), &[stem]).unwrap();
    let border = Pad { mode: PadMode::Constant(0.0), before: vec![0, 0, 1, 0], after: vec![0, 0, 1, 2] };
    let padded = b.add("padded", Op::Pad(border), &[stem]).unwrap();
    let w2 = weight(&mut b, "w2", &[8, 1, 3, 3]);
    let deep = b.add("deep", conv([3, 3], 1, 8), &[padded, w2]).unwrap();
    let deep = b.add("deep.swish", Op::Unary(Unary::HardSwish), &[deep]).unwrap();
    let squeezed = Op::Reduce { kind: ReduceKind::Mean, axes: vec![2, 3], keep_dims: true };
    let gate = b.add("squeeze", squeezed.clone(), &[deep]).unwrap();
    let w3 = weight(&mut b, "w3", &[8, 8, 1, 1]);
    let gate = b.add("gate", conv([1, 1], 0, 1), &[gate, w3]).unwrap();
    let gate = b.add("gate.sigmoid", Op::Unary(Unary::Sigmoid), &[gate]).unwrap();
    let gated = b.add("gated", Op::Binary(Binary::Mul), &[deep, gate]).unwrap();
    let shift = weight(&mut b, "shift", &[1, 8, 1, 12]);
    let shifted = b.add("shifted", Op::Binary(Binary::Add), &[gated, shift]).unwrap();
    let sum = b.add("sum", Op::Binary(Binary::Add), &[shifted, padded]).unwrap();
    let sum = b.add("sum.relu", Op::Unary(Unary::Relu), &[sum]).unwrap();
    let most = b.add("most", pool(PoolKind::Max), &[sum]).unwrap();
    let mean = b.add("mean", pool(PoolKind::Average { count_include_pad: false }), &[sum]).unwrap();
    let both = b.add("both", Op::Concat { axis: 1 }, &[most, mean]).unwrap();
    let w4 = weight(&mut b, "w4", &[8, 16, 3, 3]);
    let last = b.add("last", conv([3, 3], 1, 1), &[both, w4]).unwrap();
    let pooled = b.add("pooled", squeezed, &[last]).unwrap();
    let flat = b.add("flat", Op::Reshape { shape: vec![1, 8] }, &[pooled]).unwrap();
    let (w5, b5) = (weight(&mut b, "w5", &[8, 5]), weight(&mut b, "b5", &[5]));
    let logits = b.add("product", Op::MatMul, &[flat, w5]).unwrap();
    let logits = b.add("logits", Op::Binary(Binary::Add), &[logits, b5]).unwrap();
    channels_last(b.finish(&[logits])).into_graph()
}

#[test]
fn a_network_of_operators_with_integer_forms_computes_on_codes() {
    let graph = network();
    let made = calibrated(&graph, &options(&graph));
    let program = lowered(&made);
    assert_eq!(program.notes.float_nodes, Vec::<[String; 3]>::new());
    let integer = [
        OpCode::Quantize,
        OpCode::QConv,
        OpCode::QDepthwise,
        OpCode::QAdd,
        OpCode::QMul,
        OpCode::QPool,
        OpCode::Lookup,
        OpCode::Copy,
        OpCode::Fill,
        OpCode::Requantize,
    ];
    let found = ops(&program);
    assert!(found.keys().all(|op| integer.contains(op)), "{found:?}");
    assert_eq!((found[&OpCode::QConv], found[&OpCode::QDepthwise], found[&OpCode::QPool]), (4, 1, 4));
    let want = outputs(&select(&graph).unwrap(), &graph, 20);
    let off = error(&want, &outputs(&program, &graph, 20));
    assert!(off < 2e-3, "{off}");
}

#[test]
fn batch_normalization_that_no_convolution_took_in_computes_on_codes() {
    let mut b = Builder::new(0);
    let x = b.input("x", DType::F32, vec![1, 3, 6, 6]).unwrap();
    let (w1, w2) = (b.constant("w1", noise(&[4, 3, 3, 3], 1)), b.constant("w2", noise(&[5, 4, 1, 1], 2)));
    let stem = b.add("stem", conv([3, 3], 1, 1), &[x, w1]).unwrap();
    let stem = b.add("stem.relu", Op::Unary(Unary::Relu), &[stem]).unwrap();
    let mut inputs = vec![stem];
    inputs.extend((3..6).map(|seed| b.constant("norm", noise(&[4], seed))));
    inputs.push(b.constant("variance", Tensor::from_f32(&[4], &[9.0, 4.0, 16.0, 25.0]).unwrap()));
    let norm = b.add("norm", Op::BatchNorm { axis: 1, epsilon: 1e-5 }, &inputs).unwrap();
    let last = b.add("last", conv([1, 1], 0, 1), &[norm, w2]).unwrap();
    let graph = channels_last(b.finish(&[last])).into_graph();
    let program = lowered(&calibrated(&graph, &options(&graph)));
    assert_eq!(program.notes.float_nodes, Vec::<[String; 3]>::new());
    assert_eq!((ops(&program).get(&OpCode::Norm), ops(&program)[&OpCode::QMul]), (None, 1));
    let want = outputs(&select(&graph).unwrap(), &graph, 20);
    let off = error(&want, &outputs(&program, &graph, 20));
    assert!(off < 2e-3, "{off}");
}

/// Codes as the graph states them, by the direct interpreter.
#[test]
fn the_plan_computes_what_the_quantized_graph_states() {
    let graph = network();
    let made = calibrated(&graph, &options(&graph));
    let found = outputs(&lowered(&made), &graph, 4);
    let mut wanted = Vec::new();
    for sample in samples(&graph, 44).iter().skip(40) {
        let x = Tensor::new(DType::F32, vec![1, 3, 12, 12], sample[0].1.clone()).unwrap();
        let stated = reference::run(&made.graph, &BTreeMap::from([("x".to_owned(), x)]));
        wanted.extend(stated["logits"].to_f32());
    }
    let off = error(&wanted, &found);
    assert!(off < 1e-4, "{off}");
}

#[test]
fn weights_are_symmetric_codes_per_output_channel_under_their_own_name() {
    let graph = network();
    let made = calibrated(&graph, &options(&graph));
    for (name, axis, channels) in [("w1", 0, 8), ("w2", 0, 8), ("w5", 1, 5)] {
        let codes = made.graph.find(name).unwrap();
        let konst = made.graph.konst(codes).unwrap();
        assert_eq!(konst.dtype(), DType::I8);
        assert!(konst.to_i64().iter().all(|code| (-127..=127).contains(code)));
        let node = made.graph.nodes.iter().find(|node| node.input(0) == Some(codes)).unwrap();
        assert_eq!(node.op, Op::DequantizeLinear { axis });
        assert_eq!((made.graph.konst_input(node, 1).unwrap().elements(), node.input(2)), (channels, None));
    }
    let sites: Vec<String> = lowered(&made).sites.into_iter().map(|site| site.name).collect();
    assert_eq!(sites, ["w1", "w2", "w3", "w4", "w5"]);
}

#[test]
fn bias_correction_takes_the_mean_error_away() {
    let graph = network();
    let corrected = CalibrateOptions { samples: samples(&graph, 40), ..CalibrateOptions::default() };
    let plain = CalibrateOptions { bias_correction: false, ..corrected.clone() };
    let want = outputs(&select(&graph).unwrap(), &graph, 60);
    let shift = |options: &CalibrateOptions| {
        let found = outputs(&lowered(&calibrated(&graph, options)), &graph, 60);
        let mut means = [0.0f64; 5];
        for (i, (w, f)) in want.iter().zip(&found).enumerate() {
            means[i % 5] += f64::from(f - w) / 60.0;
        }
        means.iter().map(|m| m.abs()).sum::<f64>()
    };
    let (before, after) = (shift(&plain), shift(&corrected));
    assert!(after < before / 2.0, "{before} {after}");
}

/// A 1×1 and a depthwise convolution with ReLU, a classifier, and channels scaled apart between them.
fn lopsided(spread: f32) -> Graph {
    let mut b = Builder::new(0);
    let x = b.input("x", DType::F32, vec![1, 4, 6, 6]).unwrap();
    let factor = |c: usize| spread.powi((c as i32 * 5 % 9) - 4);
    let scaled = |tensor: Tensor, factor: &dyn Fn(usize) -> f32| {
        let values: Vec<f32> = tensor.to_f32().iter().enumerate().map(|(i, v)| v * factor(i)).collect();
        Tensor::from_f32(tensor.shape(), &values).unwrap()
    };
    let w1 = b.constant("w1", scaled(noise(&[8, 4, 1, 1], 1), &|i| factor(i / 4)));
    let w2 = b.constant("w2", scaled(noise(&[8, 1, 3, 3], 3), &|i| 1.0 / factor(i / 9)));
    let w3 = b.constant("w3", noise(&[5, 8, 6, 6], 4));
    let mut y = b.add("y1", conv([1, 1], 0, 1), &[x, w1]).unwrap();
    y = b.add("a1", Op::Unary(Unary::Relu), &[y]).unwrap();
    y = b.add("y2", conv([3, 3], 1, 8), &[y, w2]).unwrap();
    y = b.add("a2", Op::Unary(Unary::Relu), &[y]).unwrap();
    y = b.add("y3", conv([6, 6], 0, 1), &[y, w3]).unwrap();
    channels_last(b.finish(&[y])).into_graph()
}

#[test]
fn equalization_gives_back_what_scaling_channels_apart_took() {
    let (even, uneven) = (lopsided(1.0), lopsided(3.0));
    let of = |graph: &Graph, equalize: bool| {
        let options = CalibrateOptions { equalize, ..options(graph) };
        let want = outputs(&select(graph).unwrap(), graph, 40);
        error(&want, &outputs(&lowered(&calibrated(graph, &options)), graph, 40))
    };
    let (good, bad, repaired) = (of(&even, true), of(&uneven, false), of(&uneven, true));
    assert!(bad > 10.0 * good, "{good} {bad}");
    assert!(repaired < 1.5 * good, "{good} {repaired}");
}

#[test]
fn a_spectral_front_end_and_a_residual_stream_stay_real() {
    let mut b = Builder::new(0);
    let x = b.input("x", DType::F32, vec![4, 16]).unwrap();
    let basis = b.constant("basis", noise(&[16, 12], 1));
    let power = b.constant("power", Tensor::scalar_f32(2.0));
    let floor = b.constant("floor", Tensor::scalar_f32(1e-3));
    let y = b.add("spectrum", Op::MatMul, &[x, basis]).unwrap();
    let y = b.add("power#", Op::Binary(Binary::Pow), &[y, power]).unwrap();
    let y = b.add("floored", Op::Binary(Binary::Add), &[y, floor]).unwrap();
    let y = b.add("log", Op::Unary(Unary::Log), &[y]).unwrap();
    let (w1, w2) = (b.constant("w1", noise(&[12, 12], 2)), b.constant("w2", noise(&[12, 12], 3)));
    let ones = b.constant("ones", Tensor::from_f32(&[12], &[1.0; 12]).unwrap());
    let up = b.add("up", Op::MatMul, &[y, w1]).unwrap();
    let gelu = b.add("gelu", Op::Unary(Unary::Gelu { tanh: false }), &[up]).unwrap();
    let down = b.add("down", Op::MatMul, &[gelu, w2]).unwrap();
    let stream = b.add("stream", Op::Binary(Binary::Add), &[down, y]).unwrap();
    let out = b.add("norm", Op::LayerNorm { axis: 1, epsilon: 1e-5 }, &[stream, ones, ones]).unwrap();
    let graph = b.finish(&[out]);
    let made = calibrated(&graph, &options(&graph));
    let program = lowered(&made);
    let sites: Vec<(&str, DType)> = program.sites.iter().map(|s| (s.name.as_str(), s.dtype)).collect();
    assert_eq!(sites, [("basis", DType::F32), ("w1", DType::I8), ("w2", DType::I8), ("ones", DType::F32)]);
    let reason = |name: &str| program.notes.float_nodes.iter().find(|n| n[0] == name).map(|n| n[2].as_str());
    assert!(reason("spectrum").unwrap().contains("front end"), "{:?}", program.notes.float_nodes);
    assert!(reason("floored").unwrap().contains("front end"));
    assert_eq!(reason("stream"), Some("only operators on reals read its result"));
    assert_eq!(reason("norm"), Some("normalization needs the resolution of reals"));
    assert_eq!(reason("gelu"), None);
    let want = outputs(&select(&graph).unwrap(), &graph, 10);
    assert!(error(&want, &outputs(&program, &graph, 10)) < 5e-3);
}

#[test]
fn what_only_a_concatenation_reads_is_rounded_once() {
    let mut b = Builder::new(0);
    let x = b.input("x", DType::F32, vec![1, 3, 4, 4]).unwrap();
    let [w1, w2, w3] = [("w1", [2, 3, 1, 1]), ("w2", [2, 3, 1, 1]), ("w3", [2, 4, 1, 1])]
        .map(|(name, shape)| b.constant(name, noise(&shape, name.len() as u32)));
    let left = b.add("left", conv([1, 1], 0, 1), &[x, w1]).unwrap();
    let right = b.add("right", conv([1, 1], 0, 1), &[x, w2]).unwrap();
    let both = b.add("both", Op::Concat { axis: 1 }, &[left, right]).unwrap();
    let y = b.add("y", conv([1, 1], 0, 1), &[both, w3]).unwrap();
    let graph = channels_last(b.finish(&[y])).into_graph();
    let program = lowered(&calibrated(&graph, &options(&graph)));
    assert_eq!(ops(&program).get(&OpCode::Requantize), None);
    let qparams = |name: &str| program.tensors.iter().find(|t| t.name == name).and_then(|t| t.qparams);
    assert!(qparams("left").is_some());
    assert_eq!((qparams("left"), qparams("right")), (qparams("both"), qparams("both")));
}

#[test]
fn functions_with_a_range_of_their_own_keep_it() {
    let graph = network();
    let program = lowered(&calibrated(&graph, &options(&graph)));
    let gate = program.tensors.iter().find(|t| t.name == "gate.sigmoid").and_then(|t| t.qparams).unwrap();
    assert_eq!((gate.scale, gate.zero_point), (1.0 / 256.0, -128));
}

#[test]
fn models_that_cannot_be_calibrated_are_refused() {
    let graph = network();
    let plain = options(&graph);
    let refused = |graph: &Graph, options: &CalibrateOptions| {
        calibrate(graph.clone(), Diagonals::default(), options).unwrap_err()
    };
    let made = calibrated(&graph, &plain).graph;
    assert!(matches!(refused(&made, &plain), CalibrateError::AlreadyQuantized { .. }));
    let none = CalibrateOptions { samples: Vec::new(), ..plain.clone() };
    assert_eq!(refused(&graph, &none), CalibrateError::NoSamples);
    let mut broken = plain;
    broken.samples[3][0].1[..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    let error = refused(&graph, &broken);
    assert!(matches!(&error, CalibrateError::NotFinite { value } if value == "x"), "{error}");
}
