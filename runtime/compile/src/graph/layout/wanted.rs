//! The orders that readers would like.

use super::super::Graph;
use super::order::Order;
use crate::op::Op;

/// Per value, the order in which the operators that have a layout would like it, seen through those that have none.
pub(super) fn wanted(graph: &Graph) -> Vec<Option<Order>> {
    let mut wanted: Vec<Option<Order>> = vec![None; graph.values.len()];
    for node in graph.nodes.iter().rev() {
        let Some(x) = node.input(0) else { continue };
        let rank = graph[x].shape.len();
        let result =
            node.outputs.first().and_then(|y| Some((graph[*y].shape.len(), wanted[y.index()].clone()?)));
        match (&node.op, result) {
            (Op::Conv(_) | Op::ConvInteger(_) | Op::Pool(_) | Op::GroupNorm { .. }, _) => {
                wanted[x.index()] = Some(Order::channels_last(rank));
            }
            (Op::Transpose { perm }, Some((_, order))) => {
                wanted[x.index()].get_or_insert(order.before_transpose(perm));
            }
            (op, Some((rank, order))) if keeps_order(op) => {
                for operand in node.inputs.iter().flatten() {
                    if graph.konst(*operand).is_none() && graph[*operand].shape.len() == rank {
                        wanted[operand.index()].get_or_insert(order.clone());
                    }
                }
            }
            _ => {}
        }
    }
    wanted
}

/// Whether the result has the order of the operands that have its rank.
fn keeps_order(op: &Op) -> bool {
    match op {
        Op::Unary(_)
        | Op::Binary(_)
        | Op::Where
        | Op::Cast { .. }
        | Op::Identity
        | Op::Concat { .. }
        | Op::Pad(_)
        | Op::Slice { .. }
        | Op::Tile { .. }
        | Op::Resize(_)
        | Op::BatchNorm { .. }
        | Op::Softmax { .. }
        | Op::QuantizeLinear { .. }
        | Op::DequantizeLinear { .. } => true,
        Op::Reduce { keep_dims, .. } => *keep_dims,
        _ => false,
    }
}
