//! Reductions, softmax and running sums.

use ingraft_tensor::DType;

use super::{Binary, Op, Operands, Unary, ValueType};
use crate::error::Fault;
use crate::graph::ValueId;
use crate::onnx::NodeReader;

/// How the elements of a reduction combine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReduceKind {
    /// Σ|x|.
    L1,
    /// √Σx².
    L2,
    /// ln Σx.
    LogSum,
    /// ln Σ exp(x).
    LogSumExp,
    /// Largest.
    Max,
    /// Σx ÷ n.
    Mean,
    /// Smallest.
    Min,
    /// Πx.
    Prod,
    /// Σx.
    Sum,
    /// Σx².
    SumSquare,
}

impl ReduceKind {
    /// The ONNX name.
    pub fn name(self) -> &'static str {
        match self {
            Self::L1 => "ReduceL1",
            Self::L2 => "ReduceL2",
            Self::LogSum => "ReduceLogSum",
            Self::LogSumExp => "ReduceLogSumExp",
            Self::Max => "ReduceMax",
            Self::Mean => "ReduceMean",
            Self::Min => "ReduceMin",
            Self::Prod => "ReduceProd",
            Self::Sum => "ReduceSum",
            Self::SumSquare => "ReduceSumSquare",
        }
    }
}

pub(super) fn infer_reduce(axes: &[usize], keep_dims: bool, x: Operands<'_>) -> Result<ValueType, Fault> {
    let input = x.at(0)?;
    if axes.iter().any(|&a| a >= input.rank()) {
        return Err(Fault::shape("an axis is outside the input"));
    }
    let kept =
        input.shape.iter().enumerate().filter_map(|(i, &extent)| match (axes.contains(&i), keep_dims) {
            (false, _) => Some(extent),
            (true, true) => Some(1),
            (true, false) => None,
        });
    Ok(ValueType::new(input.dtype, kept.collect()))
}

pub(super) fn infer_argmax(axis: usize, keep_dims: bool, x: Operands<'_>) -> Result<ValueType, Fault> {
    if x.at(0)?.shape.get(axis) == Some(&0) {
        return Err(Fault::shape("the largest of no elements does not exist"));
    }
    Ok(ValueType { dtype: DType::I64, ..infer_reduce(&[axis], keep_dims, x)? })
}

pub(super) fn infer_softmax(axis: usize, x: Operands<'_>) -> Result<ValueType, Fault> {
    let input = x.float(0)?;
    if axis >= input.rank() {
        return Err(Fault::shape("the axis is outside the input"));
    }
    Ok(input.clone())
}

pub(super) fn infer_cumsum(axis: usize, x: Operands<'_>) -> Result<ValueType, Fault> {
    let input = x.at(0)?;
    if axis >= input.rank() {
        return Err(Fault::shape("the axis is outside the input"));
    }
    Ok(input.clone())
}

/// The `Reduce…` operators; axes are an attribute or, since opset 13 or 18, an operand.
pub(crate) fn reduce(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let kind = match node.op_type() {
        "ReduceL1" => ReduceKind::L1,
        "ReduceL2" => ReduceKind::L2,
        "ReduceLogSum" => ReduceKind::LogSum,
        "ReduceLogSumExp" => ReduceKind::LogSumExp,
        "ReduceMax" => ReduceKind::Max,
        "ReduceMean" => ReduceKind::Mean,
        "ReduceMin" => ReduceKind::Min,
        "ReduceProd" => ReduceKind::Prod,
        "ReduceSum" => ReduceKind::Sum,
        _ => ReduceKind::SumSquare,
    };
    let x = node.input(0)?;
    let rank = node.value_type(x).rank();
    let axes = node.axes(1, rank)?.filter(|axes| !axes.is_empty());
    let keep_dims = node.flag("keepdims", true)?;
    let noop = node.flag("noop_with_empty_axes", false)?;
    match axes {
        None if noop => reduce_nothing(node, kind, x),
        axes => {
            let mut axes = axes.unwrap_or_else(|| (0..rank).collect());
            axes.sort_unstable();
            node.finish(Op::Reduce { kind, axes, keep_dims }, &[Some(x)])
        }
    }
}

/// A reduction over no dimension: every element is combined with nothing.
fn reduce_nothing(node: &mut NodeReader<'_>, kind: ReduceKind, x: ValueId) -> Result<(), Fault> {
    match kind {
        ReduceKind::L1 | ReduceKind::L2 => node.finish(Op::Unary(Unary::Abs), &[Some(x)]),
        ReduceKind::LogSum => node.finish(Op::Unary(Unary::Log), &[Some(x)]),
        ReduceKind::SumSquare => node.finish(Op::Binary(Binary::Mul), &[Some(x), Some(x)]),
        _ => node.finish(Op::Identity, &[Some(x)]),
    }
}

/// `ArgMax`.
pub(crate) fn argmax(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let x = node.input(0)?;
    let axis = node.axis("axis", 0, node.value_type(x).rank())?;
    let keep_dims = node.flag("keepdims", true)?;
    let last = node.flag("select_last_index", false)?;
    node.finish(Op::ArgMax { axis, keep_dims, last }, &[Some(x)])
}

/// `Softmax` and `LogSoftmax`. Before opset 13 the operand is a matrix split at the axis; that is a reshape where it
/// differs from the later form.
pub(crate) fn softmax(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let x = node.input(0)?;
    let input = node.value_type(x);
    let log = node.op_type() == "LogSoftmax";
    if node.opset() >= 13 {
        let axis = node.axis("axis", -1, input.rank())?;
        return node.finish(Op::Softmax { axis, log }, &[Some(x)]);
    }
    let axis = node.axis("axis", 1, input.rank())?;
    let (rows, columns) = input.shape.split_at(axis);
    if columns.iter().skip(1).all(|&extent| extent == 1) {
        return node.finish(Op::Softmax { axis, log }, &[Some(x)]);
    }
    let matrix = vec![rows.iter().product(), columns.iter().product()];
    let flat = node.emit(Op::Reshape { shape: matrix }, &[Some(x)])?;
    let y = node.emit(Op::Softmax { axis: 1, log }, &[Some(flat)])?;
    node.finish(Op::Reshape { shape: input.shape }, &[Some(y)])
}

/// `CumSum`.
pub(crate) fn cumsum(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let x = node.input(0)?;
    let axes = node.axes(1, node.value_type(x).rank())?;
    let Some([axis]) = axes.as_deref() else {
        return Err(Fault::Operand { index: 1, reason: "must hold one axis" });
    };
    let (exclusive, reverse) = (node.flag("exclusive", false)?, node.flag("reverse", false)?);
    node.finish(Op::CumSum { axis: *axis, exclusive, reverse }, &[Some(x)])
}
