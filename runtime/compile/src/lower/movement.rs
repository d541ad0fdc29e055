//! Moving data: reshapes cost nothing, everything else is strided copies.

use ingraft_kernel::OpCode;
use ingraft_kernel::attrs::{CopyAttrs, FillAttrs};
use ingraft_tensor::{DType, MAX_RANK, Shape};

use super::select::Selector;
use super::{LowerError, TensorRef};
use crate::graph::Node;
use crate::op::{Op, Pad, PadMode, SliceRange};

/// Lowers `node` if it only moves data; says whether it did.
pub(super) fn lower(selector: &mut Selector<'_>, node: &Node) -> Result<bool, LowerError> {
    let graph = selector.graph;
    let output = node.outputs[0];
    match &node.op {
        Op::Reshape { .. } | Op::Identity => {
            let Some(input) = node.input(0) else { return Ok(false) };
            let tensor = selector.tensor(input)?;
            let (name, shape) = (graph[output].name.clone(), graph[output].shape.clone());
            let alias = selector.alias(tensor, &name, &shape)?;
            selector.bind(output, alias);
        }
        Op::Transpose { perm } => {
            let (input, result) = pair(selector, node)?;
            let shape = selector.program.tensor(result).shape;
            let strides = selector.program.tensor(input).shape.strides();
            let in_strides: Vec<i32> = perm.iter().map(|p| strides[*p] as i32).collect();
            let attrs = block(shape.dims(), &in_strides, shape, 0, 0);
            selector.program.push(OpCode::Copy, &attrs, vec![input], vec![result], &node.name);
        }
        Op::Slice { ranges } => slice(selector, node, ranges)?,
        Op::Expand { .. } => {
            let (input, result) = pair(selector, node)?;
            let shape = selector.program.tensor(result).shape;
            let in_strides = broadcast_strides(selector.program.tensor(input).shape, shape);
            let attrs = block(shape.dims(), &in_strides, shape, 0, 0);
            selector.program.push(OpCode::Copy, &attrs, vec![input], vec![result], &node.name);
        }
        Op::Tile { repeats } => tile(selector, node, repeats)?,
        Op::Concat { axis } => {
            let inputs = node.inputs.iter().flatten().copied();
            let parts: Vec<TensorRef> = inputs.map(|v| selector.tensor(v)).collect::<Result<_, _>>()?;
            let q = parts.first().and_then(|p| selector.program.tensor(*p).qparams);
            let result = selector.arena(output, q)?;
            selector.bind(output, result);
            concat_into(selector, &parts, result, *axis, &node.name);
        }
        Op::Pad(pad) => return padding(selector, node, pad),
        _ => return Ok(false),
    }
    Ok(true)
}

/// The first operand, and a new tensor for the result with the same quantization.
fn pair(selector: &mut Selector<'_>, node: &Node) -> Result<(TensorRef, TensorRef), LowerError> {
    let Some(input) = node.input(0) else { return Err(selector.unsupported(node, "lacks an operand")) };
    let tensor = selector.tensor(input)?;
    let q = selector.program.tensor(tensor).qparams;
    let result = selector.arena(node.outputs[0], q)?;
    selector.bind(node.outputs[0], result);
    Ok((tensor, result))
}

/// A copy of `extents` elements read with `in_strides` into a tensor of shape `out`.
pub(super) fn block(
    extents: &[u32],
    in_strides: &[i32],
    out: Shape,
    in_offset: usize,
    out_offset: usize,
) -> CopyAttrs {
    let mut attrs = CopyAttrs {
        rank: extents.len() as u32,
        extents: [1; MAX_RANK],
        in_strides: [0; MAX_RANK],
        out_strides: [0; MAX_RANK],
        in_offset: in_offset as u32,
        out_offset: out_offset as u32,
    };
    let strides = out.strides();
    for (i, extent) in extents.iter().enumerate() {
        attrs.extents[i] = *extent;
        attrs.in_strides[i] = in_strides[i];
        attrs.out_strides[i] = strides[i] as u32;
    }
    attrs
}

/// Strides that read `input` as if it had the shape `output`.
pub(super) fn broadcast_strides(input: Shape, output: Shape) -> Vec<i32> {
    let (strides, missing) = (input.strides(), output.rank() - input.rank().min(output.rank()));
    let read = |axis: usize| {
        let axis = axis.checked_sub(missing)?;
        (input.dim(axis) != 1).then(|| strides[axis] as i32)
    };
    (0..output.rank()).map(|axis| read(axis).unwrap_or(0)).collect()
}

fn slice(selector: &mut Selector<'_>, node: &Node, ranges: &[SliceRange]) -> Result<(), LowerError> {
    let (input, result) = pair(selector, node)?;
    let strides = selector.program.tensor(input).shape.strides();
    let shape = selector.program.tensor(result).shape;
    let in_strides: Vec<i32> =
        ranges.iter().zip(strides).map(|(range, s)| range.step as i32 * s as i32).collect();
    let offset = ranges.iter().zip(strides).map(|(range, s)| range.start * s).sum();
    let attrs = block(shape.dims(), &in_strides, shape, offset, 0);
    selector.program.push(OpCode::Copy, &attrs, vec![input], vec![result], &node.name);
    Ok(())
}

/// One copy per repetition of the whole input.
fn tile(selector: &mut Selector<'_>, node: &Node, repeats: &[usize]) -> Result<(), LowerError> {
    let (input, result) = pair(selector, node)?;
    let (from, to) = (selector.program.tensor(input).shape, selector.program.tensor(result).shape);
    let (in_strides, out_strides) = (from.strides().map(|s| s as i32), to.strides());
    // Of an axis without elements there may be any number.
    let copies = repeats.iter().try_fold(1usize, |copies, repeats| copies.checked_mul(*repeats));
    let Some(copies) = copies.filter(|copies| *copies <= COPIES_MAX) else {
        return Err(selector.unsupported(node, "repeats more often than a plan can hold"));
    };
    for copy in 0..copies {
        let (mut rest, mut offset) = (copy, 0);
        for axis in (0..repeats.len()).rev() {
            offset += rest % repeats[axis] * from.dim(axis) * out_strides[axis];
            rest /= repeats[axis];
        }
        let attrs = block(from.dims(), &in_strides, to, 0, offset);
        selector.program.push(OpCode::Copy, &attrs, vec![input], vec![result], &node.name);
    }
    Ok(())
}

/// Copies `parts` behind one another along `axis` of `result`.
pub(super) fn concat_into(
    selector: &mut Selector<'_>,
    parts: &[TensorRef],
    result: TensorRef,
    axis: usize,
    name: &str,
) {
    let out = selector.program.tensor(result).shape;
    let mut start = 0;
    for part in parts {
        let shape = selector.program.tensor(*part).shape;
        let in_strides = shape.strides().map(|s| s as i32);
        let attrs = block(shape.dims(), &in_strides, out, 0, start * out.strides()[axis]);
        selector.program.push(OpCode::Copy, &attrs, vec![*part], vec![result], name);
        start += shape.dim(axis);
    }
}

/// Constant padding: the border's value everywhere, then the interior.
fn padding(selector: &mut Selector<'_>, node: &Node, pad: &Pad) -> Result<bool, LowerError> {
    let PadMode::Constant(value) = pad.mode else { return Ok(false) };
    let (input, result) = pair(selector, node)?;
    let from = selector.program.tensor(input).shape;
    let to = selector.program.tensor(result).clone();
    let attrs = FillAttrs { value: element(selector.graph[node.outputs[0]].dtype, value) };
    selector.program.push(OpCode::Fill, &attrs, vec![], vec![result], &node.name);
    let out_strides = to.shape.strides();
    let offset = pad.before.iter().zip(out_strides).map(|(b, s)| b * s).sum();
    let attrs = block(from.dims(), &from.strides().map(|s| s as i32), to.shape, 0, offset);
    selector.program.push(OpCode::Copy, &attrs, vec![input], vec![result], &node.name);
    Ok(true)
}

/// The bytes a plan stores for an element of type `dtype`.
fn element(dtype: DType, value: f64) -> [u32; 2] {
    let word = match dtype {
        DType::F32 | DType::F16 => return [(value as f32).to_bits(), 0],
        DType::U8 => value as i64 - 128,
        _ => value as i64,
    };
    [word as u32, (word >> 32) as u32]
}

/// More copies than any sensible tiling: a bound on the plan's size.
const COPIES_MAX: usize = 4096;
