//! Puts channels last.
//!
//! ONNX has convolutions on [N, C, H, W]; plans have them on [N, H, W, C]. The
//! pass goes once through the graph and keeps, for every value, the order its
//! dimensions are stored in. A transpose changes that order and moves nothing;
//! an operator that does not care takes the order its operand comes in; only
//! where an operator needs another order does a transpose appear. So the
//! transposes an exporter put around every convolution cancel.

mod order;
mod rule;
#[cfg(test)]
mod tests;
mod wanted;

use std::collections::HashMap;

pub use self::order::Order;
use self::rule::{Arrangement, Need, Operand};
use super::simplify::{merge, noop};
use super::{Graph, Node, Tensor, ValueId, fold};
use crate::op::movement::permute;
use crate::op::{Op, ValueType};

/// A graph in which every convolution, pooling and group normalization has its channels last.
///
/// Weights stay [out, in ÷ groups, kernel…]. Graph inputs and outputs keep
/// the shapes of the file.
#[derive(Clone, Debug)]
pub struct ChannelsLast {
    graph: Graph,
    orders: Vec<Order>,
}

impl ChannelsLast {
    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The graph, by value.
    pub fn into_graph(self) -> Graph {
        self.graph
    }

    /// How the dimensions of `id` are stored: entry `i` is the dimension, in the file's order, that dimension `i` holds.
    /// `None` for values the pass added.
    pub fn order(&self, id: ValueId) -> Option<&[usize]> {
        self.orders.get(id.index()).map(Order::axes)
    }
}

/// Puts channels last.
///
/// # Numerics
/// Elements are moved, nothing is computed anew.
pub fn channels_last(graph: Graph) -> ChannelsLast {
    let wanted = wanted::wanted(&graph);
    let mut pass = Pass::new(graph, wanted);
    pass.inputs();
    for node in core::mem::take(&mut pass.pending) {
        pass.node(node);
    }
    pass.outputs();
    let Pass { mut graph, orders, .. } = pass;
    while noop::run(&mut graph) + merge::run(&mut graph) > 0 {}
    ChannelsLast { graph, orders }
}

/// Where a value's data is, and in which order.
#[derive(Clone, Debug)]
struct Form {
    id: ValueId,
    order: Order,
}

struct Pass {
    /// The graph as it becomes; values of the old graph keep their ids.
    graph: Graph,
    /// The old graph's nodes.
    pending: Vec<Node>,
    /// Per old value, its shape in the file.
    shapes: Vec<Vec<usize>>,
    /// Per old value, its first form.
    forms: Vec<Form>,
    /// Other forms, made on demand.
    others: HashMap<(ValueId, Order), ValueId>,
    /// Per old value, the order its readers would like.
    wanted: Vec<Option<Order>>,
    /// Per old value, the order it is stored in under its own id.
    orders: Vec<Order>,
    /// Per value of the new graph, the place of the node that makes it.
    producers: HashMap<ValueId, usize>,
}

impl Pass {
    fn new(mut graph: Graph, wanted: Vec<Option<Order>>) -> Self {
        let shapes: Vec<_> = graph.values.iter().map(|v| v.shape.clone()).collect();
        let orders: Vec<_> = shapes.iter().map(|s| Order::identity(s.len())).collect();
        let forms =
            (0u32..).zip(&orders).map(|(i, order)| Form { id: ValueId(i), order: order.clone() }).collect();
        let pending = core::mem::take(&mut graph.nodes);
        let (others, producers) = (HashMap::new(), HashMap::new());
        Self { graph, pending, shapes, forms, others, wanted, orders, producers }
    }

    fn inputs(&mut self) {
        for id in self.graph.inputs.clone() {
            self.settle(id);
        }
    }

    fn node(&mut self, node: Node) {
        if let (Op::Transpose { perm }, Some(x), &[y]) = (&node.op, node.input(0), node.outputs.as_slice()) {
            let Form { id, order } = self.forms[x.index()].clone();
            self.forms[y.index()] = Form { id, order: order.after_transpose(perm) };
            return;
        }
        let operands: Vec<_> = node.inputs.iter().map(|id| id.map(|id| self.operand(id))).collect();
        let result_rank = node.outputs.first().map_or(0, |y| self.shapes[y.index()].len());
        let Arrangement { op, needs, results } = rule::arrange(&node.op, &operands, result_rank);
        let inputs =
            node.inputs.iter().zip(needs).map(|(id, need)| id.map(|id| self.meet(id, need))).collect();
        for (&id, order) in node.outputs.iter().zip(results) {
            self.graph.values[id.index()].shape = order.apply(&self.shapes[id.index()]);
            self.orders[id.index()] = order.clone();
            self.forms[id.index()] = Form { id, order };
        }
        let outputs = node.outputs.clone();
        self.push(Node { op, inputs, ..node });
        for id in outputs {
            self.settle(id);
        }
    }

    fn operand(&self, id: ValueId) -> Operand {
        let Form { order, .. } = self.forms[id.index()].clone();
        let shape = self.shapes[id.index()].clone();
        Operand { order, shape, konst: self.graph.konst(id).is_some() }
    }

    /// Where a value comes into being in the file's order and its readers want another, gives it that order at once, so
    /// that no transpose lands between a quantizer and its operator.
    fn settle(&mut self, id: ValueId) {
        let Some(order) = self.wanted[id.index()].clone() else { return };
        if self.forms[id.index()].order.is_identity() && !order.is_identity() {
            let own = self.forms[id.index()].clone();
            let moved = self.in_order(id, &order);
            self.others.insert((id, own.order), own.id);
            self.forms[id.index()] = Form { id: moved, order };
        }
    }

    fn meet(&mut self, id: ValueId, need: Need) -> ValueId {
        match need {
            Need::AsStored => self.forms[id.index()].id,
            Need::Order(order) => self.in_order(id, &order),
            Need::Broadcast(order) => self.broadcast(id, &order),
        }
    }

    /// The value in this order, which has its rank.
    fn in_order(&mut self, id: ValueId, order: &Order) -> ValueId {
        let form = self.forms[id.index()].clone();
        if form.order == *order {
            return form.id;
        }
        if let Some(&other) = self.others.get(&(id, order.clone())) {
            return other;
        }
        let perm = form.order.to(order);
        let moved = match self.dequantized_in(&form, order) {
            Some(moved) => moved,
            None => self.transposed(form.id, &perm),
        };
        self.others.insert((id, order.clone()), moved);
        moved
    }

    /// Where a value is dequantized from codes, dequantizes the transposed codes, so that codes are moved, not reals.
    fn dequantized_in(&mut self, form: &Form, order: &Order) -> Option<ValueId> {
        let node = self.graph.nodes[*self.producers.get(&form.id)?].clone();
        let Op::DequantizeLinear { axis } = node.op else { return None };
        let codes = node.input(0)?;
        let perm = form.order.to(order);
        let moved = self.transposed(codes, &perm);
        let result = self.graph.add_like(&node.name, form.id);
        self.graph.values[result.index()].shape = permute(&self.graph[form.id].shape, &perm);
        let axis = perm.iter().position(|&from| from == axis).unwrap_or(0);
        let mut inputs = node.inputs;
        inputs[0] = Some(moved);
        self.push(Node { op: Op::DequantizeLinear { axis }, inputs, outputs: vec![result], name: node.name });
        Some(result)
    }

    /// A stored value of lower or equal rank, made to broadcast to values stored in this order.
    fn broadcast(&mut self, id: ValueId, order: &Order) -> ValueId {
        let (shape, form) = (self.shapes[id.index()].clone(), self.forms[id.index()].clone());
        if shape.len() == order.rank() && self.graph.konst(form.id).is_none() {
            return self.in_order(id, order);
        }
        if order.is_identity() || shape.iter().all(|&extent| extent == 1) {
            return self.in_order(id, &Order::identity(shape.len()));
        }
        if let Some(&other) = self.others.get(&(id, order.clone())) {
            return other;
        }
        let mut full = vec![1; order.rank() - shape.len()];
        full.extend(&shape);
        let plain = self.in_order(id, &Order::identity(shape.len()));
        let wide = self.reshaped(plain, full);
        let moved = self.transposed(wide, order.axes());
        // Leading dimensions of extent 1 say nothing in a broadcast.
        let trimmed = self.graph[moved].shape.iter().skip_while(|&&extent| extent == 1).copied().collect();
        let moved = if self.graph.konst(moved).is_some() { self.reshaped(moved, trimmed) } else { moved };
        self.others.insert((id, order.clone()), moved);
        moved
    }

    /// A stored value with its dimensions permuted.
    fn transposed(&mut self, id: ValueId, perm: &[usize]) -> ValueId {
        let shape = permute(&self.graph[id].shape, perm);
        if merge::moves_only_units(&self.graph[id].shape, perm) {
            return self.reshaped(id, shape);
        }
        self.moved(id, Op::Transpose { perm: perm.to_vec() }, shape)
    }

    /// A stored value under another shape.
    fn reshaped(&mut self, id: ValueId, shape: Vec<usize>) -> ValueId {
        if self.graph[id].shape == shape {
            return id;
        }
        self.moved(id, Op::Reshape { shape: shape.clone() }, shape)
    }

    /// The result of an operator that moves elements: a node, or for a constant another constant.
    fn moved(&mut self, id: ValueId, op: Op, shape: Vec<usize>) -> ValueId {
        let value = &self.graph[id];
        let name = value.name.clone();
        let ty = ValueType::new(value.dtype, shape.clone());
        let folded = |konst: &Tensor| Some(fold::evaluate(&op, &[Some(konst)], &[ty])?.swap_remove(0));
        if let Some(tensor) = value.konst.as_ref().and_then(folded) {
            return self.graph.add_constant(&name, tensor);
        }
        let result = self.graph.add_like(&name, id);
        self.graph.values[result.index()].shape = shape;
        self.push(Node { name, op, inputs: vec![Some(id)], outputs: vec![result] });
        result
    }

    fn push(&mut self, node: Node) {
        for &output in &node.outputs {
            self.producers.insert(output, self.graph.nodes.len());
        }
        self.graph.nodes.push(node);
    }

    /// Gives every graph output the order and the name it has in the file.
    fn outputs(&mut self) {
        for index in 0..self.graph.outputs.len() {
            let id = self.graph.outputs[index];
            let plain = self.in_order(id, &Order::identity(self.shapes[id.index()].len()));
            if plain == id {
                continue;
            }
            let name = self.graph[id].name.clone();
            let result = self.graph.add_like(&name, plain);
            self.push(Node { name, op: Op::Identity, inputs: vec![Some(plain)], outputs: vec![result] });
            self.graph.swap_names(id, result);
            self.graph.outputs[index] = result;
        }
    }
}
