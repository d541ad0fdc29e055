//! Convolution and the sliding window it shares with pooling.

use ingraft_tensor::DType;

use super::{Op, Operands, ValueType};
use crate::error::Fault;
use crate::graph::ValueId;
use crate::onnx::NodeReader;

/// A sliding window over one to three spatial dimensions; every list has one entry per dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Taps.
    pub kernel: Vec<usize>,
    /// Steps between windows, at least 1.
    pub strides: Vec<usize>,
    /// Steps between taps, at least 1.
    pub dilations: Vec<usize>,
    /// Border before the first element. Borders may differ.
    pub pads_begin: Vec<usize>,
    /// Border after the last element.
    pub pads_end: Vec<usize>,
}

/// Where the channels are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// [N, C, spatial…], as ONNX has it.
    ChannelsFirst,
    /// [N, spatial…, C], as plans have it.
    ChannelsLast,
}

/// A convolution (cross-correlation, as everywhere in the field).
///
/// # Shapes
/// Weights are `[out, in ÷ groups, kernel…]` in either layout, bias is `[out]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conv {
    /// The window.
    pub window: Window,
    /// Groups of channels that do not mix; as many as input channels is depthwise.
    pub groups: usize,
    /// The layout of input and output.
    pub layout: Layout,
}

impl Layout {
    /// The dimension of the channels in a tensor of this rank.
    pub fn channel_axis(self, rank: usize) -> usize {
        match self {
            Self::ChannelsFirst => 1,
            Self::ChannelsLast => rank.saturating_sub(1),
        }
    }

    /// The spatial dimensions of a tensor of this rank.
    pub fn spatial_axes(self, rank: usize) -> core::ops::Range<usize> {
        match self {
            Self::ChannelsFirst => 2..rank.max(2),
            Self::ChannelsLast => 1..rank.saturating_sub(1).max(1),
        }
    }

    /// Splits a shape into batch, channels and spatial extents; `None` below rank 3.
    pub fn split(self, shape: &[usize]) -> Option<(usize, usize, &[usize])> {
        match (self, shape) {
            (Self::ChannelsFirst, [n, c, spatial @ ..]) if !spatial.is_empty() => Some((*n, *c, spatial)),
            (Self::ChannelsLast, [n, spatial @ .., c]) if !spatial.is_empty() => Some((*n, *c, spatial)),
            _ => None,
        }
    }

    /// The shape of these parts.
    pub fn join(self, n: usize, c: usize, spatial: &[usize]) -> Vec<usize> {
        match self {
            Self::ChannelsFirst => [&[n, c], spatial].concat(),
            Self::ChannelsLast => [&[n], spatial, &[c]].concat(),
        }
    }
}

impl Window {
    /// Number of taps.
    pub fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// The number of windows along each dimension, or `None` where one does not fit even once.
    pub fn output(&self, spatial: &[usize], ceil: bool) -> Option<Vec<usize>> {
        if spatial.len() != self.kernel.len() {
            return None;
        }
        (0..spatial.len()).map(|i| self.output_extent(i, *spatial.get(i)?, ceil)).collect()
    }

    fn output_extent(&self, i: usize, extent: usize, ceil: bool) -> Option<usize> {
        let (stride, begin) = (*self.strides.get(i)?, *self.pads_begin.get(i)?);
        let reach =
            (self.kernel.get(i)?.checked_sub(1)?).checked_mul(*self.dilations.get(i)?)?.checked_add(1)?;
        let padded = extent.checked_add(begin)?.checked_add(*self.pads_end.get(i)?)?;
        let slack = padded.checked_sub(reach)?;
        if !ceil {
            return Some(slack / stride + 1);
        }
        let count = slack.div_ceil(stride) + 1;
        // A window may overhang the border, but may not lie in it entirely.
        Some(if (count - 1) * stride >= extent + begin { count - 1 } else { count })
    }

    /// Reads the window's attributes; borders named by `auto_pad` become explicit.
    ///
    /// `spatial` are the input's extents, `kernel` the taps the weights have where there are weights.
    pub(super) fn read(
        node: &mut NodeReader<'_>,
        spatial: &[usize],
        kernel: Option<&[usize]>,
    ) -> Result<Self, Fault> {
        let rank = spatial.len();
        let list = |node: &mut NodeReader<'_>, name, fallback: usize, min: usize| {
            let values = node.ints(name)?.map_or(Ok(vec![fallback; rank]), |v| to_extents(name, &v))?;
            if values.len() != rank || values.iter().any(|&v| v < min) {
                return Err(Fault::Attribute { attribute: name, reason: "does not fit the input" });
            }
            Ok(values)
        };
        let declared = node.ints("kernel_shape")?.map(|v| to_extents("kernel_shape", &v)).transpose()?;
        let kernel = match (declared, kernel) {
            (Some(declared), Some(kernel)) if declared != kernel => {
                return Err(Fault::Attribute {
                    attribute: "kernel_shape",
                    reason: "contradicts the weights",
                });
            }
            (_, Some(kernel)) => kernel.to_vec(),
            (Some(declared), None) => declared,
            (None, None) => return Err(Fault::MissingAttribute { attribute: "kernel_shape" }),
        };
        if !(1..=3).contains(&rank) || kernel.len() != rank || kernel.contains(&0) {
            return Err(Fault::shape("the window does not have the input's one to three spatial dimensions"));
        }
        let strides = list(node, "strides", 1, 1)?;
        let dilations = list(node, "dilations", 1, 1)?;
        let mut window =
            Self { kernel, strides, dilations, pads_begin: vec![0; rank], pads_end: vec![0; rank] };
        window.read_pads(node, spatial)?;
        Ok(window)
    }

    fn read_pads(&mut self, node: &mut NodeReader<'_>, spatial: &[usize]) -> Result<(), Fault> {
        let explicit = node.ints("pads")?.map(|v| to_extents("pads", &v)).transpose()?;
        let upper = match node.string("auto_pad", "NOTSET")? {
            "NOTSET" | "" => {
                if let Some(pads) = explicit {
                    let halves =
                        pads.split_at_checked(spatial.len()).filter(|(_, end)| end.len() == spatial.len());
                    let (begin, end) = halves
                        .ok_or(Fault::Attribute { attribute: "pads", reason: "does not fit the input" })?;
                    self.pads_begin = begin.to_vec();
                    self.pads_end = end.to_vec();
                }
                return Ok(());
            }
            "VALID" => return Ok(()),
            "SAME_UPPER" => true,
            "SAME_LOWER" => false,
            _ => return Err(Fault::Attribute { attribute: "auto_pad", reason: "is not a known mode" }),
        };
        let too_large = || Fault::shape("the window is too large");
        let pads = spatial.iter().zip(self.kernel.iter().zip(self.strides.iter().zip(&self.dilations)));
        let halves = pads.map(|(&extent, (&taps, (&stride, &dilation)))| {
            let reach = (taps - 1).checked_mul(dilation)?.checked_add(1)?;
            let covered = (extent.div_ceil(stride).max(1) - 1).checked_mul(stride)?.checked_add(reach)?;
            let total = covered.saturating_sub(extent);
            let smaller = total / 2;
            Some(if upper { (smaller, total - smaller) } else { (total - smaller, smaller) })
        });
        (self.pads_begin, self.pads_end) =
            halves.collect::<Option<Vec<_>>>().ok_or_else(too_large)?.into_iter().unzip();
        Ok(())
    }
}

impl Conv {
    /// Whether every group has one input channel, for an input of `channels`.
    pub fn is_depthwise(&self, channels: usize) -> bool {
        self.groups == channels && channels > 1
    }

    pub(super) fn infer(&self, x: Operands<'_>) -> Result<ValueType, Fault> {
        let (input, weights) = (x.float(0)?, x.like_first(1)?);
        let result = self.shape(input, weights)?;
        x.vector(2, *weights.shape.first().unwrap_or(&0))?;
        Ok(ValueType::new(input.dtype, result))
    }

    pub(super) fn infer_integer(&self, x: Operands<'_>) -> Result<ValueType, Fault> {
        let codes = [DType::I8, DType::U8];
        Ok(ValueType::new(DType::I32, self.shape(x.typed(0, &codes)?, x.typed(1, &codes)?)?))
    }

    fn shape(&self, input: &ValueType, weights: &ValueType) -> Result<Vec<usize>, Fault> {
        let (n, channels, spatial) =
            self.layout.split(&input.shape).ok_or(Fault::shape("the input has no spatial dimension"))?;
        let (out, depth, kernel) = Layout::ChannelsFirst
            .split(&weights.shape)
            .ok_or(Fault::shape("the weights have no spatial dimension"))?;
        let grouped =
            self.groups > 0 && depth.checked_mul(self.groups) == Some(channels) && out % self.groups == 0;
        if !grouped || kernel != self.window.kernel {
            return Err(Fault::shape("weights, channels and groups do not fit"));
        }
        let spatial =
            self.window.output(spatial, false).ok_or(Fault::shape("the window is larger than the input"))?;
        Ok(self.layout.join(n, out, &spatial))
    }
}

/// `Conv`.
pub(crate) fn conv(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    node.freeze(&[1, 2]);
    let (x, w) = (node.input(0)?, node.input(1)?);
    let conv = read(node)?;
    let operands = [Some(x), Some(w), node.optional(2)];
    node.finish(Op::Conv(conv), &operands)
}

/// `ConvInteger`.
pub(crate) fn conv_integer(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    node.freeze(&[1, 2, 3]);
    let (x, w) = (node.input(0)?, node.input(1)?);
    let conv = read(node)?;
    let operands = [Some(x), Some(w), node.optional(2), node.optional(3)];
    node.finish(Op::ConvInteger(conv), &operands)
}

/// Reads a convolution's attributes; operands 0 and 1 are input and weights.
fn read(node: &mut NodeReader<'_>) -> Result<Conv, Fault> {
    let (x, w) = (node.input(0)?, node.input(1)?);
    read_for(node, x, w)
}

/// Reads a convolution's attributes for this input and these weights.
pub(super) fn read_for(node: &mut NodeReader<'_>, x: ValueId, w: ValueId) -> Result<Conv, Fault> {
    let (input, weights) = (node.value_type(x), node.value_type(w));
    let layout = Layout::ChannelsFirst;
    let missing = || Fault::shape("input or weights have no spatial dimension");
    let (_, _, spatial) = layout.split(&input.shape).ok_or_else(missing)?;
    let (_, _, kernel) = layout.split(&weights.shape).ok_or_else(missing)?;
    let window = Window::read(node, spatial, Some(kernel))?;
    let groups = usize::try_from(node.int("group", 1)?)
        .map_err(|_| Fault::Attribute { attribute: "group", reason: "must be positive" })?;
    Ok(Conv { window, groups, layout })
}

fn to_extents(attribute: &'static str, values: &[i64]) -> Result<Vec<usize>, Fault> {
    let extent = |&v: &i64| u32::try_from(v).ok().map(|v| v as usize);
    let extents: Option<Vec<_>> = values.iter().map(extent).collect();
    extents.ok_or(Fault::Attribute { attribute, reason: "holds a negative or huge number" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(kernel: usize, stride: usize, dilation: usize, pads: (usize, usize)) -> Window {
        Window {
            kernel: vec![kernel],
            strides: vec![stride],
            dilations: vec![dilation],
            pads_begin: vec![pads.0],
            pads_end: vec![pads.1],
        }
    }

    #[test]
    fn output_extents() {
        // kernel, stride, dilation, pads, input, floor, ceil
        let cases = [
            (3, 1, 1, (1, 1), 5, Some(5), Some(5)),
            (3, 2, 1, (0, 0), 6, Some(2), Some(3)),
            (2, 2, 1, (0, 0), 5, Some(2), Some(3)),
            (1, 2, 1, (0, 0), 4, Some(2), Some(2)),
            (3, 1, 2, (0, 0), 4, None, None),
            (1, 3, 1, (1, 1), 2, Some(2), Some(1)),
        ];
        for (k, s, d, pads, extent, floor, ceil) in cases {
            let w = window(k, s, d, pads);
            assert_eq!(w.output(&[extent], false), floor.map(|e| vec![e]), "{w:?} {extent}");
            assert_eq!(w.output(&[extent], true), ceil.map(|e| vec![e]), "{w:?} {extent}");
        }
    }

    #[test]
    fn layouts_split_and_join() {
        for layout in [Layout::ChannelsFirst, Layout::ChannelsLast] {
            let shape = layout.join(1, 2, &[3, 4]);
            assert_eq!(layout.split(&shape), Some((1, 2, [3, 4].as_slice())));
            assert_eq!(shape[layout.channel_axis(4)], 2);
            assert_eq!(&shape[layout.spatial_axes(4)], [3, 4]);
        }
        assert_eq!(Layout::ChannelsLast.split(&[1, 2]), None);
    }
}
