//! What follows an operator and can be fused into it.

use ingraft_tensor::{DType, QParams};

use crate::graph::{Graph, NodeId, Uses, ValueId};
use crate::op::{Op, Unary};
use crate::quantize::per_tensor;

/// A graph with the producers and consumers of every value, computed once.
pub(super) struct Patterns<'g> {
    pub(super) graph: &'g Graph,
    uses: Uses,
}

/// A value that is `DequantizeLinear` of int8 codes with one scale.
#[derive(Clone, Copy, Debug)]
pub(super) struct Codes {
    /// The codes.
    pub(super) value: ValueId,
    /// Their parameters, for codes stored as int8.
    pub(super) qparams: QParams,
}

/// An activation and a rounding that follow an operator and have no other reader.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    /// Bounds of the fused activation, in real units.
    pub(super) bounds: [f32; 2],
    /// The rounding, when the chain ends in one.
    pub(super) qparams: Option<QParams>,
    /// The value at the end of the chain.
    pub(super) end: ValueId,
    /// The nodes of the chain.
    pub(super) nodes: Vec<NodeId>,
}

impl<'g> Patterns<'g> {
    pub(super) fn new(graph: &'g Graph) -> Self {
        Self { graph, uses: Uses::of(graph) }
    }

    /// The node that produces `value`.
    pub(super) fn producer(&self, value: ValueId) -> Option<NodeId> {
        self.uses.producer(value)
    }

    /// The one reader of `value`, where it has no other use.
    pub(super) fn reader(&self, value: ValueId) -> Option<NodeId> {
        self.uses.only_consumer(value)
    }

    /// `value` as codes, when it is dequantized with one scale.
    pub(super) fn codes(&self, value: ValueId) -> Option<Codes> {
        let node = &self.graph[self.producer(value)?];
        let source = node.input(0)?;
        let dtype = self.graph[source].dtype;
        match node.op {
            Op::DequantizeLinear { .. } => {
                Some(Codes { value: source, qparams: per_tensor(self.graph, node, dtype)? })
            }
            _ => None,
        }
    }

    /// What can be fused behind `value`: one activation, then one rounding.
    pub(super) fn chain(&self, value: ValueId) -> Chain {
        let mut chain = Chain {
            bounds: [f32::NEG_INFINITY, f32::INFINITY],
            qparams: None,
            end: value,
            nodes: Vec::new(),
        };
        if let Some(id) = self.reader(chain.end)
            && let Op::Unary(unary) = &self.graph[id].op
            && let Some(bounds) = activation_bounds(unary)
        {
            chain.bounds = bounds;
            chain.end = self.graph[id].outputs[0];
            chain.nodes.push(id);
        }
        if let Some(id) = self.reader(chain.end)
            && let Op::QuantizeLinear { to, .. } = self.graph[id].op
            && let Some(qparams) = per_tensor(self.graph, &self.graph[id], to)
        {
            chain.qparams = Some(qparams);
            chain.end = self.graph[id].outputs[0];
            chain.nodes.push(id);
        }
        chain
    }
}

impl Chain {
    /// The chain up to its rounding.
    pub(super) fn without_rounding(mut self, graph: &Graph) -> Self {
        if self.qparams.take().is_some()
            && let Some(rounding) = self.nodes.pop()
            && let Some(value) = graph[rounding].input(0)
        {
            self.end = value;
        }
        self
    }
}

/// The bounds of an activation that is a clamp.
fn activation_bounds(unary: &Unary) -> Option<[f32; 2]> {
    match unary {
        Unary::Relu => Some([0.0, f32::INFINITY]),
        Unary::Clip { min, max } => Some([*min as f32, *max as f32]),
        _ => None,
    }
}

/// Clamp bounds in output steps: the representable range met with the activation's bounds.
pub(super) fn code_bounds(bounds: [f32; 2], q: QParams) -> [f32; 2] {
    let (least, most) = ((-128 - q.zero_point) as f32, (127 - q.zero_point) as f32);
    let steps = |real: f32| (real / q.scale).clamp(least, most);
    [steps(bounds[0]), steps(bounds[1])]
}

/// The int8 codes of constant int8 or uint8 data.
pub(super) fn stored_codes(bytes: &[u8], dtype: DType) -> Vec<i8> {
    match dtype {
        DType::U8 => bytes.iter().map(|b| (b ^ 0x80) as i8).collect(),
        _ => bytes.iter().map(|b| *b as i8).collect(),
    }
}
