//! Batch normalization at inference is a multiplication and an addition.

use super::super::{Graph, Node, Tensor, Uses};
use super::Factors;
use super::affine::{ChannelMap, channels_of, fold, take_over};
use crate::op::{Binary, Op};

/// Folds every batch normalization into the convolution before it, where it alone reads that. Gives the number of edits;
/// factors are multiplied into `factors`.
pub(super) fn run(graph: &mut Graph, factors: &mut Factors) -> usize {
    let uses = Uses::of(graph);
    let mut edits = 0;
    for id in graph.node_ids() {
        let Some(map) = channel_map(graph, &graph[id]) else { continue };
        let conv =
            graph[id].input(0).and_then(|x| uses.producer(x).filter(|_| uses.only_consumer(x) == Some(id)));
        let conv = conv.filter(|&conv| channels_of(graph, conv) == Some(map.shift.len()));
        if let Some(conv) = conv.filter(|&conv| fold(graph, &uses, conv, &map, factors).is_some()) {
            take_over(graph, conv, id);
            edits += 1;
        }
    }
    graph.remove_dead();
    edits
}

/// What a batch normalization does per channel, in binary64; `None` for another node.
fn channel_map(graph: &Graph, node: &Node) -> Option<ChannelMap> {
    let Op::BatchNorm { epsilon, .. } = node.op else { return None };
    let operand = |i: usize| Some(graph.konst_input(node, i)?.to_f32().into_iter().map(f64::from));
    let factor: Vec<f64> =
        operand(1)?.zip(operand(4)?).map(|(s, v)| s / (v + f64::from(epsilon)).sqrt()).collect();
    let shift = operand(2)?.zip(operand(3)?).zip(&factor).map(|((b, mean), f)| b - mean * f).collect();
    Some(ChannelMap { factor: Some(factor), shift })
}

/// The graph with a product and a sum in place of every batch normalization, which have an integer form.
pub(crate) fn written_out(mut graph: Graph) -> Graph {
    for node in core::mem::take(&mut graph.nodes) {
        match constants(&graph, &node) {
            Some(constants) => replace(&mut graph, node, constants),
            None => graph.nodes.push(node),
        }
    }
    graph.remove_dead();
    graph
}

/// Factor and shift of a batch normalization, so that they broadcast along its channels.
fn constants(graph: &Graph, node: &Node) -> Option<[Tensor; 2]> {
    let map = channel_map(graph, node)?;
    let Op::BatchNorm { axis, .. } = node.op else { return None };
    let mut shape = vec![1; graph[*node.outputs.first()?].shape.len().checked_sub(axis)?];
    *shape.first_mut()? = map.shift.len();
    let vector = |values: Vec<f64>| {
        let values: Vec<f32> = values.into_iter().map(|v| v as f32).collect();
        Tensor::from_f32(&shape, &values)
    };
    Some([vector(map.factor?)?, vector(map.shift)?])
}

fn replace(graph: &mut Graph, node: Node, [factor, shift]: [Tensor; 2]) {
    let (x, y, name) = (node.inputs[0], node.outputs[0], node.name);
    let factor = graph.add_constant(&format!("{name}.factor"), factor);
    let shift = graph.add_constant(&format!("{name}.shift"), shift);
    let product = graph.add_like(&name, y);
    let mut push = |name: String, binary, inputs, output| {
        graph.nodes.push(Node { name, op: Op::Binary(binary), inputs, outputs: vec![output] });
    };
    push(name.clone(), Binary::Mul, vec![x, Some(factor)], product);
    push(name, Binary::Add, vec![Some(product), Some(shift)], y);
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
        b.add("y", Op::BatchNorm { axis: 1, epsilon: 1e-3 }, &inputs).unwrap()
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
    fn stays_elsewhere_and_can_be_written_out() {
        for shape in [vec![1, 4, 5, 5], vec![3, 4]] {
            let mut b = Builder::new(0);
            let x = b.input("x", DType::F32, shape).unwrap();
            let y = batch_norm(&mut b, x, 4);
            let before = b.finish(&[y]);
            let mut after = before.clone();
            assert_eq!(run(&mut after, &mut Factors::new()), 0);
            assert_eq!(after.census(), before.census());
            let after = written_out(after);
            assert_eq!(after.census(), [("Add", 1), ("Mul", 1)].into());
            assert_same(&before, &after, 1e-6);
        }
    }
}
