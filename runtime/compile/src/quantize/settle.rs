//! Moving quantization next to arithmetic.
//!
//! Exporters leave reshapes and transposes between an operator and its
//! `QuantizeLinear`, or behind a `DequantizeLinear`. Moving data and rounding it
//! commute, so quantization moves up to the operator that computes and
//! dequantization down to the operator that needs reals; data then moves as int8.

use ingraft_tensor::DType;

use super::Quantization;
use crate::graph::{Graph, Node, NodeId, Uses, Value, ValueId};
use crate::op::{Op, Pad, PadMode, Pool, PoolKind, Resize, ResizeMode};

/// Moves every per-tensor `QuantizeLinear` above, and `DequantizeLinear` below,
/// the nodes that only move data or take a maximum.
pub fn settle(graph: &mut Graph) {
    while settle_once(graph) {}
    graph.remove_dead();
}

fn settle_once(graph: &mut Graph) -> bool {
    let uses = Uses::of(graph);
    for id in graph.node_ids() {
        let node = &graph[id];
        let (Some(input), [output]) = (node.input(0), node.outputs.as_slice()) else { continue };
        let dequantize = uses.producer(input).filter(|p| is_dequantize(graph, *p));
        if let Some((dequantize, op)) = dequantize.and_then(|d| Some((d, on_codes(graph, &node.op, d)?))) {
            sink(graph, id, dequantize, op);
            return true;
        }
        let quantize = uses.only_consumer(*output).filter(|c| is_quantize(graph, *c));
        if let Some((quantize, op)) = quantize.and_then(|q| Some((q, on_codes(graph, &node.op, q)?))) {
            hoist(graph, id, quantize, op);
            return true;
        }
    }
    false
}

/// `move(dequantize(q))` becomes `dequantize(move(q))`.
fn sink(graph: &mut Graph, id: NodeId, dequantize: NodeId, op: Op) {
    let (moved, source) = (graph[id].clone(), graph[dequantize].clone());
    let Some(codes) = source.input(0) else { return };
    let output = moved.outputs[0];
    let codes_out = like(graph, output, codes);
    let mut first = Node { op, ..moved.clone() };
    first.inputs[0] = Some(codes);
    first.outputs = vec![codes_out];
    let second = Node {
        name: format!("{}_dequantize", moved.name),
        op: source.op.clone(),
        inputs: source
            .inputs
            .iter()
            .enumerate()
            .map(|(i, v)| if i == 0 { Some(codes_out) } else { *v })
            .collect(),
        outputs: vec![output],
    };
    graph.nodes.splice(id.index()..=id.index(), [first, second]);
}

/// `quantize(move(x))` becomes `move(quantize(x))`.
fn hoist(graph: &mut Graph, id: NodeId, quantize: NodeId, op: Op) {
    let (moved, rounding) = (graph[id].clone(), graph[quantize].clone());
    let Some(input) = moved.input(0) else { return };
    let output = rounding.outputs[0];
    let codes = like(graph, input, output);
    let mut first = rounding.clone();
    first.inputs[0] = Some(input);
    first.outputs = vec![codes];
    let mut second = Node { op, ..moved };
    second.inputs[0] = Some(codes);
    second.outputs = vec![output];
    graph.nodes.remove(quantize.index());
    graph.nodes.splice(id.index()..=id.index(), [first, second]);
}

/// A new value with the shape of `shape` and the element type of `dtype`.
fn like(graph: &mut Graph, shape: ValueId, dtype: ValueId) -> ValueId {
    let (name, shape) =
        (format!("{}_codes#{}", graph[shape].name, graph.values.len()), graph[shape].shape.clone());
    let dtype = graph[dtype].dtype;
    graph.values.push(Value { name, dtype, shape, konst: None });
    ValueId(graph.values.len() as u32 - 1)
}

/// An operator that moves data or takes a maximum, as it acts on the codes of the `QuantizeLinear` or
/// `DequantizeLinear` at node `id`; `None` for one that does not commute with it.
fn on_codes(graph: &Graph, op: &Op, id: NodeId) -> Option<Op> {
    let node = &graph[id];
    let codes = match node.op {
        Op::QuantizeLinear { to, .. } => to,
        _ => graph[node.input(0)?].dtype,
    };
    let bytes = matches!(codes, DType::I8 | DType::U8);
    match op {
        Op::Reshape { .. } | Op::Transpose { .. } | Op::Slice { .. } | Op::Expand { .. } => Some(op.clone()),
        Op::Tile { .. } | Op::Identity => Some(op.clone()),
        Op::Pool(Pool { kind: PoolKind::Max, .. }) if bytes => Some(op.clone()),
        Op::Resize(Resize { mode: ResizeMode::Nearest(_), .. }) if bytes => Some(op.clone()),
        Op::Pad(Pad { mode: PadMode::Constant(value), before, after }) if bytes => {
            let mode = PadMode::Constant(code_of(graph, node, *value, codes)?);
            Some(Op::Pad(Pad { mode, before: before.clone(), after: after.clone() }))
        }
        Op::Pad(_) if bytes => Some(op.clone()),
        _ => None,
    }
}

/// The code of `value`, in the file's representation. Behind a `DequantizeLinear` it must stand for `value` exactly.
fn code_of(graph: &Graph, node: &Node, value: f64, dtype: DType) -> Option<f64> {
    let quantization = Quantization::of(graph, node, 0)?;
    let (scale, zero) = (f64::from(quantization.scale(0)), quantization.zero_point(0) as f64);
    let [least, most] = if dtype == DType::U8 { [0.0, 255.0] } else { [-128.0, 127.0] };
    let code = ((value as f32 / quantization.scale(0)).round_ties_even() as f64 + zero).clamp(least, most);
    let exact = matches!(node.op, Op::QuantizeLinear { .. }) || (code - zero) * scale == value;
    exact.then_some(code)
}

fn is_dequantize(graph: &Graph, id: NodeId) -> bool {
    let node = &graph[id];
    let single = node.input(1).is_some_and(|s| graph[s].elements() == 1);
    let dynamic = node.input(0).is_some_and(|q| graph.konst(q).is_none());
    matches!(node.op, Op::DequantizeLinear { .. }) && single && dynamic
}

fn is_quantize(graph: &Graph, id: NodeId) -> bool {
    let node = &graph[id];
    matches!(node.op, Op::QuantizeLinear { .. }) && node.input(1).is_some_and(|s| graph[s].elements() == 1)
}
