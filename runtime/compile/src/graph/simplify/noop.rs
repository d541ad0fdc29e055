//! Removes nodes that give back their operand.

use super::super::{Graph, Node, Uses, ValueId};
use crate::op::{Op, PadMode};

/// Removes every such node; one stays where the graph output it makes could not be named otherwise. Gives the number
/// of edits.
pub(crate) fn run(graph: &mut Graph) -> usize {
    let uses = Uses::of(graph);
    let mut outputs: Vec<bool> = (0..graph.values.len() as u32).map(|i| uses.is_output(ValueId(i))).collect();
    let mut inputs = vec![false; graph.values.len()];
    for id in &graph.inputs {
        inputs[id.index()] = true;
    }
    let mut stands_for: Vec<ValueId> = (0..graph.values.len() as u32).map(ValueId).collect();
    let mut kept = Vec::with_capacity(graph.nodes.len());
    let mut edits = 0;
    for mut node in core::mem::take(&mut graph.nodes) {
        for input in node.inputs.iter_mut().flatten() {
            *input = stands_for[input.index()];
        }
        let (Some(from), &[to]) = (node.input(0), node.outputs.as_slice()) else {
            kept.push(node);
            continue;
        };
        let nameless =
            !outputs[from.index()] && !inputs[from.index()] && graph.values[from.index()].konst.is_none();
        if !gives_back(graph, &node) || (outputs[to.index()] && !nameless) {
            kept.push(node);
            continue;
        }
        edits += 1;
        stands_for[to.index()] = from;
        if outputs[to.index()] {
            outputs[from.index()] = true;
            graph.values[from.index()].name = core::mem::take(&mut graph.values[to.index()].name);
        }
    }
    for output in &mut graph.outputs {
        *output = stands_for[output.index()];
    }
    graph.nodes = kept;
    graph.remove_dead();
    edits
}

/// Whether the only result of `node` equals its first operand.
fn gives_back(graph: &Graph, node: &Node) -> bool {
    let (Some(from), Some(&to)) = (node.input(0), node.outputs.first()) else { return false };
    let (from, to) = (&graph[from], &graph[to]);
    let same_shape = from.shape == to.shape;
    match &node.op {
        Op::Identity => true,
        Op::Reshape { .. } | Op::Expand { .. } | Op::Tile { .. } => same_shape,
        Op::Concat { .. } => node.inputs.len() == 1,
        Op::Transpose { perm } => perm.is_sorted(),
        Op::Slice { ranges } => same_shape && ranges.iter().all(|range| range.len <= 1 || range.step == 1),
        Op::Cast { to } => from.dtype == *to,
        Op::Pad(pad) => {
            same_shape && matches!(pad.mode, PadMode::Constant(_) | PadMode::Edge | PadMode::Reflect)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use ingraft_tensor::DType;

    use super::*;
    use crate::graph::Builder;
    use crate::op::{SliceRange, Unary};
    use crate::reference::assert_same;

    #[test]
    fn removes_what_gives_back_its_operand() {
        let mut b = Builder::new(0);
        let x = b.input("x", DType::F32, vec![2, 3]).unwrap();
        let mut y = b.add("relu", Op::Unary(Unary::Relu), &[x]).unwrap();
        let noops = [
            Op::Identity,
            Op::Reshape { shape: vec![2, 3] },
            Op::Transpose { perm: vec![0, 1] },
            Op::Slice { ranges: vec![SliceRange::full(2), SliceRange::full(3)] },
            Op::Expand { shape: vec![2, 3] },
            Op::Tile { repeats: vec![1, 1] },
            Op::Cast { to: DType::F32 },
            Op::Concat { axis: 0 },
        ];
        for op in noops {
            y = b.add("y", op, &[y]).unwrap();
        }
        let before = b.finish(&[y]);
        let mut after = before.clone();
        assert_eq!(run(&mut after), 8);
        assert_eq!(after.nodes.len(), 1);
        assert_eq!(after[after.outputs[0]].name, "y");
        assert_same(&before, &after, 0.0);
    }

    #[test]
    fn keeps_the_names_of_outputs() {
        let mut b = Builder::new(0);
        let x = b.input("x", DType::F32, vec![2]).unwrap();
        let relu = b.add("relu", Op::Unary(Unary::Relu), &[x]).unwrap();
        let outputs = ["same", "first", "second"];
        let ids: Vec<_> = outputs
            .iter()
            .zip([x, relu, relu])
            .map(|(name, from)| b.add(name, Op::Identity, &[from]).unwrap())
            .collect();
        let before = b.finish(&ids);
        let mut after = before.clone();
        assert_eq!(run(&mut after), 1);
        let names: Vec<_> = after.outputs.iter().map(|&id| after[id].name.as_str()).collect();
        assert_eq!(names, outputs);
        assert_same(&before, &after, 0.0);
    }
}
