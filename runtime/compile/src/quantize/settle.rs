//! Moving quantization next to arithmetic.
//!
//! Exporters leave reshapes and transposes between an operator and its
//! `QuantizeLinear`, or behind a `DequantizeLinear`. Moving data and rounding it
//! commute, so quantization moves up to the operator that computes and
//! dequantization down to the operator that needs reals; data then moves as int8.


use crate::graph::{Graph, Node, NodeId, Uses, Value, ValueId};
use crate::op::{Op, Pool, PoolKind};

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
        if !moves_data(&node.op) || node.outputs.len() != 1 {
            continue;
        }
        let Some(input) = node.input(0) else { continue };
        if let Some(dequantize) = uses.producer(input).filter(|p| is_dequantize(graph, *p)) {
            sink(graph, id, dequantize);
            return true;
        }
        let quantize = uses.only_consumer(node.outputs[0]).filter(|c| is_quantize(graph, *c));
        if let Some(quantize) = quantize {
            hoist(graph, id, quantize);
            return true;
        }
    }
    false
}

/// `move(dequantize(q))` becomes `dequantize(move(q))`.
fn sink(graph: &mut Graph, id: NodeId, dequantize: NodeId) {
    let (moved, source) = (graph[id].clone(), graph[dequantize].clone());
    let Some(codes) = source.input(0) else { return };
    let output = moved.outputs[0];
    let codes_out = like(graph, output, codes);
    let mut first = moved.clone();
    first.inputs[0] = Some(codes);
    first.outputs = vec![codes_out];
    let second = Node {
        name: format!("{}_dequantize", moved.name),
        op: source.op.clone(),
        inputs: source.inputs.iter().enumerate().map(|(i, v)| if i == 0 { Some(codes_out) } else { *v }).collect(),
        outputs: vec![output],
    };
    graph.nodes.splice(id.index()..=id.index(), [first, second]);
}

/// `quantize(move(x))` becomes `move(quantize(x))`.
fn hoist(graph: &mut Graph, id: NodeId, quantize: NodeId) {
    let (moved, rounding) = (graph[id].clone(), graph[quantize].clone());
    let Some(input) = moved.input(0) else { return };
    let output = rounding.outputs[0];
    let codes = like(graph, input, output);
    let mut first = rounding.clone();
    first.inputs[0] = Some(input);
    first.outputs = vec![codes];
    let mut second = moved;
    second.inputs[0] = Some(codes);
    second.outputs = vec![output];
    graph.nodes.remove(quantize.index());
    graph.nodes.splice(id.index()..=id.index(), [first, second]);
}

/// A new value with the shape of `shape` and the element type of `dtype`.
fn like(graph: &mut Graph, shape: ValueId, dtype: ValueId) -> ValueId {
    let (name, shape) = (format!("{}_codes#{}", graph[shape].name, graph.values.len()), graph[shape].shape.clone());
    let dtype = graph[dtype].dtype;
    graph.values.push(Value { name, dtype, shape, konst: None });
    ValueId(graph.values.len() as u32 - 1)
}

fn moves_data(op: &Op) -> bool {
    matches!(
        op,
        Op::Reshape { .. }
            | Op::Transpose { .. }
            | Op::Slice { .. }
            | Op::Expand { .. }
            | Op::Tile { .. }
            | Op::Identity
            | Op::Pool(Pool { kind: PoolKind::Max, .. })
    )
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
