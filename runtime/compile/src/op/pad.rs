//! Borders.

use super::{Op, Operands, SliceRange, ValueType};
use crate::error::Fault;
use crate::onnx::NodeReader;

/// Borders around a tensor, one pair per dimension.
#[derive(Clone, Debug, PartialEq)]
pub struct Pad {
    /// What the borders hold.
    pub mode: PadMode,
    /// Extent of the border before each dimension.
    pub before: Vec<usize>,
    /// Extent of the border after each dimension.
    pub after: Vec<usize>,
}

/// What a border holds.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum PadMode {
    /// One value, exact for every f32 and for integers up to 2⁵³.
    Constant(f64),
    /// The nearest element.
    Edge,
    /// The elements mirrored at the edge, which is not repeated.
    Reflect,
    /// The elements from the other end.
    Wrap,
}

impl Pad {
    pub(super) fn infer(&self, x: Operands<'_>) -> Result<ValueType, Fault> {
        let input = x.at(0)?;
        if self.before.len() != input.rank() || self.after.len() != input.rank() {
            return Err(Fault::shape("there must be two pads per dimension"));
        }
        let pads = self.before.iter().zip(&self.after);
        let room = match self.mode {
            PadMode::Constant(_) => usize::MAX,
            PadMode::Edge => 1,
            PadMode::Reflect => 2,
            PadMode::Wrap => 1,
        };
        let sum = |(&extent, (&before, &after)): (&usize, (&usize, &usize))| {
            let padded = before > 0 || after > 0;
            if padded && room != usize::MAX && extent < room {
                return None;
            }
            extent.checked_add(before)?.checked_add(after)
        };
        let shape: Option<Vec<_>> = input.shape.iter().zip(pads).map(sum).collect();
        Ok(ValueType::new(input.dtype, shape.ok_or(Fault::shape("the input is too small for its borders"))?))
    }
}

/// `Pad`; negative borders, which cut, become a slice before it. Before opset 11 borders and value are attributes.
pub(crate) fn pad(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let x = node.input(0)?;
    let shape = node.value_type(x).shape;
    let pads = node.ints_attribute_or("pads", 1)?;
    let axes = node.axes(3, shape.len())?.unwrap_or_else(|| (0..shape.len()).collect());
    let halves = pads.split_at_checked(axes.len()).filter(|(_, after)| after.len() == axes.len());
    let (before, after) = halves.ok_or(Fault::Operand { index: 1, reason: "must hold two pads per axis" })?;
    let mode = match node.string("mode", "constant")? {
        "constant" => {
            let value = node.optional_float("value")?.map(f64::from);
            PadMode::Constant(value.or(node.scalar_operand(2)?).unwrap_or(0.0))
        }
        "edge" => PadMode::Edge,
        "reflect" => PadMode::Reflect,
        "wrap" => PadMode::Wrap,
        _ => return Err(Fault::Attribute { attribute: "mode", reason: "is not a known mode" }),
    };
    let mut pad = Pad { mode, before: vec![0; shape.len()], after: vec![0; shape.len()] };
    let mut ranges: Vec<_> = shape.iter().map(|&extent| SliceRange::full(extent)).collect();
    for (&axis, (&before, &after)) in axes.iter().zip(before.iter().zip(after)) {
        let extent = |v: i64| usize::try_from(v.unsigned_abs()).unwrap_or(usize::MAX);
        let slots = (pad.before.get_mut(axis), pad.after.get_mut(axis), ranges.get_mut(axis));
        let (Some(first), Some(last), Some(range)) = slots else {
            return Err(Fault::Operand { index: 3, reason: "holds an axis outside the input" });
        };
        (*first, *last) = (extent(before.max(0)), extent(after.max(0)));
        let (cut_front, cut_back) = (extent(before.min(0)), extent(after.min(0)));
        let kept = range.len.checked_sub(cut_front).and_then(|rest| rest.checked_sub(cut_back));
        let len = kept.ok_or(Fault::shape("the cut is larger than the input"))?;
        *range = SliceRange { start: cut_front.min(range.len.saturating_sub(1)), step: 1, len };
    }
    let whole = shape.iter().zip(&ranges).all(|(&extent, range)| range.len == extent);
    let kept = if whole { x } else { node.emit(Op::Slice { ranges }, &[Some(x)])? };
    node.finish(Op::Pad(pad), &[Some(kept)])
}
