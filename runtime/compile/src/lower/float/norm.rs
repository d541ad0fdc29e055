//! Normalizations.

use ingraft_kernel::attrs::NormAttrs;
use ingraft_kernel::norm::{AFFINE, LAYER, RMS};
use ingraft_kernel::{OpCode, SiteKind};
use ingraft_tensor::DType;

use crate::graph::Node;
use crate::lower::linear::{add_site, weight_name};
use crate::lower::movement::{block, broadcast_strides};
use crate::lower::select::{Selector, plan_shape};
use crate::lower::{LowerError, ProgSite, Storage, TensorRef};
use crate::op::{Layout, Op};

pub(super) fn layer(
    selector: &mut Selector<'_>,
    node: &Node,
    axis: usize,
    epsilon: f32,
) -> Result<(), LowerError> {
    innermost(selector, node, axis, NormAttrs { kind: LAYER, axes: 0, epsilon })
}

pub(super) fn root_mean_square(
    selector: &mut Selector<'_>,
    node: &Node,
    axis: usize,
    epsilon: f32,
) -> Result<(), LowerError> {
    innermost(selector, node, axis, NormAttrs { kind: RMS, axes: 0, epsilon })
}

/// Over the dimensions from `axis` on.
fn innermost(
    selector: &mut Selector<'_>,
    node: &Node,
    axis: usize,
    attrs: NormAttrs,
) -> Result<(), LowerError> {
    let x = selector.real_operand(node, 0)?;
    let normalized = selector.extents(x).split_off(axis);
    let mut inputs = vec![x];
    for index in 1..node.inputs.len() {
        if node.input(index).is_some() {
            inputs.push(factor(selector, node, index, &normalized)?);
        }
    }
    let attrs = NormAttrs { axes: normalized.len() as u32, ..attrs };
    push_site(selector, node, &attrs, inputs, normalized.iter().product())
}

/// The step that writes the result of `node`, a site where its scale and shift can be one.
fn push_site(
    selector: &mut Selector<'_>,
    node: &Node,
    attrs: &NormAttrs,
    inputs: Vec<TensorRef>,
    len: usize,
) -> Result<(), LowerError> {
    let site = site(selector, node, &inputs, len);
    selector.push_result(node, OpCode::Norm, attrs, inputs)?;
    add_last(selector, site);
    Ok(())
}

/// Adds the site of the step made last.
fn add_last(selector: &mut Selector<'_>, site: Option<ProgSite>) {
    let step = selector.program.steps.len() - 1;
    if let Some(site) = site {
        add_site(selector, ProgSite { step, ..site });
    }
}

/// The site of a normalization with a scale of its own in the file, and a shift or none; `None` where either is computed,
/// or where the scale is the ones that stand for a normalization without parameters.
fn site(selector: &Selector<'_>, node: &Node, operands: &[TensorRef], len: usize) -> Option<ProgSite> {
    let grouped = matches!(node.op, Op::GroupNorm { .. });
    let (_, parameters) = operands.split_first()?;
    let constants: Vec<&[u8]> = parameters
        .iter()
        .map(|tensor| match &selector.program.tensor(*tensor).storage {
            Storage::Constant(bytes) => Some(bytes.as_slice()),
            _ => None,
        })
        .collect::<Option<_>>()?;
    let all = |bytes: &[u8], value: f32| bytes.chunks(4).all(|held| held == value.to_le_bytes());
    let kind = match constants.as_slice() {
        // What an exporter writes inside a normalization whose scale and shift are of something else than its groups.
        [scale, shift] if grouped && all(scale, 1.0) && all(shift, 0.0) => return None,
        [_, _] => SiteKind::Norm,
        [scale] if !all(scale, 1.0) => SiteKind::NormScale,
        _ => return None,
    };
    Some(ProgSite {
        name: weight_name(selector, node.input(1)?),
        kind,
        dtype: DType::F32,
        out: len,
        inputs: 1,
        kernel: [1, 1],
        groups: len,
        transposed: false,
        step: 0,
        stride: 1,
    })
}

/// A scale or shift with one element per position of `shape`, repeated where the file has fewer.
fn factor(
    selector: &mut Selector<'_>,
    node: &Node,
    index: usize,
    shape: &[usize],
) -> Result<TensorRef, LowerError> {
    let tensor = selector.real_operand(node, index)?;
    if selector.program.tensor(tensor).shape.elements() == shape.iter().product() {
        return Ok(tensor);
    }
    let wanted = plan_shape(&node.name, shape)?;
    let strides = broadcast_strides(selector.program.tensor(tensor).shape, wanted);
    let attrs = block(wanted.dims(), &strides, wanted, 0, 0);
    selector.push_temporary(node, (OpCode::Copy, &attrs), vec![tensor], DType::F32, shape)
}

/// Over the channels of each group and all positions; with one channel per group this is instance normalization.
pub(super) fn group(
    selector: &mut Selector<'_>,
    node: &Node,
    groups: usize,
    epsilon: f32,
    layout: Layout,
) -> Result<(), LowerError> {
    let x = selector.real_operand(node, 0)?;
    let shape = selector.extents(x);
    let (Layout::ChannelsLast, Some((batch, channels, spatial))) = (layout, layout.split(&shape)) else {
        return Err(selector.unsupported(node, "is not channels-last"));
    };
    let (pixels, members) = (spatial.iter().product(), channels / groups.max(1));
    let split = selector.reshaped(x, &[batch, pixels, groups, members])?;
    let grouped = selector.transposed(node, split, &[0, 2, 1, 3])?;
    let extents = selector.extents(grouped);
    let attrs = NormAttrs { kind: LAYER, axes: 2, epsilon };
    let normal =
        selector.push_temporary(node, (OpCode::Norm, &attrs), vec![grouped], DType::F32, &extents)?;
    let normal = selector.transposed(node, normal, &[0, 2, 1, 3])?;
    let normal = selector.reshaped(normal, &shape)?;
    // Scale and shift are of channels, not of groups: a step of their own, and the site.
    let inputs =
        vec![normal, factor(selector, node, 1, &[channels])?, factor(selector, node, 2, &[channels])?];
    push_site(selector, node, &PER_CHANNEL, inputs, channels)
}

/// Scale and shift along the last dimension.
const PER_CHANNEL: NormAttrs = NormAttrs { kind: AFFINE, axes: 1, epsilon: 0.0 };

/// By the statistics of the file, which are constants: one step for them, and one, the site, for scale and shift as the
/// file has them.
pub(super) fn batch(
    selector: &mut Selector<'_>,
    node: &Node,
    axis: usize,
    epsilon: f32,
) -> Result<(), LowerError> {
    let x = selector.real_operand(node, 0)?;
    let statistic = |index: usize| Some(selector.graph.konst_input(node, index)?.to_f32());
    let (Some(mean), Some(variance)) = (statistic(3), statistic(4)) else {
        return Err(selector.unsupported(node, "its statistics are not constant"));
    };
    let inverse: Vec<f64> =
        variance.iter().map(|v| 1.0 / (f64::from(*v) + f64::from(epsilon)).sqrt()).collect();
    let centre: Vec<f32> = mean.iter().zip(&inverse).map(|(m, i)| (-f64::from(*m) * i) as f32).collect();
    let inverse: Vec<f32> = inverse.iter().map(|i| *i as f32).collect();
    let channels = inverse.len();
    // Channels last, and back: nothing moves where they are.
    let rank = selector.extents(x).len();
    let there: Vec<usize> = (0..rank).filter(|i| *i != axis).chain([axis]).collect();
    let back: Vec<usize> = (0..axis).chain([rank - 1]).chain(axis..rank - 1).collect();
    let x = selector.transposed(node, x, &there)?;
    let extents = selector.extents(x);
    let statistics = vec![
        x,
        selector.constant_of(node, &[channels], &inverse)?,
        selector.constant_of(node, &[channels], &centre)?,
    ];
    let step = (OpCode::Norm, &PER_CHANNEL);
    let normal = selector.push_temporary(node, step, statistics, DType::F32, &extents)?;
    let inputs =
        vec![normal, factor(selector, node, 1, &[channels])?, factor(selector, node, 2, &[channels])?];
    let site = site(selector, node, &inputs, channels);
    let y = selector.push_temporary(node, step, inputs, DType::F32, &extents)?;
    add_last(selector, site);
    let y = selector.transposed(node, y, &back)?;
    selector.finish(node.outputs[0], y);
    Ok(())
}
