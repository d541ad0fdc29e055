//! Joins chains of reshapes and of transposes.

use super::super::{Graph, Uses};
use crate::op::Op;
use crate::op::movement::permute;

/// Makes every reshape of a reshape and transpose of a transpose one node, and every transpose that moves only
/// dimensions of extent 1 a reshape. Gives the number of edits.
pub(crate) fn run(graph: &mut Graph) -> usize {
    let uses = Uses::of(graph);
    let mut edits = 0;
    for id in graph.node_ids() {
        let node = &graph[id];
        let Some(x) = node.input(0) else { continue };
        let source = uses.made_by(graph, x).and_then(|source| Some((&source.op, source.input(0)?)));
        let (op, input) = match (&node.op, source) {
            (Op::Reshape { shape }, Some((Op::Reshape { .. }, first))) => {
                (Op::Reshape { shape: shape.clone() }, first)
            }
            (Op::Transpose { perm }, Some((Op::Transpose { perm: inner }, first))) => {
                (Op::Transpose { perm: permute(inner, perm) }, first)
            }
            (Op::Transpose { perm }, _) if !perm.is_sorted() && moves_only_units(&graph[x].shape, perm) => {
                (Op::Reshape { shape: permute(&graph[x].shape, perm) }, x)
            }
            _ => continue,
        };
        edits += 1;
        let node = &mut graph.nodes[id.index()];
        node.op = op;
        node.inputs = vec![Some(input)];
    }
    graph.remove_dead();
    edits
}

/// Whether transposing a tensor of this shape leaves its data in the same order.
pub(crate) fn moves_only_units(shape: &[usize], perm: &[usize]) -> bool {
    perm.iter().filter(|&&axis| shape.get(axis) != Some(&1)).is_sorted()
}

#[cfg(test)]
mod tests {
    use ingraft_tensor::DType;

    use super::*;
    use crate::graph::Builder;
    use crate::reference::assert_same;

    #[test]
    fn chains_become_one_node() {
        let cases: [(Vec<Op>, Op); 3] = [
            (
                vec![
                    Op::Reshape { shape: vec![6, 4] },
                    Op::Reshape { shape: vec![24] },
                    Op::Reshape { shape: vec![4, 6] },
                ],
                Op::Reshape { shape: vec![4, 6] },
            ),
            (
                vec![Op::Transpose { perm: vec![1, 2, 0] }, Op::Transpose { perm: vec![0, 2, 1] }],
                Op::Transpose { perm: vec![1, 0, 2] },
            ),
            (
                vec![Op::Reshape { shape: vec![1, 24, 1] }, Op::Transpose { perm: vec![1, 0, 2] }],
                Op::Reshape { shape: vec![24, 1, 1] },
            ),
        ];
        for (chain, want) in cases {
            let mut b = Builder::new(0);
            let mut y = b.input("x", DType::F32, vec![2, 3, 4]).unwrap();
            for op in chain {
                y = b.add("y", op, &[y]).unwrap();
            }
            let before = b.finish(&[y]);
            let mut after = before.clone();
            while run(&mut after) > 0 {}
            assert_eq!(after.nodes.iter().map(|n| n.op.clone()).collect::<Vec<_>>(), [want]);
            assert_same(&before, &after, 0.0);
        }
    }
}
