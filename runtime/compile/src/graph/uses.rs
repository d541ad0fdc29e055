//! Who makes and who reads each value, and pattern matching on it.

use super::{Graph, Node, NodeId, ValueId};
use crate::op::{Binary, Op, Unary};

/// The producer and the consumers of every value of a graph, as it was when this was made.
///
/// Stays right while nodes are changed in place, as long as node positions and
/// the results of each node stay the same and nothing reads a value that it did
/// not read before.
#[derive(Clone, Debug)]
pub struct Uses {
    producers: Vec<Option<NodeId>>,
    consumers: Vec<Vec<NodeId>>,
    outputs: Vec<bool>,
}

impl Uses {
    /// The uses in `graph`.
    pub fn of(graph: &Graph) -> Self {
        let mut outputs = vec![false; graph.values.len()];
        for output in &graph.outputs {
            outputs[output.index()] = true;
        }
        Self { producers: graph.producers(), consumers: graph.consumers(), outputs }
    }

    /// The node that makes `id`.
    pub fn producer(&self, id: ValueId) -> Option<NodeId> {
        self.producers.get(id.index()).copied().flatten()
    }

    /// Notes that `node` has taken over making `id`.
    pub fn set_producer(&mut self, id: ValueId, node: NodeId) {
        if let Some(producer) = self.producers.get_mut(id.index()) {
            *producer = Some(node);
        }
    }

    /// The nodes that read `id`; one that reads it twice is there twice.
    pub fn consumers(&self, id: ValueId) -> &[NodeId] {
        self.consumers.get(id.index()).map_or(&[], Vec::as_slice)
    }

    /// Whether `id` is a graph output.
    pub fn is_output(&self, id: ValueId) -> bool {
        self.outputs.get(id.index()).copied().unwrap_or(false)
    }

    /// The node that alone reads `id`, once, where `id` is not a graph output either.
    pub fn only_consumer(&self, id: ValueId) -> Option<NodeId> {
        match self.consumers(id) {
            [only] if !self.is_output(id) => Some(*only),
            _ => None,
        }
    }

    /// The node that makes `id`, itself.
    pub fn made_by<'g>(&self, graph: &'g Graph, id: ValueId) -> Option<&'g Node> {
        self.producer(id).map(|node| &graph[node])
    }

    /// The operand of the unary function that makes `id`, and the function.
    pub fn unary(&self, graph: &Graph, id: ValueId) -> Option<(Unary, ValueId)> {
        let node = self.made_by(graph, id)?;
        match node.op {
            Op::Unary(unary) => Some((unary, node.input(0)?)),
            _ => None,
        }
    }

    /// The operands of the binary function `op`, where that is what makes `id`.
    pub fn binary(&self, graph: &Graph, id: ValueId, op: Binary) -> Option<(ValueId, ValueId)> {
        let node = self.made_by(graph, id)?;
        (node.op == Op::Binary(op)).then_some((node.input(0)?, node.input(1)?))
    }
}

impl Graph {
    /// The value of `id`, where it is a constant whose elements are all this number.
    pub fn uniform(&self, id: ValueId) -> Option<f32> {
        let tensor = self.konst(id)?;
        // Long constants are weights; looking through them for a number costs more than it finds.
        if tensor.elements() > UNIFORM_ELEMENTS_MAX {
            return None;
        }
        let values = tensor.to_f32();
        let first = *values.first()?;
        values.iter().all(|&v| v == first).then_some(first)
    }
}

/// The most elements of a constant that is looked through for one repeated number.
const UNIFORM_ELEMENTS_MAX: usize = 16;
