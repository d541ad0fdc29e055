//! Operators on data that the file did not quantize: real numbers, integers and truth values.
//!
//! Kernels compute in f32, i32, i64 and bool. Narrower integers are widened to i32 before an operator and
//! narrowed behind it.

mod affine;
mod elementwise;
mod index;
mod matrix;
mod norm;
mod recurrent;
mod reduce;
mod spatial;

pub(super) use matrix::quantized_product;

use ingraft_kernel::OpCode;
use ingraft_kernel::attrs::{Attrs, BinaryAttrs};
use ingraft_kernel::elementwise::BinaryFn;
use ingraft_tensor::DType;
use ingraft_tensor::bytes::Element;

use super::movement::block;
use super::select::{Selector, plan_shape};
use super::{LowerError, TensorRef};
use crate::graph::{Node, NodeId, ValueId};
use crate::op::Op;

/// Lowers `id` as an operator on reals, integers or indices.
pub(super) fn lower(selector: &mut Selector<'_>, id: NodeId) -> Result<(), LowerError> {
    let node = &selector.graph[id];
    report(selector, node);
    match &node.op {
        Op::Unary(unary) => elementwise::unary(selector, node, *unary),
        Op::Binary(binary) => elementwise::binary(selector, node, *binary),
        Op::Where => elementwise::choice(selector, node),
        Op::Cast { to } => elementwise::cast(selector, node, *to),
        Op::MatMul => matrix::product(selector, node),
        Op::MatMulInteger => matrix::integer_product(selector, node),
        Op::Gemm { .. } => matrix::gemm(selector, node),
        Op::ConvInteger(_) => matrix::integer_convolution(selector, node),
        Op::Pool(pool) => spatial::pool(selector, node, pool),
        Op::Resize(resize) => spatial::resize(selector, node, resize),
        Op::Pad(pad) => spatial::pad(selector, node, pad),
        Op::Reduce { kind, axes, .. } => reduce::reduce(selector, node, *kind, axes),
        Op::ArgMax { axis, last, .. } => reduce::argmax(selector, node, *axis, *last),
        Op::Softmax { axis, log } => reduce::softmax(selector, node, *axis, *log),
        Op::CumSum { axis, exclusive, reverse } => {
            reduce::running_sum(selector, node, *axis, [*exclusive, *reverse])
        }
        Op::BatchNorm { axis, epsilon } => norm::batch(selector, node, *axis, *epsilon),
        Op::LayerNorm { axis, epsilon } => norm::layer(selector, node, *axis, *epsilon),
        Op::RmsNorm { axis, epsilon } => norm::root_mean_square(selector, node, *axis, *epsilon),
        Op::GroupNorm { groups, epsilon, layout } => norm::group(selector, node, *groups, *epsilon, *layout),
        Op::Gather { axis } => index::gather(selector, node, *axis),
        Op::GatherElements { axis } => index::gather_elements(selector, node, *axis),
        Op::Trilu { upper, diagonal } => index::triangle(selector, node, *upper, *diagonal),
        Op::Lstm(lstm) => recurrent::lstm(selector, node, lstm),
        Op::Gru(gru) => recurrent::gru(selector, node, gru),
        Op::QuantizeLinear { axis, to } => affine::quantize(selector, node, *axis, *to),
        Op::DequantizeLinear { axis } => affine::dequantize(selector, node, *axis),
        Op::DynamicQuantizeLinear => affine::dynamic(selector, node),
        _ => Err(selector.unsupported(node, "no plan operator computes it")),
    }
}

/// Says of a node that computes on reals why it does.
fn report(selector: &mut Selector<'_>, node: &Node) {
    let graph = selector.graph;
    let arithmetic = matches!(
        node.op,
        Op::Unary(_)
            | Op::Binary(_)
            | Op::MatMul
            | Op::Gemm { .. }
            | Op::Pool(_)
            | Op::Resize(_)
            | Op::Reduce { .. }
            | Op::Softmax { .. }
            | Op::CumSum { .. }
            | Op::BatchNorm { .. }
            | Op::LayerNorm { .. }
            | Op::RmsNorm { .. }
            | Op::GroupNorm { .. }
            | Op::Lstm(_)
            | Op::Gru(_)
    );
    let float = |v: &ValueId| matches!(graph[*v].dtype, DType::F32 | DType::F16);
    if !arithmetic || !node.inputs.iter().flatten().any(float) {
        return;
    }
    let codes = |v: &ValueId| graph.konst(*v).is_some() || selector.uses.codes(*v).is_some();
    let rounded = node.outputs.iter().all(|v| selector.uses.chain(*v).qparams.is_some());
    let reason = match (node.inputs.iter().flatten().all(codes), rounded) {
        _ if !selector.quantized => "the file holds it in float",
        (false, _) => "its input is not quantized in the file",
        (true, false) => "its result is not quantized in the file",
        (true, true) => "plans have no integer form of it",
    };
    selector.stays_float(node, reason);
}

impl Selector<'_> {
    /// Operand `index` as it is stored.
    fn operand(&mut self, node: &Node, index: usize) -> Result<TensorRef, LowerError> {
        let value = self.operand_value(node, index)?;
        self.tensor(value)
    }

    pub(super) fn operand_value(&self, node: &Node, index: usize) -> Result<ValueId, LowerError> {
        node.input(index).ok_or_else(|| self.unsupported(node, "lacks an operand"))
    }

    /// Operand `index`, which must hold reals.
    fn real_operand(&mut self, node: &Node, index: usize) -> Result<TensorRef, LowerError> {
        let tensor = self.operand(node, index)?;
        match self.program.tensor(tensor).dtype {
            DType::F32 => Ok(tensor),
            _ => Err(self.unsupported(node, "is not computed on integers")),
        }
    }

    /// `value` as stored values of type `dtype`; a constant is converted here and now.
    pub(super) fn converted(&mut self, value: ValueId, dtype: DType) -> Result<TensorRef, LowerError> {
        let source = &self.graph[value];
        let shape = plan_shape(&source.name, &source.shape)?;
        match (&source.konst, dtype) {
            (_, dtype) if dtype == source.dtype => self.tensor(value),
            (Some(konst), DType::F32) => Ok(self.program.constant(&source.name, shape, &konst.to_f32())),
            (Some(konst), DType::I64) => Ok(self.program.constant(&source.name, shape, &konst.to_i64())),
            (Some(konst), DType::I32) => {
                let values: Vec<i32> = konst.to_i64().iter().map(|v| *v as i32).collect();
                Ok(self.program.constant(&source.name, shape, &values))
            }
            _ => {
                let tensor = self.tensor(value)?;
                Ok(self.convert(tensor, source.dtype, dtype))
            }
        }
    }

    /// Has `compute` fill a tensor of type `dtype` with the values of `value`, which is then stored as its own type.
    fn compute_as(
        &mut self,
        value: ValueId,
        dtype: DType,
        compute: impl FnOnce(&mut Self, TensorRef) -> Result<(), LowerError>,
    ) -> Result<(), LowerError> {
        let result = &self.graph[value];
        let computed = self.temporary(&result.name, dtype, &result.shape, None)?;
        compute(self, computed)?;
        // What is stored as f32 needs no rounding to half precision on the way.
        let stored =
            if result.dtype == DType::F16 { computed } else { self.convert(computed, dtype, result.dtype) };
        self.bind(value, stored);
        Ok(())
    }

    /// Declares that `tensor`, which steps of this node made, holds `value`, and names it so.
    fn finish(&mut self, value: ValueId, tensor: TensorRef) {
        self.program.tensors[tensor.0].name.clone_from(&self.graph[value].name);
        self.bind(value, tensor);
    }

    /// One step with one new tensor for the first result of `node`.
    fn push_result<A: Attrs>(
        &mut self,
        node: &Node,
        op: OpCode,
        attrs: &A,
        inputs: Vec<TensorRef>,
    ) -> Result<TensorRef, LowerError> {
        let output = self.arena(node.outputs[0], None)?;
        self.program.push(op, attrs, inputs, vec![output], &node.name);
        self.bind(node.outputs[0], output);
        Ok(output)
    }

    /// One step with one new tensor that is no value of the graph.
    fn push_temporary<A: Attrs>(
        &mut self,
        node: &Node,
        (op, attrs): (OpCode, &A),
        inputs: Vec<TensorRef>,
        dtype: DType,
        shape: &[usize],
    ) -> Result<TensorRef, LowerError> {
        let output = self.temporary(&node.name, dtype, shape, None)?;
        self.program.push(op, attrs, inputs, vec![output], &node.name);
        Ok(output)
    }

    /// A constant that is no value of the graph.
    fn constant_of<T: Element>(
        &mut self,
        node: &Node,
        shape: &[usize],
        values: &[T],
    ) -> Result<TensorRef, LowerError> {
        self.named_constant(&node.name, shape, values)
    }

    /// `tensor` under another shape with as many elements.
    fn reshaped(&mut self, tensor: TensorRef, shape: &[usize]) -> Result<TensorRef, LowerError> {
        if self.extents(tensor) == shape {
            return Ok(tensor);
        }
        let name = self.program.tensor(tensor).name.clone();
        self.alias(tensor, &name, shape)
    }

    /// A copy of `tensor` whose dimension `i` is dimension `perm[i]` of it.
    fn transposed(
        &mut self,
        node: &Node,
        tensor: TensorRef,
        perm: &[usize],
    ) -> Result<TensorRef, LowerError> {
        let source = self.program.tensor(tensor).clone();
        let extents = self.extents(tensor);
        let shape: Vec<usize> = perm.iter().map(|i| extents[*i]).collect();
        // Dimensions of one element may go anywhere without anything moving.
        let moving = perm.iter().filter(|i| extents[**i] != 1);
        if moving.is_sorted() {
            return self.reshaped(tensor, &shape);
        }
        let result = self.temporary(&source.name, source.dtype, &shape, source.qparams)?;
        let strides = source.shape.strides();
        let in_strides: Vec<i32> = perm.iter().map(|i| strides[*i] as i32).collect();
        let out = self.program.tensor(result).shape;
        let attrs = block(out.dims(), &in_strides, out, 0, 0);
        self.program.push(OpCode::Copy, &attrs, vec![tensor], vec![result], &node.name);
        Ok(result)
    }

    /// `function` of two tensors of type `dtype` into a new one of the same type.
    fn combined(
        &mut self,
        node: &Node,
        function: BinaryFn,
        [lhs, rhs]: [TensorRef; 2],
        shape: &[usize],
    ) -> Result<TensorRef, LowerError> {
        let dtype = self.program.tensor(lhs).dtype;
        let attrs = arithmetic(function.code());
        self.push_temporary(node, (OpCode::Binary, &attrs), vec![lhs, rhs], dtype, shape)
    }

    fn extents(&self, tensor: TensorRef) -> Vec<usize> {
        self.program.tensor(tensor).shape.dims().iter().map(|d| *d as usize).collect()
    }
}

/// The type in which values of type `dtype` are computed on.
fn wide(dtype: DType) -> DType {
    match dtype {
        DType::F16 => DType::F32,
        DType::I8 | DType::U8 | DType::I16 => DType::I32,
        dtype => dtype,
    }
}

/// A function of two operands without a fused activation.
fn arithmetic(function: u32) -> BinaryAttrs {
    BinaryAttrs { function, lo: f32::NEG_INFINITY, hi: f32::INFINITY }
}
