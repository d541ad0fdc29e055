//! Resampling.

use super::{Op, Operands, ValueType};
use crate::error::Fault;
use crate::graph::tensor;
use crate::onnx::NodeReader;

/// Resampling to another extent along some dimensions.
#[derive(Clone, Debug, PartialEq)]
pub struct Resize {
    /// How elements are made.
    pub mode: ResizeMode,
    /// How a place in the result maps to a place in the input.
    pub coordinates: Coordinates,
    /// Output extent over input extent, one per dimension, as coordinates use it.
    pub scales: Vec<f32>,
    /// The extents of the result.
    pub shape: Vec<usize>,
}

/// How a resampled element is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResizeMode {
    /// From the nearest element.
    Nearest(NearestRounding),
    /// From the neighbors along each dimension, weighted by distance; beyond the edge the edge repeats.
    Linear,
}

/// Which element is nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NearestRounding {
    /// The one above.
    Ceil,
    /// The one below.
    Floor,
    /// The nearer one, above at ties.
    RoundPreferCeil,
    /// The nearer one, below at ties.
    RoundPreferFloor,
}

/// Where output element `i` lies in the input, with scale `s`, extents `n` (input) and `m` (output).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Coordinates {
    /// `i·(n − 1)/(m − 1)`, zero where m is 1.
    AlignCorners,
    /// `i/s`.
    Asymmetric,
    /// `(i + 1/2)/s − 1/2`.
    HalfPixel,
    /// As half pixel, shifted so that the result is centered where s·n is not whole.
    HalfPixelSymmetric,
    /// As half pixel, zero where m is 1.
    PytorchHalfPixel,
}

impl Resize {
    pub(super) fn infer(&self, x: Operands<'_>) -> Result<ValueType, Fault> {
        let input = x.at(0)?;
        let empty = input.shape.iter().zip(&self.shape).any(|(&from, &to)| from == 0 && to != 0);
        if self.scales.len() != input.rank() || self.shape.len() != input.rank() || empty {
            return Err(Fault::shape("scales or sizes do not fit the input"));
        }
        tensor::elements(&self.shape).ok_or(Fault::TooLarge)?;
        Ok(ValueType::new(input.dtype, self.shape.clone()))
    }
}

/// `Resize` by nearest neighbor or linearly.
pub(crate) fn resize(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    if node.opset() < 11 {
        return Err(Fault::OldForm { since: 11 });
    }
    let x = node.input(0)?;
    let input = node.value_type(x).shape;
    let coordinates = match node.string("coordinate_transformation_mode", "half_pixel")? {
        "align_corners" => Coordinates::AlignCorners,
        "asymmetric" => Coordinates::Asymmetric,
        "half_pixel" => Coordinates::HalfPixel,
        "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
        "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
        _ => {
            let attribute = "coordinate_transformation_mode";
            return Err(Fault::Attribute { attribute, reason: "is not supported" });
        }
    };
    let mode = read_mode(node)?;
    if node.flag("antialias", false)? {
        return Err(Fault::Attribute { attribute: "antialias", reason: "is not supported" });
    }
    if node.string("keep_aspect_ratio_policy", "stretch")? != "stretch" {
        return Err(Fault::Attribute { attribute: "keep_aspect_ratio_policy", reason: "must be stretch" });
    }
    // These concern the cubic mode and cropping, which are refused.
    node.ignore(&["cubic_coeff_a", "exclude_outside", "extrapolation_value"]);
    let axes = node.axes_attribute("axes", input.len())?.unwrap_or_else(|| (0..input.len()).collect());
    let (scales, shape) = read_extents(node, &input, &axes)?;
    node.finish(Op::Resize(Resize { mode, coordinates, scales, shape }), &[Some(x)])
}

fn read_mode(node: &mut NodeReader<'_>) -> Result<ResizeMode, Fault> {
    let rounding = match node.string("nearest_mode", "round_prefer_floor")? {
        "round_prefer_floor" | "" => NearestRounding::RoundPreferFloor,
        "round_prefer_ceil" => NearestRounding::RoundPreferCeil,
        "floor" => NearestRounding::Floor,
        "ceil" => NearestRounding::Ceil,
        _ => return Err(Fault::Attribute { attribute: "nearest_mode", reason: "is not a known mode" }),
    };
    match node.string("mode", "nearest")? {
        "nearest" => Ok(ResizeMode::Nearest(rounding)),
        "linear" => Ok(ResizeMode::Linear),
        _ => Err(Fault::Attribute { attribute: "mode", reason: "must be nearest or linear" }),
    }
}

/// Scales and extents for every dimension, from whichever of the two operands is there.
fn read_extents(
    node: &mut NodeReader<'_>,
    input: &[usize],
    axes: &[usize],
) -> Result<(Vec<f32>, Vec<usize>), Fault> {
    let (mut scales, mut shape) = (vec![1.0f32; input.len()], input.to_vec());
    let given = match node.optional(2) {
        Some(_) => node.constant(2)?.to_f32(),
        None => Vec::new(),
    };
    let from = axes.iter().filter_map(|&axis| input.get(axis));
    let (count, resized): (usize, Vec<(f32, usize)>) = if given.is_empty() {
        let sizes = node.extents_operand(3)?;
        (sizes.len(), sizes.iter().zip(from).map(|(&to, &from)| (to as f32 / from as f32, to)).collect())
    } else {
        let scaled = given.iter().zip(from).map(|(&scale, &from)| scaled(scale, from));
        (given.len(), scaled.collect::<Result<_, _>>()?)
    };
    if count != axes.len() {
        return Err(Fault::shape("scales or sizes do not fit the input"));
    }
    for (&axis, (scale, extent)) in axes.iter().zip(resized) {
        if let (Some(s), Some(e)) = (scales.get_mut(axis), shape.get_mut(axis)) {
            (*s, *e) = (scale, extent);
        }
    }
    Ok((scales, shape))
}

/// A scale and the extent it makes of `from`, in single precision as ONNX Runtime computes it: 10 × 2.3 is 23.
fn scaled(scale: f32, from: usize) -> Result<(f32, usize), Fault> {
    let extent = (from as f32 * scale).floor();
    if scale > 0.0 && extent < i32::MAX as f32 {
        Ok((scale, extent as usize))
    } else {
        Err(Fault::Operand { index: 2, reason: "holds a scale that is not positive or too large" })
    }
}
