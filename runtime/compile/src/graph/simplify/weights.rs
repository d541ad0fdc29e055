//! Moves rearrangements of dequantized weights onto the codes, where they fold away.

use super::super::{Graph, NodeId, Tensor, Uses, ValueId, fold};
use crate::op::{Op, ValueType};

/// Rewrites a transpose or reshape of `DequantizeLinear` of a constant as `DequantizeLinear` of the rearranged
/// constant. Gives the number of edits.
pub(super) fn run(graph: &mut Graph) -> usize {
    let uses = Uses::of(graph);
    let mut edits = 0;
    for id in graph.node_ids() {
        let Some((codes, parameters, axis)) = rearranged(graph, &uses, id) else { continue };
        edits += 1;
        let codes = graph.add_constant(&graph[parameters.codes].name.clone(), codes);
        if parameters.sole {
            graph.swap_names(parameters.codes, codes);
        }
        let node = &mut graph.nodes[id.index()];
        node.op = Op::DequantizeLinear { axis };
        node.inputs = vec![Some(codes), Some(parameters.scale), parameters.zero_point];
    }
    graph.remove_dead();
    edits
}

struct Parameters {
    /// The constant the codes come from.
    codes: ValueId,
    /// Whether nothing else uses it, so that its name can go to the rearranged codes.
    sole: bool,
    scale: ValueId,
    zero_point: Option<ValueId>,
}

/// The codes after the rearrangement at node `id`, their parameters, and the dimension the scales then belong to.
fn rearranged(graph: &Graph, uses: &Uses, id: NodeId) -> Option<(Tensor, Parameters, usize)> {
    let node = &graph[id];
    let source = uses.made_by(graph, node.input(0)?)?;
    let Op::DequantizeLinear { axis } = source.op else { return None };
    let codes = source.input(0)?;
    let scale = source.input(1)?;
    let per_channel = graph[scale].elements() > 1;
    let to = &graph[*node.outputs.first()?].shape;
    let axis = match &node.op {
        Op::Transpose { perm } => perm.iter().position(|&from| from == axis).unwrap_or(0),
        Op::Reshape { .. } if !per_channel => 0,
        Op::Reshape { .. } => same_axis(&graph[codes].shape, axis, to)?,
        _ => return None,
    };
    let result = ValueType::new(graph[codes].dtype, to.clone());
    let moved = fold::evaluate(&node.op, &[Some(graph.konst(codes)?)], &[result])?;
    let sole = uses.only_consumer(codes).is_some() && uses.only_consumer(node.input(0)?).is_some();
    let parameters = Parameters { codes, sole, scale, zero_point: source.input(2) };
    Some((moved.into_iter().next()?, parameters, axis))
}

/// The dimension of `to` that dimension `axis` of `from` becomes in a reshape, where there is one: the same number of
/// elements before it and in it.
fn same_axis(from: &[usize], axis: usize, to: &[usize]) -> Option<usize> {
    let before: usize = from.get(..axis)?.iter().product();
    let matches = |i: usize| to.iter().take(i).product::<usize>() == before && to.get(i) == from.get(axis);
    (0..to.len()).find(|&i| matches(i))
}

#[cfg(test)]
mod tests {
    use ingraft_tensor::DType;

    use super::*;
    use crate::graph::Builder;
    use crate::reference::assert_same;

    #[test]
    fn rearranges_codes() {
        let cases = [
            (Op::Transpose { perm: vec![1, 0] }, vec![1.0, 2.0], 0, 1),
            (Op::Reshape { shape: vec![1, 2, 3] }, vec![1.0, 2.0], 0, 1),
            (Op::Reshape { shape: vec![6] }, vec![0.5], 0, 0),
        ];
        for (op, scales, axis, want) in cases {
            let mut b = Builder::new(0);
            let codes = Tensor::from_i64(DType::I8, &[2, 3], &[1, 2, 3, 4, 5, 6]).unwrap();
            let codes = b.constant("w", codes);
            let scale = b.constant("s", Tensor::from_f32(&[scales.len()], &scales).unwrap());
            let w = b.add("dq", Op::DequantizeLinear { axis }, &[codes, scale]).unwrap();
            let y = b.add("y", op, &[w]).unwrap();
            let before = b.finish(&[y]);
            let mut after = before.clone();
            assert_eq!(run(&mut after), 1);
            assert_eq!(after.nodes.len(), 1);
            assert_eq!(after.nodes[0].op, Op::DequantizeLinear { axis: want });
            assert_eq!(after[after.nodes[0].input(0).unwrap()].name, "w");
            assert_same(&before, &after, 0.0);
        }
    }

    #[test]
    fn keeps_what_would_tear_channels_apart() {
        assert_eq!(same_axis(&[2, 3], 0, &[3, 2]), None);
        assert_eq!(same_axis(&[4, 3], 1, &[2, 2, 3]), Some(2));
    }
}
