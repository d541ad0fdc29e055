//! Convolutions and matrix products with constant weights, as quantization sees them.

use ingraft_tensor::DType;

use crate::graph::{Graph, Node, NodeId, Uses, ValueId};
use crate::op::{Binary, Layout, Op};

/// A convolution or linear layer with constant weight and bias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    /// The convolution or product.
    pub(crate) node: NodeId,
    /// Its activations.
    pub(crate) input: ValueId,
    /// Its weight: a constant, or what `DequantizeLinear` makes of one.
    pub(crate) weight: ValueId,
    /// The dimension of the weight that counts output channels.
    pub(crate) axis: usize,
    /// Output channels.
    pub(crate) channels: usize,
    /// Whether each channel is convolved for itself.
    pub(crate) depthwise: bool,
    /// The constant bias.
    pub(crate) bias: Option<ValueId>,
    /// The addition behind a `MatMul` that brings the bias.
    pub(crate) add: Option<NodeId>,
    /// The sum before any activation; its channels come last.
    pub(crate) output: ValueId,
}

impl Layer {
    /// The layer at node `id`, or why that node does not become one.
    pub(crate) fn of(graph: &Graph, uses: &Uses, id: NodeId) -> Result<Self, &'static str> {
        let node = &graph[id];
        let axis = match &node.op {
            Op::Conv(conv) if conv.layout != Layout::ChannelsLast || conv.window.kernel.len() > 2 => {
                return Err("integer convolutions have one or two spatial dimensions");
            }
            Op::Conv(_) | Op::Gemm { trans_b: true, .. } => 0,
            Op::MatMul | Op::Gemm { .. } => 1,
            _ => return Err("it is neither a convolution nor a matrix product"),
        };
        if let Op::Gemm { alpha, beta, trans_a, .. } = node.op
            && (alpha != 1.0 || beta != 1.0 || trans_a)
        {
            return Err("integer products have no factors and do not transpose activations");
        }
        let (Some(input), Some(weight), Some(output)) = (node.input(0), node.input(1), node.outputs.first())
        else {
            return Err("it lacks an operand");
        };
        let stored = graph.stored(weight, uses).map(|(value, _)| graph[value].dtype);
        let shape = &graph[weight].shape;
        if !matches!(stored, Some(DType::F32 | DType::I8 | DType::U8)) || shape.len() <= axis {
            return Err("its weight is not a constant matrix of single precision or int8");
        }
        if matches!(node.op, Op::MatMul | Op::Gemm { .. }) && shape.len() != 2 {
            return Err("its weight is not a constant matrix of single precision or int8");
        }
        if graph[input].dtype != DType::F32 || graph.konst(input).is_some() {
            return Err("its input is not an activation of single precision");
        }
        let channels = shape[axis];
        let depthwise = matches!(&node.op, Op::Conv(conv) if conv.groups == channels && shape[1] == 1);
        let mut layer = Self {
            node: id,
            input,
            weight,
            axis,
            channels,
            depthwise,
            bias: node.input(2),
            add: None,
            output: *output,
        };
        layer.take_bias(graph, uses)?;
        Ok(layer)
    }

    /// Whether `node` would be a layer if its operands were right: a convolution, or a product with a constant matrix.
    pub(crate) fn is_product(graph: &Graph, node: &Node) -> bool {
        let product = matches!(node.op, Op::Conv(_) | Op::MatMul | Op::Gemm { .. });
        product && node.input(1).is_some_and(|weight| graph.konst(weight).is_some())
    }

    /// Finds the bias behind a `MatMul`; refuses one that is not a constant per channel.
    fn take_bias(&mut self, graph: &Graph, uses: &Uses) -> Result<(), &'static str> {
        let vector = |bias: ValueId| {
            let shape = &graph[bias].shape;
            let per_channel = shape.last() == Some(&self.channels) && graph[bias].elements() == self.channels;
            graph.konst(bias).is_some_and(|b| b.dtype() == DType::F32) && per_channel
        };
        let scalar = |bias: ValueId| graph.konst(bias).is_some_and(|b| b.scalar().is_some());
        if let Some(bias) = self.bias {
            return if vector(bias) || scalar(bias) {
                Ok(())
            } else {
                Err("its bias is not constant per channel")
            };
        }
        let Some(add) = uses.only_consumer(self.output) else { return Ok(()) };
        let node = &graph[add];
        let (Op::Binary(Binary::Add), Op::MatMul) = (&node.op, &graph[self.node].op) else { return Ok(()) };
        let other = node.inputs.iter().flatten().copied().find(|v| *v != self.output);
        let sum = node.outputs.first().filter(|sum| graph[**sum].shape == graph[self.output].shape);
        if let (Some(bias), Some(sum)) = (other.filter(|v| vector(*v)), sum) {
            (self.bias, self.add, self.output) = (Some(bias), Some(add), *sum);
        }
        Ok(())
    }

    /// The bias, one element per channel; zeros where there is none.
    pub(crate) fn biases(&self, graph: &Graph) -> Vec<f32> {
        let values = self.bias.and_then(|bias| graph.konst(bias)).map_or(vec![0.0], |bias| bias.to_f32());
        values.iter().copied().cycle().take(self.channels).collect()
    }
}
