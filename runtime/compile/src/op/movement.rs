//! Operators that only move elements.

use super::elementwise::broadcast;
use super::{Op, Operands, ValueType};
use crate::error::Fault;
use crate::graph::tensor;
use crate::onnx::NodeReader;

/// What a slice keeps of one dimension: `len` elements, `step` apart, from `start` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceRange {
    /// First element kept.
    pub start: usize,
    /// Distance between elements; negative runs backward.
    pub step: isize,
    /// Number of elements kept.
    pub len: usize,
}

impl SliceRange {
    /// All of a dimension.
    pub fn full(extent: usize) -> Self {
        Self { start: 0, step: 1, len: extent }
    }

    /// The range that ONNX means by these numbers on a dimension of `extent`; `step` must not be zero.
    fn new(start: i64, end: i64, step: i64, extent: usize) -> Self {
        let extent = extent as i64;
        let wrap = |v: i64| if v < 0 { v.saturating_add(extent) } else { v };
        let (start, end) = if step > 0 {
            (wrap(start).clamp(0, extent), wrap(end).clamp(0, extent))
        } else {
            (wrap(start).clamp(0, (extent - 1).max(0)), wrap(end).clamp(-1, extent - 1))
        };
        let distance = if step > 0 { end - start } else { start - end };
        let empty = distance <= 0 || extent == 0;
        let len = if empty { 0 } else { (distance as u64 - 1) / step.unsigned_abs() + 1 };
        // A step beyond the extent never reaches a second element, so its size does not matter.
        let step = step.clamp(-(extent + 1), extent + 1) as isize;
        Self { start: start as usize, step, len: len as usize }
    }

    /// The last element kept, where there is one.
    fn last(self) -> Option<isize> {
        let count = isize::try_from(self.len.checked_sub(1)?).ok()?;
        isize::try_from(self.start).ok()?.checked_add(count.checked_mul(self.step)?)
    }
}

pub(super) fn infer_reshape(shape: &[usize], x: Operands<'_>) -> Result<ValueType, Fault> {
    let input = x.at(0)?;
    if tensor::elements(shape).is_none() || tensor::elements(shape) != tensor::elements(&input.shape) {
        return Err(Fault::shape("the new shape has another number of elements"));
    }
    Ok(ValueType::new(input.dtype, shape.to_vec()))
}

pub(super) fn infer_transpose(perm: &[usize], x: Operands<'_>) -> Result<ValueType, Fault> {
    let input = x.at(0)?;
    if perm.len() != input.rank() || !is_permutation(perm) {
        return Err(Fault::shape("the permutation does not fit the input"));
    }
    Ok(ValueType::new(input.dtype, permute(&input.shape, perm)))
}

pub(super) fn infer_concat(axis: usize, x: Operands<'_>) -> Result<ValueType, Fault> {
    let first = x.at(0)?;
    let mut shape = first.shape.clone();
    for i in 1..x.len() {
        let next = x.like_first(i)?;
        let differs = |(j, (a, b)): (usize, (&usize, &usize))| j != axis && a != b;
        if next.rank() != shape.len() || first.shape.iter().zip(&next.shape).enumerate().any(differs) {
            return Err(Fault::shape("the operands differ outside the axis"));
        }
        if let (Some(sum), Some(&extent)) = (shape.get_mut(axis), next.shape.get(axis)) {
            *sum = sum.checked_add(extent).ok_or(Fault::TooLarge)?;
        }
    }
    if axis >= shape.len() {
        return Err(Fault::shape("the axis is outside the input"));
    }
    Ok(ValueType::new(first.dtype, shape))
}

pub(super) fn infer_slice(ranges: &[SliceRange], x: Operands<'_>) -> Result<ValueType, Fault> {
    let input = x.at(0)?;
    let fits = |(range, &extent): (&SliceRange, &usize)| {
        range.len == 0
            || (range.start < extent && range.last().is_some_and(|last| (0..extent as isize).contains(&last)))
    };
    if ranges.len() != input.rank() || !ranges.iter().zip(&input.shape).all(fits) {
        return Err(Fault::shape("the slice is outside the input"));
    }
    Ok(ValueType::new(input.dtype, ranges.iter().map(|r| r.len).collect()))
}

pub(super) fn infer_expand(shape: &[usize], x: Operands<'_>) -> Result<ValueType, Fault> {
    let input = x.at(0)?;
    if broadcast(&input.shape, shape).as_deref() != Some(shape) {
        return Err(Fault::shape("the input does not broadcast to the shape asked for"));
    }
    Ok(ValueType::new(input.dtype, shape.to_vec()))
}

pub(super) fn infer_tile(repeats: &[usize], x: Operands<'_>) -> Result<ValueType, Fault> {
    let input = x.at(0)?;
    if repeats.len() != input.rank() {
        return Err(Fault::shape("there must be one repeat per dimension"));
    }
    let shape = input.shape.iter().zip(repeats).map(|(&extent, &count)| extent.checked_mul(count));
    Ok(ValueType::new(input.dtype, shape.collect::<Option<_>>().ok_or(Fault::TooLarge)?))
}

pub(super) fn infer_trilu(x: Operands<'_>) -> Result<ValueType, Fault> {
    let input = x.at(0)?;
    if input.rank() < 2 { Err(Fault::shape("the input is not a matrix")) } else { Ok(input.clone()) }
}

/// Whether `perm` holds every number below its length once.
pub fn is_permutation(perm: &[usize]) -> bool {
    (0..perm.len()).all(|axis| perm.contains(&axis))
}

/// The entries of `list` in the order of `perm`; indices outside are skipped.
pub fn permute<T: Clone>(list: &[T], perm: &[usize]) -> Vec<T> {
    perm.iter().filter_map(|&axis| list.get(axis).cloned()).collect()
}

/// `Reshape`: zeros copy a dimension, one −1 takes what is left.
pub(crate) fn reshape(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let x = node.input(0)?;
    let target = node.ints_operand(1)?;
    let allow_zero = node.flag("allowzero", false)?;
    let input = node.value_type(x);
    let extent = |(i, &v): (usize, &i64)| match v {
        0 if !allow_zero => input.shape.get(i).copied(),
        -1 => Some(1),
        v => usize::try_from(v).ok(),
    };
    let refused = || Fault::shape("the new shape does not fit the input");
    let mut shape: Vec<usize> =
        target.iter().enumerate().map(extent).collect::<Option<_>>().ok_or_else(refused)?;
    if let Some(open) = target.iter().position(|&v| v == -1) {
        let known = tensor::elements(&shape).filter(|&n| n > 0).ok_or_else(refused)?;
        let all = tensor::elements(&input.shape).ok_or_else(refused)?;
        if let Some(slot) = shape.get_mut(open) {
            *slot = all / known;
        }
    }
    node.finish(Op::Reshape { shape }, &[Some(x)])
}

/// `Flatten`: a matrix split at the axis.
pub(crate) fn flatten(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let x = node.input(0)?;
    let shape = node.value_type(x).shape;
    // The axis may equal the rank, so it is read as one of a tensor with one dimension more; negative ones count from the rank.
    let axis = node.int("axis", 1)?;
    let at = usize::try_from(if axis < 0 { axis + shape.len() as i64 } else { axis }).ok();
    let Some((rows, columns)) = at.and_then(|at| shape.split_at_checked(at)) else {
        return Err(Fault::Attribute { attribute: "axis", reason: "is outside the input" });
    };
    let matrix = vec![rows.iter().product(), columns.iter().product()];
    node.finish(Op::Reshape { shape: matrix }, &[Some(x)])
}

/// `Squeeze`: drops the dimensions named, or all of extent 1.
pub(crate) fn squeeze(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let x = node.input(0)?;
    let input = node.value_type(x);
    let axes = match node.axes(1, input.rank())? {
        Some(axes) => axes,
        None => (0..input.rank()).filter(|&i| input.shape.get(i) == Some(&1)).collect(),
    };
    if axes.iter().any(|&i| input.shape.get(i) != Some(&1)) {
        return Err(Fault::shape("a dimension to drop is not 1"));
    }
    let kept = input.shape.iter().enumerate().filter(|(i, _)| !axes.contains(i));
    let shape = kept.map(|(_, &extent)| extent).collect();
    node.finish(Op::Reshape { shape }, &[Some(x)])
}

/// `Unsqueeze`: adds dimensions of extent 1 at the places they have in the result.
pub(crate) fn unsqueeze(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let x = node.input(0)?;
    let input = node.value_type(x);
    let rank = input.rank() + node.axes_count(1)?;
    let axes = node.axes(1, rank)?.ok_or(Fault::MissingInput { index: 1 })?;
    let mut extents = input.shape.iter().copied();
    let shape = (0..rank).map(|i| if axes.contains(&i) { 1 } else { extents.next().unwrap_or(1) }).collect();
    node.finish(Op::Reshape { shape }, &[Some(x)])
}

/// `Transpose`: reverses the dimensions where no permutation is given.
pub(crate) fn transpose(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let x = node.input(0)?;
    let rank = node.value_type(x).rank();
    let perm = match node.ints("perm")? {
        None => (0..rank).rev().collect(),
        Some(perm) => perm
            .iter()
            .map(|&axis| usize::try_from(axis).ok())
            .collect::<Option<Vec<_>>>()
            .ok_or(Fault::Attribute { attribute: "perm", reason: "holds a negative axis" })?,
    };
    node.finish(Op::Transpose { perm }, &[Some(x)])
}

/// `Concat`.
pub(crate) fn concat(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let operands = (0..node.input_count()).map(|i| node.input(i).map(Some)).collect::<Result<Vec<_>, _>>()?;
    let rank = node.input_type(0)?.rank();
    let axis = node.required_axis("axis", rank)?;
    node.finish(Op::Concat { axis }, &operands)
}

/// `Slice`; before opset 10 the bounds are attributes.
pub(crate) fn slice(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let x = node.input(0)?;
    let shape = node.value_type(x).shape;
    let (starts, ends) = (node.ints_attribute_or("starts", 1)?, node.ints_attribute_or("ends", 2)?);
    let axes = node.axes(3, shape.len())?.unwrap_or_else(|| (0..starts.len()).collect());
    let steps = match node.optional(4) {
        Some(_) => node.ints_operand(4)?,
        None => vec![1; starts.len()],
    };
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Err(Fault::shape("starts, ends, axes and steps differ in length"));
    }
    let mut ranges: Vec<_> = shape.iter().map(|&extent| SliceRange::full(extent)).collect();
    for (((axis, start), end), step) in axes.into_iter().zip(starts).zip(ends).zip(steps) {
        let (Some(range), Some(&extent)) = (ranges.get_mut(axis), shape.get(axis)) else {
            return Err(Fault::shape("an axis is outside the input"));
        };
        if step == 0 {
            return Err(Fault::Operand { index: 4, reason: "holds a step of zero" });
        }
        *range = SliceRange::new(start, end, step, extent);
    }
    node.finish(Op::Slice { ranges }, &[Some(x)])
}

/// `Split`, as one slice per result.
pub(crate) fn split(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let x = node.input(0)?;
    let input = node.value_type(x);
    let axis = node.axis("axis", 0, input.rank())?;
    let extent = input.shape.get(axis).copied().unwrap_or(0);
    let sizes = split_sizes(node, extent)?;
    if sizes.len() != node.output_count()
        || sizes.iter().try_fold(0usize, |sum, &s| sum.checked_add(s)) != Some(extent)
    {
        return Err(Fault::shape("the parts do not add up to the input"));
    }
    let mut start = 0;
    for (index, len) in sizes.into_iter().enumerate() {
        let mut ranges: Vec<_> = input.shape.iter().map(|&extent| SliceRange::full(extent)).collect();
        if let Some(range) = ranges.get_mut(axis) {
            *range = SliceRange { start, step: 1, len };
        }
        let part = node.emit(Op::Slice { ranges }, &[Some(x)])?;
        node.bind(index, part)?;
        start += len;
    }
    node.complete()
}

/// The extents of the parts of a split: given, or equal with the last one smaller.
fn split_sizes(node: &mut NodeReader<'_>, extent: usize) -> Result<Vec<usize>, Fault> {
    let given = match node.ints("split")? {
        Some(sizes) => Some(sizes),
        None if node.optional(1).is_some() => Some(node.ints_operand(1)?),
        None => None,
    };
    if let Some(sizes) = given {
        let sizes = sizes.iter().map(|&v| usize::try_from(v).ok()).collect::<Option<_>>();
        return sizes.ok_or(Fault::Attribute { attribute: "split", reason: "holds a negative extent" });
    }
    let parts = node.output_count();
    if node.int("num_outputs", parts as i64)? != parts as i64 || parts == 0 {
        return Err(Fault::Attribute {
            attribute: "num_outputs",
            reason: "differs from the number of outputs",
        });
    }
    let size = extent.div_ceil(parts);
    Ok((0..parts).map(|i| extent.saturating_sub(i * size).min(size)).collect())
}

/// `Expand`.
pub(crate) fn expand(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let x = node.input(0)?;
    let target = node.extents_operand(1)?;
    let shape = broadcast(&node.value_type(x).shape, &target);
    let shape = shape.ok_or(Fault::shape("the input does not broadcast to the shape asked for"))?;
    node.finish(Op::Expand { shape }, &[Some(x)])
}

/// `Tile`.
pub(crate) fn tile(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let x = node.input(0)?;
    let repeats = node.extents_operand(1)?;
    node.finish(Op::Tile { repeats }, &[Some(x)])
}

/// `Trilu`.
pub(crate) fn trilu(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let x = node.input(0)?;
    let upper = node.flag("upper", true)?;
    let diagonal = match node.optional(1) {
        Some(_) => node.ints_operand(1)?.first().copied().unwrap_or(0),
        None => 0,
    };
    node.finish(Op::Trilu { upper, diagonal }, &[Some(x)])
}

/// `DepthToSpace` and `SpaceToDepth`, as reshape, transpose, reshape.
pub(crate) fn depth_space(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let x = node.input(0)?;
    let block =
        usize::try_from(node.required_int("blocksize")?).ok().filter(|&b| b > 0 && b <= u16::MAX.into());
    let b = block
        .ok_or(Fault::Attribute { attribute: "blocksize", reason: "must be a small positive number" })?;
    let shape = node.value_type(x).shape;
    let [n, c, h, w] = *shape.as_slice() else {
        return Err(Fault::shape("the input must have four dimensions"));
    };
    let refused = Fault::shape("the block does not divide the input");
    let depth_first = match node.string("mode", "DCR")? {
        "DCR" => true,
        "CRD" => false,
        _ => return Err(Fault::Attribute { attribute: "mode", reason: "must be DCR or CRD" }),
    };
    let (split, perm, joined) = if node.op_type() == "SpaceToDepth" {
        if h % b != 0 || w % b != 0 {
            return Err(refused);
        }
        let perm = if depth_first { vec![0, 3, 5, 1, 2, 4] } else { vec![0, 1, 3, 5, 2, 4] };
        (vec![n, c, h / b, b, w / b, b], perm, vec![n, c * b * b, h / b, w / b])
    } else {
        if c % (b * b) != 0 {
            return Err(refused);
        }
        let depth = c / (b * b);
        let joined = vec![n, depth, h * b, w * b];
        match depth_first {
            true => (vec![n, b, b, depth, h, w], vec![0, 3, 4, 1, 5, 2], joined),
            false => (vec![n, depth, b, b, h, w], vec![0, 1, 4, 2, 5, 3], joined),
        }
    };
    let blocks = node.emit(Op::Reshape { shape: split }, &[Some(x)])?;
    let moved = node.emit(Op::Transpose { perm }, &[Some(blocks)])?;
    node.finish(Op::Reshape { shape: joined }, &[Some(moved)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_clamp_and_run_backward() {
        let cases = [
            ((0, i64::MAX, 1, 5), (0, 1, 5)),
            ((-3, -1, 1, 5), (2, 1, 2)),
            ((i64::MIN, i64::MAX, 2, 5), (0, 2, 3)),
            ((-1, i64::MIN, -1, 5), (4, -1, 5)),
            ((3, 0, -2, 5), (3, -2, 2)),
            ((4, 2, 1, 5), (4, 1, 0)),
            ((0, 5, i64::MAX, 5), (0, 6, 1)),
            ((0, 5, -1, 0), (0, -1, 0)),
            ((10, -10, -3, 7), (6, -3, 3)),
        ];
        for ((start, end, step, extent), (s, d, len)) in cases {
            let range = SliceRange::new(start, end, step, extent);
            assert_eq!(range, SliceRange { start: s, step: d, len }, "{start}:{end}:{step} of {extent}");
        }
    }
}
