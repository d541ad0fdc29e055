//! What each operator makes of the orders of its operands.

use super::super::simplify::merge::moves_only_units;
use super::order::Order;
use crate::op::{Conv, Layout, Op, Pad, Pool, Resize};

/// An operand as it is stored.
pub(super) struct Operand {
    pub(super) order: Order,
    /// The shape in the file.
    pub(super) shape: Vec<usize>,
    pub(super) konst: bool,
}

/// In which order an operator wants an operand.
pub(super) enum Need {
    /// In whichever it is stored.
    AsStored,
    /// In this one.
    Order(Order),
    /// So that it broadcasts to values in this one; the operand may have a lower rank.
    Broadcast(Order),
}

/// An operator adapted to stored orders.
pub(super) struct Arrangement {
    pub(super) op: Op,
    /// One per operand; what an omitted operand needs has no effect.
    pub(super) needs: Vec<Need>,
    /// The orders of the results.
    pub(super) results: Vec<Order>,
}

/// Adapts an operator whose first result has `rank` dimensions.
pub(super) fn arrange(op: &Op, operands: &[Option<Operand>], rank: usize) -> Arrangement {
    if let Some(adapted) = with_channels_last(op) {
        return anchored(adapted, operands, rank);
    }
    match op {
        Op::Binary(_) | Op::Where => joined(op.clone(), operands, rank, Need::Broadcast),
        Op::Concat { axis } => {
            let mut arrangement = joined(op.clone(), operands, rank, Need::Order);
            let axis = arrangement.results.first().map_or(*axis, |order| order.position(*axis));
            arrangement.op = Op::Concat { axis };
            arrangement
        }
        Op::Reshape { .. } => reshape(op, operands, rank),
        _ => match operands.first().and_then(Option::as_ref).and_then(|x| following(op, &x.order)) {
            Some((op, result)) => followed(op, result, operands),
            None => plain(op, operands, rank),
        },
    }
}

/// The operator on channels-last tensors, where it has a layout.
fn with_channels_last(op: &Op) -> Option<Op> {
    let layout = Layout::ChannelsLast;
    Some(match op {
        Op::Conv(conv) => Op::Conv(Conv { layout, ..conv.clone() }),
        Op::ConvInteger(conv) => Op::ConvInteger(Conv { layout, ..conv.clone() }),
        Op::Pool(pool) => Op::Pool(Pool { layout, ..pool.clone() }),
        Op::GroupNorm { groups, epsilon, .. } => Op::GroupNorm { groups: *groups, epsilon: *epsilon, layout },
        _ => return None,
    })
}

/// The operator adapted to an operand stored in `order`, and the order of its result, where it works on any.
fn following(op: &Op, order: &Order) -> Option<(Op, Order)> {
    let same = || order.clone();
    Some(match op {
        Op::Unary(_) | Op::Cast { .. } | Op::Identity | Op::DynamicQuantizeLinear => (op.clone(), same()),
        Op::QuantizeLinear { axis, to } => {
            (Op::QuantizeLinear { axis: order.position(*axis), to: *to }, same())
        }
        Op::DequantizeLinear { axis } => (Op::DequantizeLinear { axis: order.position(*axis) }, same()),
        Op::BatchNorm { axis, epsilon } => {
            (Op::BatchNorm { axis: order.position(*axis), epsilon: *epsilon }, same())
        }
        Op::Softmax { axis, log } => (Op::Softmax { axis: order.position(*axis), log: *log }, same()),
        Op::CumSum { axis, exclusive, reverse } => {
            let axis = order.position(*axis);
            (Op::CumSum { axis, exclusive: *exclusive, reverse: *reverse }, same())
        }
        Op::Pad(Pad { mode, before, after }) => {
            (Op::Pad(Pad { mode: *mode, before: order.apply(before), after: order.apply(after) }), same())
        }
        Op::Slice { ranges } => (Op::Slice { ranges: order.apply(ranges) }, same()),
        Op::Tile { repeats } => (Op::Tile { repeats: order.apply(repeats) }, same()),
        Op::Resize(resize) => {
            let (scales, shape) = (order.apply(&resize.scales), order.apply(&resize.shape));
            (Op::Resize(Resize { scales, shape, ..resize.clone() }), same())
        }
        Op::Reduce { kind, axes, keep_dims } => {
            let mut stored: Vec<usize> = axes.iter().map(|&axis| order.position(axis)).collect();
            stored.sort_unstable();
            let result = if *keep_dims { same() } else { order.without(axes) };
            (Op::Reduce { kind: *kind, axes: stored, keep_dims: *keep_dims }, result)
        }
        Op::ArgMax { axis, keep_dims, last } => {
            let result = if *keep_dims { same() } else { order.without(&[*axis]) };
            (Op::ArgMax { axis: order.position(*axis), keep_dims: *keep_dims, last: *last }, result)
        }
        _ => return None,
    })
}

/// The first operand and the result have channels last, the other operands the file's order.
fn anchored(op: Op, operands: &[Option<Operand>], rank: usize) -> Arrangement {
    let mut needs = in_file_order(operands);
    if let Some(first) = needs.first_mut() {
        *first = Need::Order(Order::channels_last(rank));
    }
    Arrangement { op, needs, results: vec![Order::channels_last(rank)] }
}

/// The result follows the first operand; the others, and further results, have the file's order.
fn followed(op: Op, result: Order, operands: &[Option<Operand>]) -> Arrangement {
    let mut needs = in_file_order(operands);
    if let Some(first) = needs.first_mut() {
        *first = Need::AsStored;
    }
    // The only further results are the scalars of a dynamic quantization.
    let scalars = [Order::identity(0), Order::identity(0)];
    Arrangement { op, needs, results: [result].into_iter().chain(scalars).collect() }
}

/// All operands meet in the order of the largest one that is not constant and has the result's rank.
fn joined(op: Op, operands: &[Option<Operand>], rank: usize, need: fn(Order) -> Need) -> Arrangement {
    let leads = |x: &&Operand| !x.konst && x.shape.len() == rank;
    let size = |x: &&Operand| (x.shape.iter().product::<usize>(), !x.order.is_identity());
    let leader = operands.iter().flatten().filter(leads).max_by_key(size);
    let order = leader.map_or_else(|| Order::identity(rank), |x| x.order.clone());
    let needs = operands.iter().map(|_| need(order.clone())).collect();
    Arrangement { op, needs, results: vec![order] }
}

/// Data whose order is the file's, up to dimensions of extent 1, is reshaped as it is.
fn reshape(op: &Op, operands: &[Option<Operand>], rank: usize) -> Arrangement {
    let mut arrangement = plain(op, operands, rank);
    if let (Some(Some(x)), [need, ..]) = (operands.first(), arrangement.needs.as_mut_slice())
        && moves_only_units(&x.shape, x.order.axes())
    {
        *need = Need::AsStored;
    }
    arrangement
}

/// Everything has the file's order.
fn plain(op: &Op, operands: &[Option<Operand>], rank: usize) -> Arrangement {
    let first = Order::identity(rank);
    // Every result of a recurrent network beyond the first has three dimensions.
    let further = [Order::identity(3), Order::identity(3)];
    let results = [first].into_iter().chain(further).collect();
    Arrangement { op: op.clone(), needs: in_file_order(operands), results }
}

fn in_file_order(operands: &[Option<Operand>]) -> Vec<Need> {
    let rank = |x: &Option<Operand>| x.as_ref().map_or(0, |x| x.shape.len());
    operands.iter().map(|x| Need::Order(Order::identity(rank(x)))).collect()
}
