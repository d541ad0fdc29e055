//! The graph between the ONNX file and the plan.
//!
//! Every value has an element type and a static shape, every operator is one
//! variant of [`Op`] with its attributes already read, and the nodes are in
//! topological order. Differences between opsets are gone: they are resolved
//! when the file is read.

pub mod build;
pub mod diagonal;
pub mod fold;
pub mod layout;
pub mod linear;
mod rewrite;
pub mod simplify;
pub mod tensor;
pub mod uses;

use std::collections::BTreeMap;

use ingraft_tensor::DType;

pub use self::build::Builder;
pub use self::diagonal::{Diagonal, Diagonals};
pub use self::layout::{ChannelsLast, channels_last};
pub use self::linear::Linear;
pub use self::simplify::{Simplified, simplify};
pub use self::tensor::Tensor;
pub use self::uses::Uses;
use crate::op::Op;

/// Identifies a value within one [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(pub(crate) u32);

/// Identifies a node by its place in [`Graph::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) u32);

impl ValueId {
    /// The index into [`Graph::values`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl NodeId {
    /// The index into [`Graph::nodes`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A tensor that flows between nodes, or a constant.
#[derive(Clone, Debug)]
pub struct Value {
    /// The name in the ONNX file, or one derived from the node that made it. Unique within the graph.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Extents, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// The data, where it is known at compile time.
    pub konst: Option<Tensor>,
}

impl Value {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// One operator applied to values.
#[derive(Clone, Debug)]
pub struct Node {
    /// The name in the ONNX file, or the name of its first output where the file gives none.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Operands in the order [`Op`] documents; `None` for an omitted optional one.
    pub inputs: Vec<Option<ValueId>>,
    /// Results in the order [`Op`] documents. All are present; a result nobody asked for has no consumer.
    pub outputs: Vec<ValueId>,
}

impl Node {
    /// Operand `index`, where present.
    pub fn input(&self, index: usize) -> Option<ValueId> {
        self.inputs.get(index).copied().flatten()
    }
}

/// A graph input that was turned into a constant, because an operator needs its value to have a static shape.
#[derive(Clone, Debug)]
pub struct Frozen {
    /// Name of the graph input.
    pub name: String,
    /// The value it was frozen to.
    pub value: Tensor,
}

/// A typed, statically shaped, topologically ordered graph.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Operators, each after those it depends on.
    pub nodes: Vec<Node>,
    /// All values, indexed by [`ValueId`].
    pub values: Vec<Value>,
    /// What the caller feeds, in file order.
    pub inputs: Vec<ValueId>,
    /// What the caller receives, in file order. May name constants and graph inputs.
    pub outputs: Vec<ValueId>,
    /// Inputs of the file that became constants.
    pub frozen: Vec<Frozen>,
}

impl core::ops::Index<ValueId> for Graph {
    type Output = Value;

    /// # Panics
    /// When `id` belongs to another graph.
    fn index(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }
}

impl core::ops::Index<NodeId> for Graph {
    type Output = Node;

    /// # Panics
    /// When `id` belongs to another graph.
    fn index(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }
}

impl Graph {
    /// The data of `id`, where it is a constant.
    pub fn konst(&self, id: ValueId) -> Option<&Tensor> {
        self[id].konst.as_ref()
    }

    /// The data of operand `index` of `node`, where it is present and constant.
    pub fn konst_input(&self, node: &Node, index: usize) -> Option<&Tensor> {
        self.konst(node.input(index)?)
    }

    /// The ids of all nodes, in topological order.
    pub fn node_ids(&self) -> impl DoubleEndedIterator<Item = NodeId> + use<> {
        (0..self.nodes.len() as u32).map(NodeId)
    }

    /// The value called `name`.
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.values.iter().position(|v| v.name == name).map(|i| ValueId(i as u32))
    }

    /// Per value, the node that produces it.
    pub fn producers(&self) -> Vec<Option<NodeId>> {
        let mut producers = vec![None; self.values.len()];
        for id in self.node_ids() {
            for output in &self[id].outputs {
                producers[output.index()] = Some(id);
            }
        }
        producers
    }

    /// Per value, the nodes that read it, in order; a node that reads it twice appears twice. Graph outputs do not count.
    pub fn consumers(&self) -> Vec<Vec<NodeId>> {
        let mut consumers = vec![Vec::new(); self.values.len()];
        for id in self.node_ids() {
            for input in self[id].inputs.iter().flatten() {
                consumers[input.index()].push(id);
            }
        }
        consumers
    }

    /// The producer and the consumers of every value.
    pub fn uses(&self) -> Uses {
        Uses::of(self)
    }

    /// How many nodes apply each operator, by name.
    pub fn census(&self) -> BTreeMap<&'static str, usize> {
        let mut census = BTreeMap::new();
        for node in &self.nodes {
            *census.entry(node.op.name()).or_insert(0) += 1;
        }
        census
    }
}
