//! A direct interpreter of graphs, the oracle of this crate's tests.
//!
//! Every operator is written as its definition reads, accumulating in binary64,
//! with no regard for speed. What the constant folder evaluates is not repeated.

mod recurrent;
mod window;

use std::collections::BTreeMap;

use ingraft_tensor::DType;

use crate::graph::fold::{self, Walk, broadcast_strides, strides};
use crate::graph::{Graph, Node, Tensor, ValueId};
use crate::op::{Conv, Layout, Op, PadMode, ReduceKind, ValueType, Window};

/// The outputs of a graph by name.
pub(crate) type Outputs = BTreeMap<String, Tensor>;

/// Runs a graph on these inputs, by name.
pub(crate) fn run(graph: &Graph, inputs: &BTreeMap<String, Tensor>) -> Outputs {
    let mut values: Vec<Option<Tensor>> = graph.values.iter().map(|v| v.konst.clone()).collect();
    for &id in &graph.inputs {
        let value = &inputs[&graph[id].name];
        assert_eq!(
            (value.shape(), value.dtype()),
            (graph[id].shape.as_slice(), graph[id].dtype),
            "{}",
            graph[id].name
        );
        values[id.index()] = Some(value.clone());
    }
    for node in &graph.nodes {
        let operands: Vec<Option<&Tensor>> =
            node.inputs.iter().map(|id| id.map(|id| values[id.index()].as_ref().expect("order"))).collect();
        let results = apply(graph, node, &operands);
        for (id, result) in node.outputs.iter().zip(results) {
            let want = &graph[*id];
            assert_eq!(
                (result.shape(), result.dtype()),
                (want.shape.as_slice(), want.dtype),
                "{}",
                node.name
            );
            values[id.index()] = Some(result);
        }
    }
    graph
        .outputs
        .iter()
        .map(|id| (graph[*id].name.clone(), values[id.index()].clone().expect("made")))
        .collect()
}

/// Asserts that two graphs compute the same on noise: max|a−b| ≤ tolerance·max|a| for every output.
pub(crate) fn assert_same(before: &Graph, after: &Graph, tolerance: f32) {
    let seeded = |(seed, &id): (usize, &ValueId)| {
        let value = &before[id];
        (value.name.clone(), cast(&noise(&value.shape, seed as u32 + 77), value.dtype))
    };
    let inputs = before.inputs.iter().enumerate().map(seeded).collect();
    let (want, got) = (run(before, &inputs), run(after, &inputs));
    assert_eq!(want.keys().collect::<Vec<_>>(), got.keys().collect::<Vec<_>>());
    for (name, want) in &want {
        assert_close(name, want, &got[name], tolerance);
    }
}

/// Asserts max|a−b| ≤ tolerance·max|a|.
pub(crate) fn assert_close(name: &str, want: &Tensor, got: &Tensor, tolerance: f32) {
    assert_eq!(want.shape(), got.shape(), "{name}");
    let (a, b) = (want.to_f32(), got.to_f32());
    let largest = a.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let worst = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
    assert!(
        worst <= tolerance * largest && !worst.is_nan(),
        "{name}: {worst} of {largest}, tolerance {tolerance}"
    );
}

/// Seeded floats in −2…2.
pub(crate) fn noise(shape: &[usize], seed: u32) -> Tensor {
    let mut state = seed.wrapping_mul(0x9e37_79b9) ^ 0x85eb_ca6b;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 22) as f32 - 2.0
    };
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| next()).collect();
    Tensor::from_f32(shape, &values).expect("length")
}

/// A convolution in ONNX's layout with stride 1 and these pads on both sides.
pub(crate) fn conv_2d(kernel: [usize; 2], pads: [usize; 2], groups: usize) -> Op {
    let (ones, pads) = (vec![1; 2], pads.to_vec());
    let window = Window {
        kernel: kernel.to_vec(),
        strides: ones.clone(),
        dilations: ones,
        pads_begin: pads.clone(),
        pads_end: pads,
    };
    Op::Conv(Conv { window, groups, layout: Layout::ChannelsFirst })
}

fn cast(x: &Tensor, to: DType) -> Tensor {
    let types = [ValueType::new(to, x.shape().to_vec())];
    fold::evaluate(&Op::Cast { to }, &[Some(x)], &types).expect("cast").remove(0)
}

fn floats(result: &ValueType, values: impl IntoIterator<Item = f64>) -> Vec<Tensor> {
    let values: Vec<f32> = values.into_iter().map(|v| v as f32).collect();
    vec![Tensor::from_f32(&result.shape, &values).expect("length")]
}

/// Reals as the codes they are, where an operator works on those too.
fn as_stored(results: Vec<Tensor>, y: &ValueType) -> Vec<Tensor> {
    results.iter().map(|reals| cast(reals, y.dtype)).collect()
}

fn to_f64(x: &Tensor) -> Vec<f64> {
    x.to_f32().into_iter().map(f64::from).collect()
}

fn apply(graph: &Graph, node: &Node, operands: &[Option<&Tensor>]) -> Vec<Tensor> {
    let results: Vec<ValueType> =
        node.outputs.iter().map(|&id| ValueType::new(graph[id].dtype, graph[id].shape.clone())).collect();
    if let Some(tensors) = fold::evaluate(&node.op, operands, &results) {
        return tensors;
    }
    let (x, y) = (operands[0].expect("first operand"), &results[0]);
    let at = |i: usize| operands.get(i).copied().flatten();
    match &node.op {
        Op::DequantizeLinear { axis } => dequantize(x, at(1).unwrap(), at(2), *axis, y),
        Op::DynamicQuantizeLinear => dynamic_quantize(x),
        Op::MatMul => matmul(&to_f64(x), x.shape(), &to_f64(at(1).unwrap()), at(1).unwrap().shape(), y),
        Op::MatMulInteger => matmul_integer(x, at(1).unwrap(), at(2), at(3), y),
        Op::Gemm { .. } => gemm(&node.op, x, at(1).unwrap(), at(2), y),
        Op::Conv(conv) => window::conv(conv, x, at(1).unwrap(), at(2), y),
        Op::Pool(pool) => as_stored(window::pool(pool, x, y), y),
        Op::Pad(pad) => {
            let edges = (pad.before.as_slice(), y.shape.as_slice());
            as_stored(floats(y, pad_values(&to_f64(x), x.shape(), edges, pad.mode)), y)
        }
        Op::Softmax { axis, log } => softmax(x, *axis, *log, y),
        Op::Reduce { kind, axes, .. } => reduce(*kind, x, axes, y),
        Op::BatchNorm { axis, epsilon } => {
            let [scale, bias, mean, variance] = [1, 2, 3, 4].map(|i| to_f64(at(i).unwrap()));
            let deviation = |c: usize| (variance[c] + f64::from(*epsilon)).sqrt();
            let apply = |(c, v): (usize, f64)| (v - mean[c]) / deviation(c) * scale[c] + bias[c];
            let others: Vec<usize> = (0..x.shape().len()).filter(|i| i != axis).collect();
            floats(y, groups(x.shape(), &others).into_iter().zip(to_f64(x)).map(apply))
        }
        Op::LayerNorm { axis, epsilon } => {
            let axes: Vec<usize> = (*axis..x.shape().len()).collect();
            let normalized = normalize(&to_f64(x), &groups(x.shape(), &axes), f64::from(*epsilon));
            floats(y, affine(&normalized, x.shape(), at(1), at(2)))
        }
        Op::GroupNorm { groups: count, epsilon, layout } => {
            let channel = channels(x.shape(), *layout);
            let (batch, all) = (x.elements() / x.shape()[0], x.shape()[layout.channel_axis(x.shape().len())]);
            let group = |(i, c): (usize, &usize)| i / batch * count + c / (all / count);
            let groups: Vec<usize> = channel.iter().enumerate().map(group).collect();
            let normalized = normalize(&to_f64(x), &groups, f64::from(*epsilon));
            let (scale, bias) = (to_f64(at(1).unwrap()), to_f64(at(2).unwrap()));
            floats(y, normalized.iter().zip(channel).map(|(v, c)| v * scale[c] + bias[c]))
        }
        Op::Lstm(lstm) => recurrent::lstm(lstm, operands, &results),
        op => panic!("the reference does not know {op:?}"),
    }
}

fn dequantize(x: &Tensor, scale: &Tensor, zero: Option<&Tensor>, axis: usize, y: &ValueType) -> Vec<Tensor> {
    let others: Vec<usize> = (0..x.shape().len()).filter(|&i| i != axis).collect();
    let (scales, zeros) = (scale.to_f32(), zero.map(Tensor::to_i64));
    let channel = |c: usize| if scales.len() == 1 { 0 } else { c };
    let real = |(c, code): (usize, i64)| {
        let zero = zeros.as_ref().map_or(0, |z| z[channel(c)]);
        f64::from((code - zero) as f32 * scales[channel(c)])
    };
    floats(y, groups(x.shape(), &others).into_iter().zip(x.to_i64()).map(real))
}

fn dynamic_quantize(x: &Tensor) -> Vec<Tensor> {
    let values = x.to_f32();
    let (lo, hi) = values.iter().fold((0.0f32, 0.0f32), |(lo, hi), &v| (lo.min(v), hi.max(v)));
    let scale = if hi == lo { 1.0 } else { (hi - lo) / 255.0 };
    let zero = (-lo / scale).round_ties_even().clamp(0.0, 255.0) as i64;
    let code = |v: &f32| ((v / scale).round_ties_even() as i64 + zero).clamp(0, 255);
    vec![
        Tensor::from_i64(DType::U8, x.shape(), &values.iter().map(code).collect::<Vec<_>>()).unwrap(),
        Tensor::scalar_f32(scale),
        Tensor::from_i64(DType::U8, &[], &[zero]).unwrap(),
    ]
}

/// A product over the last two dimensions; the operands have at least two.
fn product(lhs: &[f64], ls: &[usize], rhs: &[f64], rs: &[usize], shape: &[usize]) -> Vec<f64> {
    let (batch, mn) = shape.split_at(shape.len() - 2);
    let (lb, mk) = ls.split_at(ls.len() - 2);
    let (rb, kn) = rs.split_at(rs.len() - 2);
    let (m, n, k) = (mn[0], mn[1], mk[1]);
    assert_eq!(k, kn[0]);
    let (left, right) = (broadcast_strides(lb, batch), broadcast_strides(rb, batch));
    let mut out = Vec::new();
    for (l, r) in Walk::new(batch, 0, &left).unwrap().zip(Walk::new(batch, 0, &right).unwrap()) {
        let (l, r) = (&lhs[l as usize * m * k..], &rhs[r as usize * k * n..]);
        for i in 0..m {
            let mut row = vec![0.0; n];
            for (j, &a) in l[i * k..(i + 1) * k].iter().enumerate() {
                row.iter_mut().zip(&r[j * n..]).for_each(|(sum, b)| *sum += a * b);
            }
            out.extend(row);
        }
    }
    out
}

fn matmul(lhs: &[f64], ls: &[usize], rhs: &[f64], rs: &[usize], y: &ValueType) -> Vec<Tensor> {
    floats(y, product(lhs, ls, rhs, rs, &y.shape))
}

fn matmul_integer(
    lhs: &Tensor,
    rhs: &Tensor,
    lz: Option<&Tensor>,
    rz: Option<&Tensor>,
    y: &ValueType,
) -> Vec<Tensor> {
    let centered = |x: &Tensor, zero: Option<&Tensor>| -> Vec<f64> {
        let zero = zero.map_or(0, |z| z.to_i64()[0]);
        x.to_i64().into_iter().map(|v| (v - zero) as f64).collect()
    };
    let sums = product(&centered(lhs, lz), lhs.shape(), &centered(rhs, rz), rhs.shape(), &y.shape);
    let sums: Vec<i64> = sums.into_iter().map(|v| v as i64).collect();
    vec![Tensor::from_i64(DType::I32, &y.shape, &sums).unwrap()]
}

fn gemm(op: &Op, a: &Tensor, b: &Tensor, c: Option<&Tensor>, y: &ValueType) -> Vec<Tensor> {
    let &Op::Gemm { alpha, beta, trans_a, trans_b } = op else { unreachable!() };
    let flip = |x: &Tensor, flip: bool| match (flip, x.shape()) {
        (true, &[r, c]) => fold::strided(x, &[c, r], 0, &[1, c as isize]).unwrap(),
        _ => x.clone(),
    };
    let (a, b) = (flip(a, trans_a), flip(b, trans_b));
    let sums = product(&to_f64(&a), a.shape(), &to_f64(&b), b.shape(), &y.shape);
    let bias = match c {
        Some(c) => to_f64(&fold::strided(c, &y.shape, 0, &broadcast_strides(c.shape(), &y.shape)).unwrap()),
        None => vec![0.0; sums.len()],
    };
    floats(y, sums.iter().zip(bias).map(|(s, b)| f64::from(alpha) * s + f64::from(beta) * b))
}

/// For every element, the index of the group it is in: elements that differ only along `axes` are one group.
fn groups(shape: &[usize], axes: &[usize]) -> Vec<usize> {
    let kept: Vec<usize> =
        shape.iter().enumerate().map(|(i, &e)| if axes.contains(&i) { 1 } else { e }).collect();
    Walk::new(shape, 0, &broadcast_strides(&kept, shape)).unwrap().map(|at| at as usize).collect()
}

/// For every element, its channel.
fn channels(shape: &[usize], layout: Layout) -> Vec<usize> {
    let axis = layout.channel_axis(shape.len());
    let others: Vec<usize> = (0..shape.len()).filter(|&i| i != axis).collect();
    groups(shape, &others)
}

/// Combines the elements of every group.
fn combine(x: &[f64], groups: &[usize], start: f64, step: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    let mut sums = vec![start; groups.iter().max().map_or(0, |m| m + 1)];
    groups.iter().zip(x).for_each(|(&g, &v)| sums[g] = step(sums[g], v));
    sums
}

fn softmax(x: &Tensor, axis: usize, log: bool, y: &ValueType) -> Vec<Tensor> {
    let (x, groups) = (to_f64(x), groups(x.shape(), &[axis]));
    let largest = combine(&x, &groups, f64::NEG_INFINITY, f64::max);
    let shifted: Vec<f64> = x.iter().zip(&groups).map(|(v, &g)| v - largest[g]).collect();
    let sums = combine(&shifted, &groups, 0.0, |sum, v| sum + v.exp());
    let finish = |(v, &g): (&f64, &usize)| if log { v - sums[g].ln() } else { v.exp() / sums[g] };
    floats(y, shifted.iter().zip(&groups).map(finish))
}

fn reduce(kind: ReduceKind, x: &Tensor, axes: &[usize], y: &ValueType) -> Vec<Tensor> {
    let groups = groups(x.shape(), axes);
    let x = to_f64(x);
    let count = x.len() as f64 / groups.iter().max().map_or(1.0, |m| (m + 1) as f64);
    floats(
        y,
        match kind {
            ReduceKind::Max => combine(&x, &groups, f64::NEG_INFINITY, f64::max),
            ReduceKind::Mean => combine(&x, &groups, 0.0, |s, v| s + v / count),
            ReduceKind::Sum => combine(&x, &groups, 0.0, |s, v| s + v),
            kind => panic!("the reference does not know {kind:?}"),
        },
    )
}

fn normalize(x: &[f64], groups: &[usize], epsilon: f64) -> Vec<f64> {
    let count = x.len() as f64 / groups.iter().max().map_or(1.0, |m| (m + 1) as f64);
    let mean = combine(x, groups, 0.0, |s, v| s + v / count);
    let centered: Vec<f64> = x.iter().zip(groups).map(|(v, &g)| v - mean[g]).collect();
    let variance = combine(&centered, groups, 0.0, |s, v| s + v * v / count);
    centered.iter().zip(groups).map(|(v, &g)| v / (variance[g] + epsilon).sqrt()).collect()
}

fn affine(x: &[f64], shape: &[usize], scale: Option<&Tensor>, bias: Option<&Tensor>) -> Vec<f64> {
    let wide = |t: Option<&Tensor>, none: f64| match t {
        Some(t) => to_f64(&fold::strided(t, shape, 0, &broadcast_strides(t.shape(), shape)).unwrap()),
        None => vec![none; x.len()],
    };
    x.iter().zip(wide(scale, 1.0)).zip(wide(bias, 0.0)).map(|((v, s), b)| v * s + b).collect()
}

/// A padded tensor, element by element.
fn pad_values(x: &[f64], shape: &[usize], (before, to): (&[usize], &[usize]), mode: PadMode) -> Vec<f64> {
    let (own, wide) = (strides(shape), strides(to));
    let source = |place: isize| -> Option<usize> {
        let mut offset = 0;
        for i in 0..shape.len() {
            let at = place / wide[i] % to[i] as isize - before[i] as isize;
            let extent = shape[i] as isize;
            let period = (2 * (extent - 1)).max(1);
            let inside = match mode {
                PadMode::Constant(_) if !(0..extent).contains(&at) => return None,
                PadMode::Constant(_) => at,
                PadMode::Edge => at.clamp(0, extent - 1),
                PadMode::Reflect => extent - 1 - (at.rem_euclid(period) - (extent - 1)).abs(),
                PadMode::Wrap => at.rem_euclid(extent),
            };
            offset += inside * own[i];
        }
        Some(offset as usize)
    };
    let outside = if let PadMode::Constant(v) = mode { v } else { 0.0 };
    let count: usize = to.iter().product();
    (0..count as isize).map(|place| source(place).map_or(outside, |i| x[i])).collect()
}
