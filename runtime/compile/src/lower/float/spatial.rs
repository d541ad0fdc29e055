//! Operators on positions: pooling, resampling, mirrored borders.

use core::ops::Range;

use ingraft_kernel::OpCode;
use ingraft_kernel::attrs::{PoolAttrs, ResizeAttrs};
use ingraft_kernel::pool::{AVERAGE, AVERAGE_PADDED, MAX};
use ingraft_kernel::resize::{CEILING, FLOOR, HALF_DOWN, HALF_UP, LINEAR, NEAREST};
use ingraft_tensor::DType;

use crate::graph::Node;
use crate::lower::linear::plan_window;
use crate::lower::movement::block;
use crate::lower::select::Selector;
use crate::lower::{LowerError, TensorRef};
use crate::op::{
    Coordinates, Layout, NearestRounding, Pad, PadMode, Pool, PoolKind, Resize, ResizeMode, Window,
};

/// Three spatial dimensions are pooled as a plane and then as a column: extremes of extremes are extremes, and means of
/// means are means, for all planes of a column have the same taps inside the input.
pub(super) fn pool(selector: &mut Selector<'_>, node: &Node, pool: &Pool) -> Result<(), LowerError> {
    let input = selector.real_operand(node, 0)?;
    let (shape, result) = (selector.extents(input), selector.graph[node.outputs[0]].shape.clone());
    let output = match (pool.layout, shape.as_slice(), result.as_slice()) {
        (Layout::ChannelsLast, &[n, d, h, w, c], &[_, od, oh, ow, _]) => {
            let planes = selector.reshaped(input, &[n * d, h, w, c])?;
            let pooled = windowed(selector, node, pool, 1..3, planes, &[n * d, oh, ow, c])?;
            let columns = selector.reshaped(pooled, &[n, d, oh * ow, c])?;
            windowed(selector, node, pool, 0..1, columns, &[n, od, oh * ow, c])?
        }
        (Layout::ChannelsLast, [_, _, _] | [_, _, _, _], _) => {
            windowed(selector, node, pool, 0..shape.len() - 2, input, &result)?
        }
        _ => {
            return Err(
                selector.unsupported(node, "has more than three spatial dimensions or is not channels-last")
            );
        }
    };
    let output = selector.reshaped(output, &result)?;
    selector.finish(node.outputs[0], output);
    Ok(())
}

/// One step over the dimensions `axes` of the window, which are the first spatial ones of `input`.
fn windowed(
    selector: &mut Selector<'_>,
    node: &Node,
    pool: &Pool,
    axes: Range<usize>,
    input: TensorRef,
    shape: &[usize],
) -> Result<TensorRef, LowerError> {
    let part = |values: &[usize]| values.get(axes.clone()).unwrap_or(&[]).to_vec();
    let Window { kernel, strides, dilations, pads_begin, pads_end } = &pool.window;
    let mut window = Window {
        kernel: part(kernel),
        strides: part(strides),
        dilations: part(dilations),
        pads_begin: part(pads_begin),
        pads_end: part(pads_end),
    };
    // A column of an image whose rows are planes.
    if axes.len() == 1 && shape.len() == 4 {
        for values in [&mut window.kernel, &mut window.strides, &mut window.dilations] {
            values.push(1);
        }
        for values in [&mut window.pads_begin, &mut window.pads_end] {
            values.push(0);
        }
    }
    let window =
        plan_window(&window).ok_or_else(|| selector.unsupported(node, "has a window no plan holds"))?;
    let kind = match pool.kind {
        PoolKind::Max => MAX,
        PoolKind::Average { count_include_pad: false } => AVERAGE,
        PoolKind::Average { count_include_pad: true } => AVERAGE_PADDED,
    };
    let (lo, hi) = (f32::NEG_INFINITY, f32::INFINITY);
    let attrs = PoolAttrs { window, kind, in_zero_point: 0, out_zero_point: 0, ratio: 1.0, lo, hi };
    selector.push_temporary(node, (OpCode::Pool, &attrs), vec![input], DType::F32, shape)
}

/// Dimensions are resampled in pairs of neighbors: both ways of making an element work dimension by dimension.
pub(super) fn resize(selector: &mut Selector<'_>, node: &Node, resize: &Resize) -> Result<(), LowerError> {
    let mut tensor = selector.operand(node, 0)?;
    let nearest = matches!(resize.mode, ResizeMode::Nearest(_));
    let dtype = selector.program.tensor(tensor).dtype;
    if dtype != DType::F32 && !(nearest && dtype == DType::I8) {
        return Err(selector.unsupported(node, "is not computed on integers wider than 8 bits, nor linearly"));
    }
    let mut shape = selector.extents(tensor);
    let changes = |axis: usize| {
        resize.scales[axis] != 1.0 || selector.graph[node.outputs[0]].shape[axis] != shape[axis]
    };
    let mut axes: Vec<usize> = (0..shape.len()).filter(|axis| changes(*axis)).collect();
    axes.reverse();
    while let Some(first) = axes.pop() {
        let second = axes.pop_if(|next| *next == first + 1);
        let count = 1 + usize::from(second.is_some());
        let attrs = resampling(resize, first, &shape[first..first + count]);
        let extents = |shape: &[usize]| {
            let (outer, inner) = (shape[..first].iter().product(), shape[first + count..].iter().product());
            let width = if count == 2 { shape[first + 1] } else { 1 };
            [outer, shape[first], width, inner]
        };
        let source = selector.reshaped(tensor, &extents(&shape))?;
        shape[first..first + count].copy_from_slice(&resize.shape[first..first + count]);
        tensor =
            selector.push_temporary(node, (OpCode::Resize, &attrs), vec![source], dtype, &extents(&shape))?;
    }
    let name = selector.graph[node.outputs[0]].name.clone();
    let result = selector.alias(tensor, &name, &shape)?;
    selector.bind(node.outputs[0], result);
    Ok(())
}

/// The record for dimension `first` and, where `input` has two extents, the one behind it.
fn resampling(resize: &Resize, first: usize, input: &[usize]) -> ResizeAttrs {
    let (mode, rounding) = match resize.mode {
        ResizeMode::Linear => (LINEAR, FLOOR),
        ResizeMode::Nearest(NearestRounding::Floor) => (NEAREST, FLOOR),
        ResizeMode::Nearest(NearestRounding::Ceil) => (NEAREST, CEILING),
        ResizeMode::Nearest(NearestRounding::RoundPreferFloor) => (NEAREST, HALF_DOWN),
        ResizeMode::Nearest(NearestRounding::RoundPreferCeil) => (NEAREST, HALF_UP),
    };
    let identity = [0.0, 1.0, 1.0, 0.0];
    let map = |i: usize| match input.get(i) {
        Some(extent) => coordinates(resize, first + i, *extent),
        None => identity,
    };
    let (height, width) = (map(0), map(1));
    let pair = |i: usize| [height[i], width[i]];
    ResizeAttrs { mode, rounding, before: pair(0), numerator: pair(1), denominator: pair(2), after: pair(3) }
}

/// Output position o to input position: `(o + before) · numerator / denominator + after`.
fn coordinates(resize: &Resize, axis: usize, input: usize) -> [f32; 4] {
    let (scale, output) = (resize.scales[axis], resize.shape[axis]);
    let (n, m) = (input as f32, output as f32);
    let half_pixel = [0.5, 1.0, scale, -0.5];
    let origin = [0.0, 0.0, 1.0, 0.0];
    match resize.coordinates {
        // The standard counts the corners of the scaled extent, which need not be whole.
        Coordinates::AlignCorners if output > 1 => [0.0, n - 1.0, scale * n - 1.0, 0.0],
        Coordinates::AlignCorners => origin,
        Coordinates::Asymmetric => [0.0, 1.0, scale, 0.0],
        Coordinates::HalfPixel => half_pixel,
        Coordinates::HalfPixelSymmetric => {
            let adjustment = m / (scale * n);
            [0.5, 1.0, scale, n / 2.0 * (1.0 - adjustment) - 0.5]
        }
        Coordinates::PytorchHalfPixel if output > 1 => half_pixel,
        Coordinates::PytorchHalfPixel => origin,
    }
}

/// Borders that repeat elements of the input, one dimension after the other.
pub(super) fn pad(selector: &mut Selector<'_>, node: &Node, pad: &Pad) -> Result<(), LowerError> {
    let mut tensor = selector.operand(node, 0)?;
    for axis in 0..pad.before.len() {
        if pad.before[axis] > 0 || pad.after[axis] > 0 {
            tensor = padded(selector, node, tensor, pad, axis)?;
        }
    }
    let (name, shape) = (selector.graph[node.outputs[0]].name.clone(), selector.extents(tensor));
    let result = selector.alias(tensor, &name, &shape)?;
    selector.bind(node.outputs[0], result);
    Ok(())
}

fn padded(
    selector: &mut Selector<'_>,
    node: &Node,
    tensor: TensorRef,
    pad: &Pad,
    axis: usize,
) -> Result<TensorRef, LowerError> {
    let source = selector.program.tensor(tensor).clone();
    let mut shape = selector.extents(tensor);
    let extent = shape[axis];
    shape[axis] += pad.before[axis] + pad.after[axis];
    let result = selector.temporary(&source.name, source.dtype, &shape, source.qparams)?;
    let out = selector.program.tensor(result).shape;
    let (in_strides, out_strides) = (source.shape.strides(), out.strides());
    // Without elements there is nothing to copy, however long the other dimensions are.
    if out.elements() == 0 {
        return Ok(result);
    }
    for run in runs(pad.mode, extent, [pad.before[axis], pad.after[axis]]) {
        let mut extents = source.shape.dims().to_vec();
        extents[axis] = run.len as u32;
        let mut strides = in_strides.map(|s| s as i32);
        strides[axis] *= run.step;
        let attrs = block(&extents, &strides, out, run.from * in_strides[axis], run.to * out_strides[axis]);
        selector.program.push(OpCode::Copy, &attrs, vec![tensor], vec![result], &node.name);
    }
    Ok(result)
}

/// `len` elements of the result from `to` on, read from `from` on in steps of `step`.
struct Run {
    to: usize,
    from: usize,
    step: i32,
    len: usize,
}

/// The input elements along one dimension that make up the result: maximal runs read at one step.
fn runs(mode: PadMode, extent: usize, [before, after]: [usize; 2]) -> Vec<Run> {
    let source = |to: usize| {
        let position = to as i64 - before as i64;
        let (n, last) = (extent as i64, extent as i64 - 1);
        let at = match mode {
            PadMode::Edge | PadMode::Constant(_) => position.clamp(0, last),
            PadMode::Wrap => position.rem_euclid(n),
            PadMode::Reflect => last - (position.rem_euclid(2 * last) - last).abs(),
        };
        at as usize
    };
    let mut runs: Vec<Run> = Vec::new();
    for to in 0..before + extent + after {
        let from = source(to);
        if let Some(run) = runs.last_mut() {
            let step = from as i64 - (run.from as i64 + i64::from(run.step) * (run.len as i64 - 1));
            if (-1..=1).contains(&step) && (run.len == 1 || step == i64::from(run.step)) {
                (run.step, run.len) = (step as i32, run.len + 1);
                continue;
            }
        }
        runs.push(Run { to, from, step: 1, len: 1 });
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_are_few_runs() {
        let read = |mode, extent, pads| -> (Vec<usize>, usize) {
            let runs = runs(mode, extent, pads);
            let elements = runs.iter().flat_map(|run| {
                (0..run.len).map(|i| (run.from as i64 + i64::from(run.step) * i as i64) as usize)
            });
            (elements.collect(), runs.len())
        };
        assert_eq!(read(PadMode::Edge, 3, [2, 1]), (vec![0, 0, 0, 1, 2, 2], 3));
        assert_eq!(read(PadMode::Reflect, 4, [2, 3]), (vec![2, 1, 0, 1, 2, 3, 2, 1, 0], 3));
        assert_eq!(read(PadMode::Reflect, 2, [3, 0]), (vec![1, 0, 1, 0, 1], 3));
        assert_eq!(read(PadMode::Wrap, 3, [4, 2]), (vec![2, 0, 1, 2, 0, 1, 2, 0, 1], 4));
    }
}
