//! Element types: conversions, and arithmetic on those that kernels do not compute in.

use super::*;
use ingraft_kernel::SiteKind;

use crate::graph::{Builder, ValueId};
use crate::op::{Binary, Lstm, Op, Pad, PadMode, ReduceKind, SliceRange, Unary};

const TYPES: [DType; 8] =
    [DType::F32, DType::F16, DType::I8, DType::U8, DType::I16, DType::I32, DType::I64, DType::Bool];

/// A graph of one node on inputs of one type.
fn node(dtype: DType, shapes: &[&[usize]], op: Op) -> Graph {
    let mut b = Builder::new(0);
    let inputs: Vec<ValueId> = shapes
        .iter()
        .enumerate()
        .map(|(i, shape)| b.input(&format!("x{i}"), dtype, shape.to_vec()).expect("small"))
        .collect();
    let y = b.add("y", op, &inputs).expect("the node fits");
    b.finish(&[y])
}

#[test]
fn every_type_casts_to_every_other() {
    for (from, to) in TYPES.iter().flat_map(|from| TYPES.map(|to| (*from, to))) {
        // Reals between −2 and 2 include negative ones, which uint8 does not hold.
        let real = matches!(from, DType::F32 | DType::F16);
        let mut b = Builder::new(0);
        let x = b.input("x", from, vec![5, 7]).unwrap();
        let x = if real { b.add("abs", Op::Unary(Unary::Abs), &[x]).unwrap() } else { x };
        let y = b.add("y", Op::Cast { to }, &[x]).unwrap();
        assert_agrees(&b.finish(&[y]), 0.0);
    }
}

#[test]
fn narrow_integers_compute_as_wide_ones() {
    for dtype in INTEGERS {
        for op in
            [Binary::Add, Binary::Sub, Binary::Div, Binary::Max, Binary::Min, Binary::Less, Binary::Equal]
        {
            // Differences of uint8 may be negative; the wrap-around is what `Cast` makes of it.
            if op == Binary::Sub && dtype == DType::U8 {
                continue;
            }
            let mut b = Builder::new(0);
            let x = b.input("x", dtype, vec![3, 4]).unwrap();
            let one = b.constant("one", Tensor::from_i64(dtype, &[4], &[1, 2, 3, 20]).unwrap());
            let y = b.add("y", Op::Binary(op), &[x, one]).unwrap();
            assert_agrees(&b.finish(&[y]), 0.0);
        }
        let clip = Unary::Clip { min: 17.0, max: f64::INFINITY };
        for unary in [Unary::Relu, Unary::Abs, clip] {
            assert_agrees(&node(dtype, &[&[3, 4]], Op::Unary(unary)), 0.0);
        }
        for kind in [ReduceKind::Max, ReduceKind::Min] {
            let op = Op::Reduce { kind, axes: vec![1], keep_dims: false };
            assert_agrees(&node(dtype, &[&[3, 4, 2]], op), 0.0);
        }
    }
}

#[test]
fn movement_keeps_every_type() {
    for dtype in TYPES {
        let ranges = [(1, 2, 1), (4, 3, -2)].map(|(start, len, step)| SliceRange { start, len, step });
        assert_agrees(&node(dtype, &[&[3, 5]], Op::Slice { ranges: ranges.to_vec() }), 0.0);
        assert_agrees(&node(dtype, &[&[2, 3, 4]], Op::Transpose { perm: vec![2, 0, 1] }), 0.0);
        assert_agrees(&node(dtype, &[&[2, 3], &[2, 1]], Op::Concat { axis: 1 }), 0.0);
        assert_agrees(&node(dtype, &[&[2, 3]], Op::Tile { repeats: vec![2, 2] }), 0.0);
    }
}

#[test]
fn borders_hold_the_value_in_every_representation() {
    for (dtype, value) in [(DType::I8, -7.0), (DType::U8, 200.0), (DType::I64, 3e9), (DType::F32, 0.5)] {
        let pad = Pad { mode: PadMode::Constant(value), before: vec![1, 0], after: vec![0, 2] };
        let graph = node(dtype, &[&[1, 2]], Op::Pad(pad));
        let inputs = BTreeMap::from([("x0".to_owned(), values(dtype, &[1, 2], 0))]);
        let have = &run(&lowered(&graph).unwrap(), &inputs)["y"];
        let x = inputs["x0"].to_f32();
        let v = value as f32;
        assert_eq!(have.to_f32(), [v, v, v, v, x[0], x[1], v, v], "{dtype}");
    }
}

#[test]
fn half_precision_is_computed_in_single() {
    let weights = crate::graph::fold::cast(&reference::noise(&[6, 3], 3), DType::F16).unwrap();
    let product = |dtype: DType| {
        let mut b = Builder::new(0);
        let x = b.input("x", dtype, vec![2, 6]).unwrap();
        let w = b.constant("w", crate::graph::fold::cast(&weights, dtype).unwrap());
        let y = b.add("product", Op::MatMul, &[x, w]).unwrap();
        let y = b.add("y", Op::Softmax { axis: 0, log: false }, &[y]).unwrap();
        b.finish(&[y])
    };
    let half = values(DType::F16, &[2, 6], 0);
    let single = crate::graph::fold::cast(&half, DType::F32).unwrap();
    let want = &reference::run(&product(DType::F32), &BTreeMap::from([("x".to_owned(), single)]))["y"];
    let inputs = BTreeMap::from([("x".to_owned(), half)]);
    let have = &run(&lowered(&product(DType::F16)).unwrap(), &inputs)["y"];
    assert_eq!(have.dtype(), DType::F16);
    // Rounded to eleven bits once, at the end.
    let close = |(a, b): (f32, f32)| (a - b).abs() <= 0.0005 * a.abs();
    assert!(want.to_f32().into_iter().zip(have.to_f32()).all(close));
}

#[test]
fn linear_layers_take_any_rank() {
    let mut b = Builder::new(0);
    let x = b.input("x", DType::F32, vec![2, 1, 3, 2, 4]).unwrap();
    let w = b.constant("w", reference::noise(&[4, 5], 3));
    let bias = b.constant("b", reference::noise(&[5], 4));
    let y = b.add("product", Op::MatMul, &[x, w]).unwrap();
    let y = b.add("y", Op::Binary(Binary::Add), &[y, bias]).unwrap();
    let program = assert_agrees(&b.finish(&[y]), 1e-5);
    assert_eq!((census(&program)[&OpCode::Conv], program.sites.len()), (1, 1));
}

#[test]
fn batch_normalization_is_its_statistics_and_a_site() {
    // Channels last because a convolution reads them, by their only dimension, and moved there and back.
    for (shape, convolved, copies) in [
        (vec![2, 4, 3, 5], true, 2),
        (vec![3, 4], false, 0),
        (vec![2, 4, 3], false, 2),
        (vec![2, 4, 1], false, 0),
    ] {
        let mut b = Builder::new(0);
        let x = b.input("x", DType::F32, shape).unwrap();
        let variance: Vec<f32> = reference::noise(&[4], 9).to_f32().iter().map(|v| v.abs() + 0.1).collect();
        let mut inputs = vec![x];
        for (seed, name) in [(5, "norm.weight"), (6, "norm.bias"), (7, "norm.mean")] {
            inputs.push(b.constant(name, reference::noise(&[4], seed)));
        }
        inputs.push(b.constant("norm.variance", Tensor::from_f32(&[4], &variance).unwrap()));
        let mut y = b.add("norm", Op::BatchNorm { axis: 1, epsilon: 1e-3 }, &inputs).unwrap();
        if convolved {
            let w = b.constant("w", reference::noise(&[2, 4, 1, 1], 3));
            y = b.add("conv", reference::conv_2d([1, 1], [0, 0], 1), &[y, w]).unwrap();
        }
        let program = assert_agrees(&b.finish(&[y]), 1e-4);
        let found = census(&program);
        assert_eq!((found[&OpCode::Norm], found.get(&OpCode::Copy).copied().unwrap_or(0)), (2, copies));
        let site = &program.sites[0];
        assert_eq!((site.name.as_str(), site.kind, site.out), ("norm.weight", SiteKind::Norm, 4));
    }
}

#[test]
fn what_no_kernel_computes_is_refused_by_name() {
    let lstm = Op::Lstm(Lstm { hidden: 2, direction: crate::op::Direction::Forward, input_forget: true });
    let mut b = Builder::new(0);
    let x = b.input("x", DType::F32, vec![3, 1, 4]).unwrap();
    let (w, r) =
        (b.constant("w", reference::noise(&[1, 8, 4], 1)), b.constant("r", reference::noise(&[1, 8, 2], 2)));
    let y = b.add("coupled", lstm, &[x, w, r]).unwrap();
    let refused = lowered(&b.finish(&[y])).unwrap_err();
    assert!(matches!(&refused, LowerError::Unsupported { op: "LSTM", .. }), "{refused}");
    let product = node(DType::I64, &[&[2, 3], &[3, 2]], Op::MatMul);
    assert!(matches!(lowered(&product), Err(LowerError::Unsupported { op: "MatMul", .. })));
}
