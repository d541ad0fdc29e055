//! Powers with a constant exponent that cheaper functions compute: a general power takes two transcendental functions.

use ingraft_tensor::DType;

use super::super::{Graph, Node, ValueId};
use crate::op::{Binary, Op, Unary};

/// Replaces `x²` by `x·x` and `x⁻¹` by the reciprocal. Gives the number of edits. `x^½` stays: it is no NaN at −∞.
///
/// Comes after what recognizes powers as parts of other functions.
pub(super) fn run(graph: &mut Graph) -> usize {
    let mut edits = 0;
    for id in graph.node_ids() {
        let Some((op, inputs)) = cheaper(graph, &graph[id]) else { continue };
        let node = &mut graph.nodes[id.index()];
        (node.op, node.inputs) = (op, inputs);
        edits += 1;
    }
    graph.remove_dead();
    edits
}

fn cheaper(graph: &Graph, node: &Node) -> Option<(Op, Vec<Option<ValueId>>)> {
    let (&[Some(x), Some(exponent)], &[y]) = (node.inputs.as_slice(), node.outputs.as_slice()) else {
        return None;
    };
    let float = matches!(graph[x].dtype, DType::F32 | DType::F16);
    // An exponent of more dimensions would change the shape.
    if !matches!(node.op, Op::Binary(Binary::Pow)) || !float || graph[x].shape != graph[y].shape {
        return None;
    }
    match graph[exponent].konst.as_ref()?.scalar_f64()? {
        2.0 => Some((Op::Binary(Binary::Mul), vec![Some(x), Some(x)])),
        -1.0 => Some((Op::Unary(Unary::Reciprocal), vec![Some(x)])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Builder, Tensor};
    use crate::reference::assert_same;

    #[test]
    fn squares_and_reciprocals_are_no_powers() {
        let mut b = Builder::new(0);
        let x = b.input("x", DType::F32, vec![2, 3]).unwrap();
        let size = b.add("size", Op::Unary(Unary::Abs), &[x]).unwrap();
        let mut outputs = Vec::new();
        for (name, exponent) in [("square", 2.0), ("root", 0.5), ("inverse", -1.0), ("cube", 3.0)] {
            let exponent = b.constant(&format!("{name}.exponent"), Tensor::scalar_f32(exponent));
            outputs.push(b.add(name, Op::Binary(Binary::Pow), &[size, exponent]).unwrap());
        }
        let before = b.finish(&outputs);
        let mut after = before.clone();
        assert_eq!(run(&mut after), 2);
        let powers = after.nodes.iter().filter(|node| matches!(node.op, Op::Binary(Binary::Pow)));
        assert_eq!(powers.map(|node| node.name.as_str()).collect::<Vec<_>>(), ["root", "cube"]);
        assert_same(&before, &after, 1e-6);
    }
}
