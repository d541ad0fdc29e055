//! Integer operators other than convolutions: chosen where every operand is
//! quantized and the result is rounded.

use ingraft_kernel::OpCode;
use ingraft_kernel::attrs::{
    Attrs, PoolAttrs, QBinaryAttrs, QSoftmaxAttrs, QuantizeAttrs, ReduceAttrs, Window,
};
use ingraft_kernel::reduce::ReduceFn;
use ingraft_kernel::softmax::exp_table;
use ingraft_tensor::QParams;

use super::linear::plan_window;
use super::pattern::{Chain, Codes, code_bounds};
use super::select::{Selector, plan_shape};
use super::{LowerError, TensorRef, table};
use crate::graph::{Node, NodeId};
use crate::op::{Binary, Layout, Op, Pool, PoolKind, ReduceKind, Unary};

/// Lowers `id` as an integer operator if it is one; says whether it did.
pub(super) fn lower(selector: &mut Selector<'_>, id: NodeId) -> Result<bool, LowerError> {
    let node = &selector.graph[id];
    match &node.op {
        Op::Binary(Binary::Add | Binary::Mul | Binary::Sub) => binary(selector, node),
        Op::Pool(pool) => pooling(selector, node, pool),
        Op::Reduce { kind, axes, .. } => Ok((*kind == ReduceKind::Mean && mean(selector, node, axes)?)
            || reduction(selector, node, *kind, axes)?),
        Op::MatMul => super::float::quantized_product(selector, node),
        Op::Unary(unary) => function(selector, node, *unary),
        Op::Softmax { axis, log: false } => softmax(selector, node, *axis),
        Op::Concat { axis } => concat(selector, node, *axis),
        _ => Ok(false),
    }
}

/// One step with one output that ends `chain`.
fn push<A: Attrs>(
    selector: &mut Selector<'_>,
    op: OpCode,
    attrs: &A,
    inputs: Vec<TensorRef>,
    chain: &Chain,
    node: &Node,
) -> Result<usize, LowerError> {
    let output = selector.result(chain)?;
    Ok(selector.program.push(op, attrs, inputs, vec![output], &node.name))
}

/// The codes behind operand 0 and the rounding behind the result, when both exist.
fn unary_operands(selector: &Selector<'_>, node: &Node) -> Option<(Codes, Chain, QParams)> {
    let codes = selector.uses.codes(node.input(0)?)?;
    let chain = selector.uses.chain(node.outputs[0]);
    let q = chain.qparams?;
    Some((codes, chain, q))
}

fn binary(selector: &mut Selector<'_>, node: &Node) -> Result<bool, LowerError> {
    let operands = || {
        let (a, b) = (selector.uses.codes(node.input(0)?)?, selector.uses.codes(node.input(1)?)?);
        let chain = selector.uses.chain(node.outputs[0]);
        Some((a, b, chain.qparams?, chain))
    };
    let Some((a, b, q, chain)) = operands() else { return Ok(false) };
    let (sa, sb) = (a.qparams.scale, b.qparams.scale);
    let (op, factors) = match node.op {
        Op::Binary(Binary::Mul) => (OpCode::QMul, [(sa * sb) / q.scale, 0.0]),
        Op::Binary(Binary::Sub) => (OpCode::QAdd, [sa / q.scale, -(sb / q.scale)]),
        _ => (OpCode::QAdd, [sa / q.scale, sb / q.scale]),
    };
    let [lo, hi] = code_bounds(chain.bounds, q);
    let zero_points = [a.qparams.zero_point, b.qparams.zero_point];
    let attrs = QBinaryAttrs { zero_points, factors, out_zero_point: q.zero_point, lo, hi };
    let inputs = vec![selector.codes(a)?, selector.codes(b)?];
    push(selector, op, &attrs, inputs, &chain, node)?;
    Ok(true)
}

fn pooling(selector: &mut Selector<'_>, node: &Node, pool: &Pool) -> Result<bool, LowerError> {
    if matches!(pool.kind, PoolKind::Max) {
        return maximum(selector, node, pool);
    }
    let Some((codes, chain, q)) = unary_operands(selector, node) else { return Ok(false) };
    let Some(window) = plan_window(&pool.window).filter(|_| pool.layout == Layout::ChannelsLast) else {
        return Ok(false);
    };
    let padded = matches!(pool.kind, PoolKind::Average { count_include_pad: true });
    let attrs = pool_attrs(window, if padded { 2 } else { 1 }, codes.qparams, q, &chain);
    let input = selector.codes(codes)?;
    push(selector, OpCode::QPool, &attrs, vec![input], &chain, node)?;
    Ok(true)
}

/// A maximum of codes: rounding was moved above it, so it stays within one scale.
fn maximum(selector: &mut Selector<'_>, node: &Node, pool: &Pool) -> Result<bool, LowerError> {
    let Some(input) = node.input(0).filter(|x| selector.graph[*x].dtype.size() == 1) else {
        return Ok(false);
    };
    let Some(window) = plan_window(&pool.window).filter(|_| pool.layout == Layout::ChannelsLast) else {
        return Ok(false);
    };
    let source = selector.tensor(input)?;
    let q = selector.program.tensor(source).qparams.unwrap_or(QParams { scale: 1.0, zero_point: 0 });
    let output = selector.arena(node.outputs[0], Some(q))?;
    let chain = selector.uses.chain(node.outputs[0]);
    let attrs = pool_attrs(window, 0, q, q, &Chain { bounds: [f32::NEG_INFINITY, f32::INFINITY], ..chain });
    selector.program.push(OpCode::QPool, &attrs, vec![source], vec![output], &node.name);
    selector.bind(node.outputs[0], output);
    Ok(true)
}

/// A mean over every spatial axis is an average pool with the plane as window.
fn mean(selector: &mut Selector<'_>, node: &Node, axes: &[usize]) -> Result<bool, LowerError> {
    let Some((codes, chain, q)) = unary_operands(selector, node) else { return Ok(false) };
    let shape = selector.graph[codes.value].shape.clone();
    let rank = shape.len();
    let spatial = axes.iter().all(|a| (1..rank.saturating_sub(1)).contains(a));
    if !spatial || !(3..=4).contains(&rank) {
        return Ok(false);
    }
    let extent = |axis: usize| if axes.contains(&axis) { shape[axis] as u32 } else { 1 };
    let kernel = if rank == 4 { [extent(1), extent(2)] } else { [1, extent(1)] };
    let window = Window { kernel, stride: kernel, ..Window::UNIT };
    let attrs = pool_attrs(window, 1, codes.qparams, q, &chain);
    let pooled: Vec<usize> = (0..rank).map(|i| if axes.contains(&i) { 1 } else { shape[i] }).collect();
    let input = selector.codes(codes)?;
    // The caller's shape may lack the reduced axes; the bytes are the same.
    let output = selector.result(&chain)?;
    let name = node.name.clone();
    let written = selector.program.tensor(output).clone();
    let root = selector.program.add(super::ProgTensor { shape: plan_shape(&name, &pooled)?, ..written });
    selector.program.tensors[output.0].storage = super::Storage::Alias(root);
    selector.program.push(OpCode::QPool, &attrs, vec![input], vec![root], &name);
    Ok(true)
}

/// A sum, mean or extreme over any axes.
fn reduction(
    selector: &mut Selector<'_>,
    node: &Node,
    kind: ReduceKind,
    axes: &[usize],
) -> Result<bool, LowerError> {
    let function = match kind {
        ReduceKind::Sum => ReduceFn::Sum,
        ReduceKind::Mean => ReduceFn::Mean,
        ReduceKind::Max => ReduceFn::Max,
        ReduceKind::Min => ReduceFn::Min,
        _ => return Ok(false),
    };
    let Some((codes, chain, q)) = unary_operands(selector, node) else { return Ok(false) };
    let count: usize = axes.iter().map(|axis| selector.graph[codes.value].shape[*axis]).product();
    if count > ADDENDS_MAX {
        return Ok(false);
    }
    let [lo, hi] = code_bounds(chain.bounds, q);
    let attrs = ReduceAttrs {
        function: function.code(),
        axes: axes.iter().fold(0, |bits, axis| bits | 1 << axis),
        in_zero_point: codes.qparams.zero_point,
        out_zero_point: q.zero_point,
        ratio: codes.qparams.scale / q.scale,
        lo,
        hi,
    };
    let input = selector.codes(codes)?;
    push(selector, OpCode::Reduce, &attrs, vec![input], &chain, node)?;
    Ok(true)
}

/// Codes less their zero point that add up in i32 whatever they are: 2³¹ / 255.
const ADDENDS_MAX: usize = 8_421_504;

fn pool_attrs(window: Window, kind: u32, input: QParams, output: QParams, chain: &Chain) -> PoolAttrs {
    let [lo, hi] = code_bounds(chain.bounds, output);
    PoolAttrs {
        window,
        kind,
        in_zero_point: input.zero_point,
        out_zero_point: output.zero_point,
        ratio: input.scale / output.scale,
        lo,
        hi,
    }
}

/// A function of one quantized tensor: a clamp is a requantization, the rest a table.
fn function(selector: &mut Selector<'_>, node: &Node, unary: Unary) -> Result<bool, LowerError> {
    let Some((codes, chain, q)) = unary_operands(selector, node) else { return Ok(false) };
    let input = selector.codes(codes)?;
    let clamp = match unary {
        Unary::Relu => Some([0.0, f32::INFINITY]),
        Unary::Clip { min, max } => Some([min as f32, max as f32]),
        _ => None,
    };
    if let Some([min, max]) = clamp {
        let bounds = [chain.bounds[0].max(min), chain.bounds[1].min(max)];
        let [lo, hi] = code_bounds(bounds, q);
        let attrs = QuantizeAttrs {
            in_scale: codes.qparams.scale,
            in_zero_point: codes.qparams.zero_point,
            out_scale: q.scale,
            out_zero_point: q.zero_point,
            lo,
            hi,
        };
        push(selector, OpCode::Requantize, &attrs, vec![input], &chain, node)?;
        return Ok(true);
    }
    let entries = table::codes(codes.qparams, q, chain.bounds, |x| unary.apply(x));
    let shape = plan_shape(&node.name, &[256])?;
    let constant = selector.program.constant(&format!("{}.table", node.name), shape, &entries);
    let step = push(selector, OpCode::Lookup, &NoAttrs {}, vec![input, constant], &chain, node)?;
    let slopes = table::derivatives(codes.qparams, q, chain.bounds, |x| unary.evaluate(x));
    selector.program.derivatives.push((step, slopes));
    Ok(true)
}

fn softmax(selector: &mut Selector<'_>, node: &Node, axis: usize) -> Result<bool, LowerError> {
    let Some((codes, chain, q)) = unary_operands(selector, node) else { return Ok(false) };
    let innermost = axis + 1 == selector.graph[codes.value].shape.len();
    let unclamped = chain.bounds == [f32::NEG_INFINITY, f32::INFINITY];
    if !innermost || !unclamped {
        return Ok(false);
    }
    let shape = plan_shape(&node.name, &[256])?;
    let name = format!("{}.table", node.name);
    let constant = selector.program.constant(&name, shape, &exp_table(codes.qparams.scale));
    let attrs = QSoftmaxAttrs { out_zero_point: q.zero_point, inv_scale: 1.0 / q.scale };
    let input = selector.codes(codes)?;
    push(selector, OpCode::QSoftmax, &attrs, vec![input, constant], &chain, node)?;
    Ok(true)
}

/// A concatenation of codes: each part is brought to the result's scale, then placed.
fn concat(selector: &mut Selector<'_>, node: &Node, axis: usize) -> Result<bool, LowerError> {
    let parts: Option<Vec<Codes>> =
        node.inputs.iter().map(|v| v.and_then(|v| selector.uses.codes(v))).collect();
    let chain = selector.uses.chain(node.outputs[0]);
    let (Some(parts), Some(q)) = (parts, chain.qparams) else { return Ok(false) };
    let [lo, hi] = code_bounds(chain.bounds, q);
    let mut tensors = Vec::with_capacity(parts.len());
    for part in parts {
        let input = selector.codes(part)?;
        let same = part.qparams == q && chain.bounds == [f32::NEG_INFINITY, f32::INFINITY];
        if same {
            tensors.push(input);
            continue;
        }
        let shape = selector.graph[part.value].shape.clone();
        let scaled = selector.temporary(&node.name, ingraft_tensor::DType::I8, &shape, Some(q))?;
        let attrs = QuantizeAttrs {
            in_scale: part.qparams.scale,
            in_zero_point: part.qparams.zero_point,
            out_scale: q.scale,
            out_zero_point: q.zero_point,
            lo,
            hi,
        };
        selector.program.push(OpCode::Requantize, &attrs, vec![input], vec![scaled], &node.name);
        tensors.push(scaled);
    }
    let output = selector.result(&chain)?;
    super::movement::concat_into(selector, &tensors, output, axis, &node.name);
    Ok(true)
}

/// The empty record of an operator without attributes.
#[derive(
    Clone, Copy, Debug, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout,
)]
#[repr(C)]
pub(super) struct NoAttrs {}

impl Attrs for NoAttrs {}
