//! Reading quantization parameters off `QuantizeLinear` and `DequantizeLinear` nodes.

use ingraft_tensor::{DType, QParams};

use crate::graph::{Graph, Node, Tensor};

/// Scales and zero points of a `QuantizeLinear` or `DequantizeLinear` node.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantization {
    /// One scale, or one per slice along `axis`.
    pub scales: Vec<f32>,
    /// As many zero points, in the file's own representation.
    pub zero_points: Vec<i64>,
    /// The axis, where there is more than one scale.
    pub axis: usize,
}

impl Quantization {
    /// The parameters of `node`, or `None` when they are not constant or are blocked.
    pub fn of(graph: &Graph, node: &Node, axis: usize) -> Option<Self> {
        let scale = graph.konst_input(node, 1)?;
        let scales = scale.to_f32();
        if scale.shape().len() > 1 {
            return None;
        }
        let zero_points = match node.input(2) {
            Some(id) => graph.konst(id).map(Tensor::to_i64)?,
            None => vec![0; scales.len()],
        };
        (zero_points.len() == scales.len()).then_some(Self { scales, zero_points, axis })
    }

    /// Channel `channel`'s scale.
    pub fn scale(&self, channel: usize) -> f32 {
        *self.scales.get(channel).or(self.scales.first()).unwrap_or(&1.0)
    }

    /// Channel `channel`'s zero point.
    pub fn zero_point(&self, channel: usize) -> i64 {
        *self.zero_points.get(channel).or(self.zero_points.first()).unwrap_or(&0)
    }
}

/// The parameters of `node` when there is a single scale, for codes stored as
/// int8: uint8 codes are stored minus 128.
pub fn per_tensor(graph: &Graph, node: &Node, code: DType) -> Option<QParams> {
    let quantization = Quantization::of(graph, node, 0)?;
    let ([scale], [zero_point]) = (quantization.scales.as_slice(), quantization.zero_points.as_slice()) else {
        return None;
    };
    let offset = match code {
        DType::I8 => 0,
        DType::U8 => 128,
        _ => return None,
    };
    QParams::new(*scale, i32::try_from(zero_point - offset).ok()?)
}
