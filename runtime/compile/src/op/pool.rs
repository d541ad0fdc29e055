//! Pooling over windows and over whole planes.

use super::conv::{Layout, Window};
use super::{Op, Operands, ReduceKind, ValueType};
use crate::error::Fault;
use crate::onnx::NodeReader;

/// Pooling over a sliding window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Maximum or average.
    pub kind: PoolKind,
    /// The window.
    pub window: Window,
    /// Whether a last window may overhang the border; what overhangs is not counted.
    pub ceil: bool,
    /// The layout of input and output.
    pub layout: Layout,
}

/// How a window becomes one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// The largest element; borders do not take part.
    Max,
    /// The mean.
    Average {
        /// Whether borders count as zeros, else they do not take part.
        count_include_pad: bool,
    },
}

impl Pool {
    pub(super) fn infer(&self, x: Operands<'_>) -> Result<ValueType, Fault> {
        let input = match self.kind {
            PoolKind::Max => x.at(0)?,
            PoolKind::Average { .. } => x.float(0)?,
        };
        let (n, c, spatial) =
            self.layout.split(&input.shape).ok_or(Fault::shape("the input has no spatial dimension"))?;
        let spatial = self
            .window
            .output(spatial, self.ceil)
            .ok_or(Fault::shape("the window is larger than the input"))?;
        Ok(ValueType::new(input.dtype, self.layout.join(n, c, &spatial)))
    }
}

/// `MaxPool` and `AveragePool`.
pub(crate) fn pool(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let x = node.input(0)?;
    let layout = Layout::ChannelsFirst;
    let input = node.value_type(x);
    let (_, _, spatial) =
        layout.split(&input.shape).ok_or(Fault::shape("the input has no spatial dimension"))?;
    let window = Window::read(node, spatial, None)?;
    let kind = if node.op_type() == "MaxPool" {
        // The order of the indices, which are a second result nobody may ask for.
        node.ignore(&["storage_order"]);
        PoolKind::Max
    } else {
        PoolKind::Average { count_include_pad: node.flag("count_include_pad", false)? }
    };
    let ceil = node.flag("ceil_mode", false)?;
    // A border as wide as the window would make windows of nothing.
    let reach = window
        .kernel
        .iter()
        .zip(&window.dilations)
        .map(|(&k, &d)| (k - 1).saturating_mul(d).saturating_add(1));
    if reach.zip(window.pads_begin.iter().zip(&window.pads_end)).any(|(k, (&b, &e))| b >= k || e >= k) {
        return Err(Fault::Attribute { attribute: "pads", reason: "must be smaller than the window" });
    }
    node.finish(Op::Pool(Pool { kind, window, ceil, layout }), &[Some(x)])
}

/// `GlobalAveragePool` and `GlobalMaxPool`, as a reduction that keeps the dimensions.
pub(crate) fn global_pool(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let x = node.input(0)?;
    let rank = node.value_type(x).rank();
    if rank < 3 {
        return Err(Fault::shape("the input has no spatial dimension"));
    }
    let kind = if node.op_type() == "GlobalMaxPool" { ReduceKind::Max } else { ReduceKind::Mean };
    let axes = Layout::ChannelsFirst.spatial_axes(rank).collect();
    node.finish(Op::Reduce { kind, axes, keep_dims: true }, &[Some(x)])
}
