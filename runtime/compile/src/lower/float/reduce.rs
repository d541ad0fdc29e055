//! Operators along dimensions: reductions, softmax, running sums, positions of extremes.

use ingraft_kernel::OpCode;
use ingraft_kernel::attrs::{ArgReduceAttrs, ReduceAttrs, SoftmaxAttrs};
use ingraft_kernel::elementwise::CompareFn;
use ingraft_kernel::reduce::ReduceFn;
use ingraft_tensor::DType;

use super::wide;
use crate::graph::{Node, ValueId};
use crate::lower::qops::NoAttrs;
use crate::lower::select::Selector;
use crate::lower::{LowerError, TensorRef};
use crate::op::ReduceKind;

/// `tensor` with its last dimension as the one along which the operator works.
struct Rows {
    tensor: TensorRef,
    /// The permutation that brought it there.
    perm: Vec<usize>,
}

pub(super) fn reduce(
    selector: &mut Selector<'_>,
    node: &Node,
    kind: ReduceKind,
    axes: &[usize],
) -> Result<(), LowerError> {
    let value = selector.operand_value(node, 0)?;
    let dtype = match selector.graph[value].dtype {
        DType::Bool => DType::I32,
        dtype => wide(dtype),
    };
    let of_reals = matches!(kind, ReduceKind::L2 | ReduceKind::LogSum | ReduceKind::LogSumExp);
    if of_reals && dtype != DType::F32 {
        return Err(selector.unsupported(node, "is not computed on integers"));
    }
    let input = selector.converted(value, dtype)?;
    let attrs = attributes(kind, axes);
    let result = node.outputs[0];
    if selector.graph[result].dtype == DType::Bool {
        return extreme_truth(selector, node, &attrs, input);
    }
    selector.compute_as(result, dtype, |selector, output| {
        selector.program.push(OpCode::Reduce, &attrs, vec![input], vec![output], &node.name);
        Ok(())
    })
}

/// Truth values widened to integers: the extreme of none of them, an end of the type, is above zero only for the smallest.
fn extreme_truth(
    selector: &mut Selector<'_>,
    node: &Node,
    attrs: &ReduceAttrs,
    input: TensorRef,
) -> Result<(), LowerError> {
    let shape = selector.graph[node.outputs[0]].shape.clone();
    let extreme = selector.push_temporary(node, (OpCode::Reduce, attrs), vec![input], DType::I32, &shape)?;
    let zero = selector.constant_of(node, &[], &[0i32])?;
    let attrs = super::arithmetic(CompareFn::Greater.code());
    selector.push_result(node, OpCode::Binary, &attrs, vec![extreme, zero])?;
    Ok(())
}

fn attributes(kind: ReduceKind, axes: &[usize]) -> ReduceAttrs {
    let function = match kind {
        ReduceKind::L1 => ReduceFn::L1,
        ReduceKind::L2 => ReduceFn::L2,
        ReduceKind::LogSum => ReduceFn::LogSum,
        ReduceKind::LogSumExp => ReduceFn::LogSumExp,
        ReduceKind::Max => ReduceFn::Max,
        ReduceKind::Mean => ReduceFn::Mean,
        ReduceKind::Min => ReduceFn::Min,
        ReduceKind::Prod => ReduceFn::Prod,
        ReduceKind::Sum => ReduceFn::Sum,
        ReduceKind::SumSquare => ReduceFn::SumSquare,
    };
    ReduceAttrs {
        function: function.code(),
        axes: axes.iter().fold(0, |bits, axis| bits | 1 << axis),
        in_zero_point: 0,
        out_zero_point: 0,
        ratio: 1.0,
        lo: f32::NEG_INFINITY,
        hi: f32::INFINITY,
    }
}

/// The position of the largest element; of codes with one scale it is that of the largest code.
pub(super) fn argmax(
    selector: &mut Selector<'_>,
    node: &Node,
    axis: usize,
    last: bool,
) -> Result<(), LowerError> {
    let value = selector.operand_value(node, 0)?;
    let input = match (selector.uses.codes(value), selector.graph[value].dtype) {
        (Some(codes), _) => selector.codes(codes)?,
        (None, DType::Bool | DType::I16) => selector.converted(value, DType::I32)?,
        (None, _) => selector.tensor(value)?,
    };
    let attrs = ArgReduceAttrs { axis: axis as u32, smallest: 0, last: u32::from(last) };
    selector.push_result(node, OpCode::ArgReduce, &attrs, vec![input])?;
    Ok(())
}

pub(super) fn softmax(
    selector: &mut Selector<'_>,
    node: &Node,
    axis: usize,
    log: bool,
) -> Result<(), LowerError> {
    let value = selector.operand_value(node, 0)?;
    let rows = rows(selector, node, value, axis)?;
    let shape = selector.extents(rows.tensor);
    let attrs = SoftmaxAttrs { log: u32::from(log) };
    let result =
        selector.push_temporary(node, (OpCode::Softmax, &attrs), vec![rows.tensor], DType::F32, &shape)?;
    rows.restore(selector, node, result)
}

/// Most elements of a `CumSum`: the triangle of as many takes 16 MiB.
const LONGEST_SUM: usize = 2048;

/// `CumSum`: of reals a product with a triangle of ones, of integers the sum of what a triangle lets through.
pub(super) fn running_sum(
    selector: &mut Selector<'_>,
    node: &Node,
    axis: usize,
    [exclusive, reverse]: [bool; 2],
) -> Result<(), LowerError> {
    let value = selector.operand_value(node, 0)?;
    let rows = rows(selector, node, value, axis)?;
    let shape = selector.extents(rows.tensor);
    let count = shape.last().copied().unwrap_or(1);
    if count > LONGEST_SUM {
        return Err(selector
            .unsupported(node, "adds up more than 2048 elements, for which a plan would hold their square"));
    }
    // Whether element `from` counts toward sum `to`.
    let counts = move |from: usize, to: usize| {
        let (first, second) = if reverse { (to, from) } else { (from, to) };
        first < second || (first == second && !exclusive)
    };
    let dtype = selector.program.tensor(rows.tensor).dtype;
    let result = if dtype == DType::F32 {
        let triangle: Vec<f32> = (0..count)
            .flat_map(|from| (0..count).map(move |to| f32::from(u8::from(counts(from, to)))))
            .collect();
        let triangle = selector.constant_of(node, &[count, count], &triangle)?;
        let matrix =
            selector.reshaped(rows.tensor, &[shape.iter().product::<usize>() / count.max(1), count])?;
        let extents = selector.extents(matrix);
        selector.push_temporary(
            node,
            (OpCode::MatMul, &NoAttrs {}),
            vec![matrix, triangle],
            DType::F32,
            &extents,
        )?
    } else {
        let mask: Vec<u8> =
            (0..count).flat_map(|to| (0..count).map(move |from| u8::from(counts(from, to)))).collect();
        masked_sums(selector, node, rows.tensor, count, &mask)?
    };
    let result = selector.reshaped(result, &shape)?;
    rows.restore(selector, node, result)
}

/// For every row of `count` integers, the sums of those that each row of `mask` lets through.
fn masked_sums(
    selector: &mut Selector<'_>,
    node: &Node,
    tensor: TensorRef,
    count: usize,
    mask: &[u8],
) -> Result<TensorRef, LowerError> {
    let dtype = selector.program.tensor(tensor).dtype;
    let rows = selector.program.tensor(tensor).shape.elements() / count.max(1);
    let mask = selector.constant_of(node, &[count, count], mask)?;
    selector.program.tensors[mask.0].dtype = DType::Bool;
    let zero = match dtype {
        DType::I64 => selector.constant_of(node, &[], &[0i64])?,
        _ => selector.constant_of(node, &[], &[0i32])?,
    };
    let x = selector.reshaped(tensor, &[rows, 1, count])?;
    let inputs = vec![mask, x, zero];
    let kept =
        selector.push_temporary(node, (OpCode::Where, &NoAttrs {}), inputs, dtype, &[rows, count, count])?;
    let attrs = attributes(ReduceKind::Sum, &[2]);
    selector.push_temporary(node, (OpCode::Reduce, &attrs), vec![kept], dtype, &[rows, count])
}

/// `value` in a type that is computed on, with dimension `axis` last.
fn rows(selector: &mut Selector<'_>, node: &Node, value: ValueId, axis: usize) -> Result<Rows, LowerError> {
    let source = &selector.graph[value];
    let rank = source.shape.len();
    let perm: Vec<usize> = (0..rank).filter(|i| *i != axis).chain([axis]).collect();
    let tensor = selector.converted(value, wide(source.dtype))?;
    let tensor = selector.transposed(node, tensor, &perm)?;
    Ok(Rows { tensor, perm })
}

impl Rows {
    /// Declares `result`, which has the dimensions of [`Rows::tensor`], the result of `node`.
    fn restore(self, selector: &mut Selector<'_>, node: &Node, result: TensorRef) -> Result<(), LowerError> {
        let mut back = vec![0; self.perm.len()];
        for (at, from) in self.perm.iter().enumerate() {
            back[*from] = at;
        }
        let restored = selector.transposed(node, result, &back)?;
        let value = &selector.graph[node.outputs[0]];
        let stored = selector.convert(restored, wide(value.dtype), value.dtype);
        selector.finish(node.outputs[0], stored);
        Ok(())
    }
}
