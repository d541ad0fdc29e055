//! Matrix products with constant weights, seen as linear layers.

use super::{Graph, NodeId, Uses, ValueId};
use crate::op::{Binary, Op};

/// A linear layer: a `MatMul` or `Gemm` whose right operand is a constant matrix, as it is or behind
/// `DequantizeLinear`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linear {
    /// The activations, (…, in).
    pub input: ValueId,
    /// The constant matrix in its stored type.
    pub weights: ValueId,
    /// The node that dequantizes the weights, where they are codes.
    pub dequantize: Option<NodeId>,
    /// Whether the weights are stored (out, in), else (in, out).
    pub out_in: bool,
    /// The bias operand of a `Gemm`, or what the `Add` after a `MatMul` adds: a vector that is constant, as it is or
    /// behind `DequantizeLinear`.
    pub bias: Option<ValueId>,
    /// That `Add`, where the bias is there.
    pub add: Option<NodeId>,
}

impl Graph {
    /// The linear layer at node `id`, where it is one. A `Gemm` counts with both factors 1 and its left operand not
    /// transposed.
    pub fn linear(&self, id: NodeId, uses: &Uses) -> Option<Linear> {
        let node = &self[id];
        let out_in = match node.op {
            Op::MatMul => false,
            Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b } => trans_b,
            _ => return None,
        };
        let (weights, dequantize) = self.stored(node.input(1)?, uses)?;
        if self[weights].shape.len() != 2 {
            return None;
        }
        let mut linear =
            Linear { input: node.input(0)?, weights, dequantize, out_in, bias: node.input(2), add: None };
        let sum = node.outputs.first().and_then(|&product| Some((product, uses.only_consumer(product)?)));
        if let (None, Some((product, add))) = (linear.bias, sum) {
            linear.bias = self.added_vector(add, product, uses);
            linear.add = linear.bias.map(|_| add);
        }
        Some(linear)
    }

    /// The constant behind `id`: itself, or what the `DequantizeLinear` that makes it reads.
    pub fn stored(&self, id: ValueId, uses: &Uses) -> Option<(ValueId, Option<NodeId>)> {
        if self.konst(id).is_some() {
            return Some((id, None));
        }
        let producer = uses.producer(id)?;
        let codes = match self[producer].op {
            Op::DequantizeLinear { .. } => self[producer].input(0)?,
            _ => return None,
        };
        self.konst(codes).map(|_| (codes, Some(producer)))
    }

    /// What node `add` adds to `product`, where it is a constant vector along the last dimension.
    fn added_vector(&self, add: NodeId, product: ValueId, uses: &Uses) -> Option<ValueId> {
        let node = &self[add];
        let (lhs, rhs) = (node.input(0)?, node.input(1)?);
        let other = if lhs == product { rhs } else { lhs };
        let is_vector =
            self[other].shape.len() == 1 && self[other].shape.last() == self[product].shape.last();
        (node.op == Op::Binary(Binary::Add) && is_vector && self.stored(other, uses).is_some())
            .then_some(other)
    }
}
