//! Normalization.

use super::conv::Layout;
use super::elementwise::broadcast;
use super::{Binary, Op, Operands, ReduceKind, Unary, ValueType};
use crate::error::Fault;
use crate::graph::{Tensor, ValueId};
use crate::onnx::NodeReader;

pub(super) fn infer_batch_norm(axis: usize, x: Operands<'_>) -> Result<ValueType, Fault> {
    let input = x.float(0)?;
    let channels = *input.shape.get(axis).ok_or(Fault::shape("the input has no channels"))?;
    (1..=4).try_for_each(|i| x.at(i).and_then(|_| x.vector(i, channels)))?;
    Ok(input.clone())
}

pub(super) fn infer_layer_norm(axis: usize, x: Operands<'_>) -> Result<ValueType, Fault> {
    let input = x.float(0)?;
    let normalized = input.shape.get(axis..).filter(|s| !s.is_empty());
    let normalized = normalized.ok_or(Fault::shape("the axis is outside the input"))?;
    x.at(1)?;
    for index in 1..x.len() {
        let Some(factor) = x.get(index) else { continue };
        if broadcast(&factor.shape, normalized).as_deref() != Some(normalized) {
            return Err(Fault::shape("scale or bias does not fit the dimensions normalized over"));
        }
        x.like_first(index)?;
    }
    Ok(input.clone())
}

pub(super) fn infer_group_norm(groups: usize, layout: Layout, x: Operands<'_>) -> Result<ValueType, Fault> {
    let input = x.float(0)?;
    let (_, channels, _) =
        layout.split(&input.shape).ok_or(Fault::shape("the input has no spatial dimension"))?;
    if groups == 0 || channels % groups != 0 {
        return Err(Fault::shape("the groups do not divide the channels"));
    }
    (1..=2).try_for_each(|i| x.at(i).and_then(|_| x.vector(i, channels)))?;
    Ok(input.clone())
}

/// `BatchNormalization` at inference.
pub(crate) fn batch_norm(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    node.freeze(&[1, 2, 3, 4]);
    (1..=4).try_for_each(|i| node.constant(i).map(drop))?;
    let epsilon = node.float("epsilon", 1e-5)?;
    // Only training uses the momentum.
    node.ignore(&["momentum"]);
    if node.flag("training_mode", false)? {
        return Err(Fault::Attribute { attribute: "training_mode", reason: "must be zero" });
    }
    let operands = (0..5).map(|i| node.input(i).map(Some)).collect::<Result<Vec<_>, _>>()?;
    node.finish(Op::BatchNorm { axis: 1, epsilon }, &operands)
}

/// `LayerNormalization`; the mean and the inverse deviation it can also return are computed beside it.
pub(crate) fn layer_norm(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let (x, axis, epsilon) = read_last_axes(node)?;
    let operands = [Some(x), Some(node.input(1)?), node.optional(2)];
    let y = node.emit(Op::LayerNorm { axis, epsilon }, &operands)?;
    node.bind(0, y)?;
    if node.has_output(1) || node.has_output(2) {
        let axes = (axis..node.value_type(x).rank()).collect();
        let mean_of = Op::Reduce { kind: ReduceKind::Mean, axes, keep_dims: true };
        let mean = node.emit(mean_of.clone(), &[Some(x)])?;
        let centered = node.emit(Op::Binary(Binary::Sub), &[Some(x), Some(mean)])?;
        let square = node.emit(Op::Binary(Binary::Mul), &[Some(centered), Some(centered)])?;
        let variance = node.emit(mean_of, &[Some(square)])?;
        let epsilon = node.scalar_like(variance, f64::from(epsilon))?;
        let sum = node.emit(Op::Binary(Binary::Add), &[Some(variance), Some(epsilon)])?;
        let deviation = node.emit(Op::Unary(Unary::Sqrt), &[Some(sum)])?;
        let inverse = node.emit(Op::Unary(Unary::Reciprocal), &[Some(deviation)])?;
        node.bind(1, mean)?;
        node.bind(2, inverse)?;
    }
    node.complete()
}

/// `RMSNormalization`.
pub(crate) fn rms_norm(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let (x, axis, epsilon) = read_last_axes(node)?;
    let operands = [Some(x), Some(node.input(1)?)];
    node.finish(Op::RmsNorm { axis, epsilon }, &operands)
}

fn read_last_axes(node: &mut NodeReader<'_>) -> Result<(ValueId, usize, f32), Fault> {
    node.freeze(&[1, 2]);
    let x = node.input(0)?;
    let axis = node.axis("axis", -1, node.value_type(x).rank())?;
    let epsilon = node.float("epsilon", 1e-5)?;
    read_stash_type(node)?;
    Ok((x, axis, epsilon))
}

/// Statistics are computed in single precision or better, which is what code 1 asks for.
fn read_stash_type(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    if node.int("stash_type", 1)? != 1 {
        return Err(Fault::Attribute { attribute: "stash_type", reason: "must be 1 (float32)" });
    }
    Ok(())
}

/// `InstanceNormalization`: every channel is its own group.
pub(crate) fn instance_norm(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    node.freeze(&[1, 2]);
    let x = node.input(0)?;
    let groups = *node.value_type(x).shape.get(1).ok_or(Fault::shape("the input has no channels"))?;
    let epsilon = node.float("epsilon", 1e-5)?;
    let operands = [Some(x), Some(node.input(1)?), Some(node.input(2)?)];
    node.finish(Op::GroupNorm { groups, epsilon, layout: Layout::ChannelsFirst }, &operands)
}

/// `GroupNormalization`; before opset 21 scale and bias are per group, and are repeated for each channel.
pub(crate) fn group_norm(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    node.freeze(&[1, 2]);
    let x = node.input(0)?;
    let groups = usize::try_from(node.required_int("num_groups")?).unwrap_or(0);
    let epsilon = node.float("epsilon", 1e-5)?;
    read_stash_type(node)?;
    let channels = *node.value_type(x).shape.get(1).ok_or(Fault::shape("the input has no channels"))?;
    let mut operands = [Some(x), Some(node.input(1)?), Some(node.input(2)?)];
    if node.opset() < 21 && groups > 0 && channels % groups == 0 {
        for (index, operand) in operands.iter_mut().enumerate().skip(1) {
            let per_group = node.constant(index)?.to_f32();
            if per_group.len() != groups {
                return Err(Fault::shape("scale and bias are not one per group"));
            }
            let repeat = |&v: &f32| core::iter::repeat_n(v, channels / groups);
            let per_channel: Vec<f32> = per_group.iter().flat_map(repeat).collect();
            let tensor = Tensor::from_f32(&[channels], &per_channel).ok_or(Fault::TooLarge)?;
            *operand = Some(node.emit_constant(tensor));
        }
    }
    node.finish(Op::GroupNorm { groups, epsilon, layout: Layout::ChannelsFirst }, &operands)
}
