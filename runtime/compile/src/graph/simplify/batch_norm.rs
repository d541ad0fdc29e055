//! Batch normalization at inference is a multiplication and an addition.

use super::super::{Graph, Node, NodeId, Tensor, Uses};
use super::Factors;
use super::affine::{ChannelMap, channels_of, fold, take_over};
use crate::op::{Binary, Op};

/// Folds every batch normalization into the convolution before it, and writes the others out. Gives the number of
/// edits; factors are multiplied into `factors`.
pub(super) fn run(graph: &mut Graph, factors: &mut Factors) -> usize {
    let uses = Uses::of(graph);
    let mut edits = 0;
    let mut written_out = Vec::new();
    for id in graph.node_ids() {
        let Op::BatchNorm { epsilon } = graph[id].op else { continue };
        let Some(map) = channel_map(graph, &graph[id], epsilon) else { continue };
        edits += 1;
        let conv =
            graph[id].input(0).and_then(|x| uses.producer(x).filter(|_| uses.only_consumer(x) == Some(id)));
        let conv = conv.filter(|&conv| channels_of(graph, conv) == Some(map.shift.len()));
        match conv.and_then(|conv| fold(graph, &uses, conv, &map, factors).map(|()| conv)) {
            Some(conv) => take_over(graph, conv, id),
            None => written_out.push((id, map)),
        }
    }
    write_out(graph, written_out);
    graph.remove_dead();
    edits
}

/// What a batch normalization does per channel, in binary64.
fn channel_map(graph: &Graph, node: &Node, epsilon: f32) -> Option<ChannelMap> {
    let operand = |i: usize| Some(graph.konst_input(node, i)?.to_f32().into_iter().map(f64::from));
    let factor: Vec<f64> =
        operand(1)?.zip(operand(4)?).map(|(s, v)| s / (v + f64::from(epsilon)).sqrt()).collect();
    let shift = operand(2)?.zip(operand(3)?).zip(&factor).map(|((b, mean), f)| b - mean * f).collect();
    Some(ChannelMap { factor: Some(factor), shift })
}

/// Replaces each of these nodes by a multiplication and an addition.
fn write_out(graph: &mut Graph, maps: Vec<(NodeId, ChannelMap)>) {
    let mut maps = maps.into_iter().peekable();
    let nodes = core::mem::take(&mut graph.nodes);
    for (index, node) in nodes.into_iter().enumerate() {
        let Some((_, map)) = maps.next_if(|(id, _)| id.index() == index) else {
            graph.nodes.push(node);
            continue;
        };
        let (x, y) = (node.inputs[0], node.outputs[0]);
        // Per channel means dimension 1; the dimensions after it broadcast.
        let mut shape = vec![1; graph[y].shape.len() - 1];
        shape[0] = map.shift.len();
        let vector = |values: Vec<f64>| {
            let values: Vec<f32> = values.into_iter().map(|v| v as f32).collect();
            Tensor::from_f32(&shape, &values)
        };
        let (Some(factor), Some(shift)) = (vector(map.factor.unwrap_or_default()), vector(map.shift)) else {
            graph.nodes.push(node);
            continue;
        };
        let factor = graph.add_constant(&format!("{}.factor", node.name), factor);
        let shift = graph.add_constant(&format!("{}.shift", node.name), shift);
        let product = graph.add_like(&node.name, y);
        let name = node.name;
        let mul = Op::Binary(Binary::Mul);
        graph.nodes.push(Node {
            name: name.clone(),
            op: mul,
            inputs: vec![x, Some(factor)],
            outputs: vec![product],
        });
        let add = Op::Binary(Binary::Add);
        graph.nodes.push(Node { name, op: add, inputs: vec![Some(product), Some(shift)], outputs: vec![y] });
    }
}

#[cfg(test)]
mod tests {
    use ingraft_tensor::DType;

    use super::*;
    use crate::graph::{Builder, ValueId};
    use crate::reference::{assert_same, conv_2d, noise};

    fn batch_norm(b: &mut Builder, x: ValueId, channels: usize) -> ValueId {
        let positive: Vec<f32> = noise(&[channels], 9).to_f32().iter().map(|v| v.abs() + 0.1).collect();
        let parameters = [
            noise(&[channels], 5),
            noise(&[channels], 6),
            noise(&[channels], 7),
            Tensor::from_f32(&[channels], &positive).unwrap(),
        ];
        let mut inputs = vec![x];
        inputs.extend(parameters.into_iter().map(|p| b.constant("bn", p)));
        b.add("y", Op::BatchNorm { epsilon: 1e-3 }, &inputs).unwrap()
    }

    #[test]
    fn folds_into_the_convolution() {
        let mut b = Builder::new(0);
        let x = b.input("x", DType::F32, vec![1, 4, 5, 5]).unwrap();
        let (w, bias) = (b.constant("w", noise(&[4, 1, 3, 3], 1)), b.constant("b", noise(&[4], 2)));
        let conv = b.add("conv", conv_2d([3, 3], [1, 1], 4), &[x, w, bias]).unwrap();
        let y = batch_norm(&mut b, conv, 4);
        let before = b.finish(&[y]);
        let mut after = before.clone();
        let mut factors = Factors::new();
        assert_eq!(run(&mut after, &mut factors), 1);
        assert_eq!((after.nodes.len(), factors["w"].len()), (1, 4));
        assert_same(&before, &after, 1e-6);
    }

    #[test]
    fn is_written_out_elsewhere() {
        for shape in [vec![1, 4, 5, 5], vec![3, 4]] {
            let mut b = Builder::new(0);
            let x = b.input("x", DType::F32, shape).unwrap();
            let y = batch_norm(&mut b, x, 4);
            let before = b.finish(&[y]);
            let mut after = before.clone();
            assert_eq!(run(&mut after, &mut Factors::new()), 1);
            assert_eq!(after.census(), [("Add", 1), ("Mul", 1)].into());
            assert_same(&before, &after, 1e-6);
        }
    }
}
