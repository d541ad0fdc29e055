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
    let ([scale], [zero_point]) = (quantization.scales.as_slice(), quantization.zero_points.as_slice())
    else {
        return None;
    };
    let offset = match code {
        DType::I8 => 0,
        DType::U8 => 128,
        _ => return None,
    };
    QParams::new(*scale, i32::try_from(zero_point - offset).ok()?)
}

/// Parameters whose int8 codes span the reals from `lo` to `hi` and zero, which has a code of its own.
pub fn asymmetric(lo: f32, hi: f32) -> QParams {
    let (lo, hi) = (lo.min(0.0), hi.max(0.0));
    let scale = (hi - lo) / 255.0;
    let zero_point = (-128.0 - lo / scale).round_ties_even().clamp(-128.0, 127.0);
    // Nothing but zeros, or what is as good as that: any scale will do.
    QParams::new(scale, zero_point as i32).unwrap_or(QParams { scale: 1.0, zero_point: 0 })
}

/// The scale at which a magnitude of `most` has the code 127, or `None` where that is no usable scale.
pub fn symmetric(most: f32) -> Option<f32> {
    QParams::new(most / 127.0, 0).map(|q| q.scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asymmetric_codes_span_the_range() {
        for (lo, hi) in [(0.0, 6.0), (-1.0, 3.0), (-4.0, 0.0), (2.0, 5.0), (-0.001, 1000.0)] {
            let q = asymmetric(lo, hi);
            assert_eq!(q.dequantize(q.quantize(0.0)), 0.0);
            for end in [lo.min(0.0), hi.max(0.0)] {
                assert!((q.dequantize(q.quantize(end)) - end).abs() <= q.scale, "{lo} {hi}: {end}");
            }
        }
        assert_eq!(asymmetric(0.0, 0.0), QParams { scale: 1.0, zero_point: 0 });
        assert_eq!(asymmetric(0.0, 1e-30), QParams { scale: 1.0, zero_point: 0 });
        // (hi − lo) beyond f32.
        assert_eq!(asymmetric(f32::MIN, f32::MAX), QParams { scale: 1.0, zero_point: 0 });
    }
}
