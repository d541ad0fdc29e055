//! Covering the graph with plan operators.

use std::collections::{HashMap, HashSet};

use ingraft_kernel::OpCode;
use ingraft_kernel::attrs::QuantizeAttrs;
use ingraft_tensor::bytes::Element;
use ingraft_tensor::{DType, QParams, Shape};

use super::dynamic::{self, Dynamic};
use super::pattern::{Chain, Codes, Patterns, code_bounds, stored_codes};
use super::{LowerError, ProgTensor, Program, Storage, TensorRef, boundary, float, linear, movement, qops};
use crate::graph::{Graph, Node, NodeId, ValueId};
use crate::op::Op;
use crate::quantize::{Quantization, per_tensor};

/// Lowers a channels-last graph whose quantization has settled next to arithmetic.
///
/// # Errors
/// [`LowerError`] naming the first node no plan operator computes.
pub fn select(graph: &Graph) -> Result<Program, LowerError> {
    let mut selector = Selector::new(graph);
    for &input in &graph.inputs {
        let tensor = selector.model_input(input)?;
        selector.program.inputs.push((graph[input].name.clone(), tensor));
    }
    for id in graph.node_ids() {
        if !selector.covered.contains(&id) {
            selector.node(id)?;
        }
    }
    for &output in &graph.outputs {
        let tensor = selector.model_output(output)?;
        selector.program.outputs.push((graph[output].name.clone(), tensor));
    }
    Ok(selector.program.compact())
}

/// The state of one selection.
pub(super) struct Selector<'g> {
    pub(super) uses: Patterns<'g>,
    pub(super) graph: &'g Graph,
    pub(super) program: Program,
    /// Whether the file quantizes any part of the model.
    pub(super) quantized: bool,
    covered: HashSet<NodeId>,
    /// Layers on codes quantized at run time, by the node of their integer product.
    dynamic: HashMap<NodeId, Dynamic>,
    tensors: HashMap<ValueId, TensorRef>,
}

impl<'g> Selector<'g> {
    fn new(graph: &'g Graph) -> Self {
        let quantizes = |node: &Node| {
            matches!(
                node.op,
                Op::QuantizeLinear { .. } | Op::DequantizeLinear { .. } | Op::DynamicQuantizeLinear
            )
        };
        let uses = Patterns::new(graph);
        let found = graph.node_ids().filter_map(|id| Some((id, dynamic::find(&uses, id)?)));
        let dynamic: HashMap<NodeId, Dynamic> = found.collect();
        Self {
            uses,
            graph,
            program: Program::default(),
            quantized: graph.nodes.iter().any(quantizes),
            covered: dynamic.values().flat_map(Dynamic::nodes).copied().collect(),
            dynamic,
            tensors: HashMap::new(),
        }
    }

    fn node(&mut self, id: NodeId) -> Result<(), LowerError> {
        let graph = self.graph;
        let node = &graph[id];
        if let Some(layer) = self.dynamic.remove(&id) {
            return dynamic::lower(self, id, &layer);
        }
        match &node.op {
            // Dequantization happens where reals are needed, if anywhere.
            Op::DequantizeLinear { .. } if self.is_codes(node) => Ok(()),
            Op::QuantizeLinear { to, .. } if self.quantize(node, *to)? => Ok(()),
            op if linear::is_linear(&self.uses, node) || matches!(op, Op::Conv(_)) => linear::lower(self, id),
            _ if qops::lower(self, id)? => Ok(()),
            _ if movement::lower(self, node)? => Ok(()),
            _ => float::lower(self, id),
        }
    }

    /// Marks nodes as part of an operator already lowered.
    pub(super) fn cover(&mut self, nodes: &[NodeId]) {
        self.covered.extend(nodes);
    }

    /// Declares that `tensor` holds `value`.
    pub(super) fn bind(&mut self, value: ValueId, tensor: TensorRef) {
        self.tensors.insert(value, tensor);
    }

    /// The tensor holding `value`, made from its constant or by dequantizing its codes if need be.
    pub(super) fn tensor(&mut self, value: ValueId) -> Result<TensorRef, LowerError> {
        if let Some(tensor) = self.tensors.get(&value) {
            return Ok(*tensor);
        }
        let tensor = if self.graph.konst(value).is_some() {
            self.constant(value)?
        } else if let Some(reals) = self.constant_f32(value) {
            self.named_constant(&self.graph[value].name, &self.graph[value].shape, &reals)?
        } else if let Some(codes) = self.uses.codes(value) {
            self.dequantize(value, codes)?
        } else {
            return Err(self.unsupported_value(value));
        };
        self.bind(value, tensor);
        Ok(tensor)
    }

    /// A new arena tensor for `value`, in the type its values are stored in.
    pub(super) fn arena(
        &mut self,
        value: ValueId,
        qparams: Option<QParams>,
    ) -> Result<TensorRef, LowerError> {
        let value = &self.graph[value];
        self.temporary(&value.name, boundary::stored(value.dtype), &value.shape, qparams)
    }

    /// A new arena tensor that is no value of the graph.
    pub(super) fn temporary(
        &mut self,
        name: &str,
        dtype: DType,
        shape: &[usize],
        qparams: Option<QParams>,
    ) -> Result<TensorRef, LowerError> {
        let shape = plan_shape(name, shape)?;
        let storage = Storage::Arena;
        Ok(self.program.add(ProgTensor { name: name.to_owned(), dtype, shape, qparams, storage }))
    }

    /// The bytes of `tensor` under another shape.
    pub(super) fn alias(
        &mut self,
        tensor: TensorRef,
        name: &str,
        shape: &[usize],
    ) -> Result<TensorRef, LowerError> {
        let shape = plan_shape(name, shape)?;
        let source = self.program.tensor(tensor).clone();
        let storage = Storage::Alias(tensor);
        Ok(self.program.add(ProgTensor { name: name.to_owned(), shape, storage, ..source }))
    }

    /// The tensor of the codes of `value`, carrying their parameters.
    pub(super) fn codes(&mut self, codes: Codes) -> Result<TensorRef, LowerError> {
        let tensor = self.tensor(codes.value)?;
        self.program.tensors[tensor.0].qparams.get_or_insert(codes.qparams);
        Ok(tensor)
    }

    /// The bytes of the constant behind `value`, as reals: float data, or dequantized codes.
    pub(super) fn constant_f32(&self, value: ValueId) -> Option<Vec<f32>> {
        if let Some(konst) = self.graph.konst(value) {
            return Some(konst.to_f32());
        }
        let node = &self.graph[self.uses.producer(value)?];
        let Op::DequantizeLinear { axis } = node.op else { return None };
        let konst = self.graph.konst_input(node, 0)?;
        let quantization = Quantization::of(self.graph, node, axis)?;
        let inner: usize = konst.shape().get(axis + 1..).unwrap_or(&[]).iter().product();
        let extent = konst.shape().get(axis).copied().unwrap_or(1);
        let real = |(i, code): (usize, &i64)| {
            let channel = i / inner.max(1) % extent.max(1);
            (code - quantization.zero_point(channel)) as f32 * quantization.scale(channel)
        };
        Some(konst.to_i64().iter().enumerate().map(real).collect())
    }

    /// The result of a fused chain: an int8 tensor when it ends in a rounding, else f32.
    pub(super) fn result(&mut self, chain: &Chain) -> Result<TensorRef, LowerError> {
        self.cover(&chain.nodes);
        let tensor = self.arena(chain.end, chain.qparams)?;
        self.bind(chain.end, tensor);
        Ok(tensor)
    }

    /// Reports a node of the file that computes on floats.
    pub(super) fn stays_float(&mut self, node: &Node, reason: &str) {
        let line = [node.name.clone(), node.op.name().to_owned(), reason.to_owned()];
        self.program.notes.float_nodes.push(line);
    }

    pub(super) fn unsupported(&self, node: &Node, reason: &'static str) -> LowerError {
        LowerError::Unsupported { node: node.name.clone(), op: node.op.name(), reason }
    }

    fn unsupported_value(&self, value: ValueId) -> LowerError {
        match self.uses.producer(value) {
            Some(id) => {
                self.unsupported(&self.graph[id], "its result is needed in a form no plan operator gives")
            }
            None => LowerError::Unsupported {
                node: self.graph[value].name.clone(),
                op: "value",
                reason: "nothing produces it",
            },
        }
    }

    fn constant(&mut self, value: ValueId) -> Result<TensorRef, LowerError> {
        let value = &self.graph[value];
        let shape = plan_shape(&value.name, &value.shape)?;
        let bytes = value.konst.as_ref().map_or(&[][..], |k| k.bytes());
        let (dtype, data) = match value.dtype {
            DType::U8 => (DType::I8, stored_codes(bytes, DType::U8).iter().map(|c| *c as u8).collect()),
            DType::F16 => {
                let values = value.konst.as_ref().map_or(Vec::new(), |k| k.to_f32());
                (DType::F32, ingraft_tensor::bytes::of(&values).to_vec())
            }
            dtype => (dtype, bytes.to_vec()),
        };
        let storage = Storage::Constant(data);
        Ok(self.program.add(ProgTensor { name: value.name.clone(), dtype, shape, qparams: None, storage }))
    }

    /// A constant that is no value of the graph.
    pub(super) fn named_constant<T: Element>(
        &mut self,
        name: &str,
        shape: &[usize],
        values: &[T],
    ) -> Result<TensorRef, LowerError> {
        let shape = plan_shape(name, shape)?;
        Ok(self.program.constant(name, shape, values))
    }

    fn dequantize(&mut self, value: ValueId, codes: Codes) -> Result<TensorRef, LowerError> {
        let input = self.codes(codes)?;
        let output = self.arena(value, None)?;
        let attrs = QuantizeAttrs {
            in_scale: codes.qparams.scale,
            in_zero_point: codes.qparams.zero_point,
            out_scale: 1.0,
            out_zero_point: 0,
            lo: f32::NEG_INFINITY,
            hi: f32::INFINITY,
        };
        let name = self.graph[value].name.clone();
        self.program.push(OpCode::Dequantize, &attrs, vec![input], vec![output], &name);
        Ok(output)
    }

    /// Whether a `DequantizeLinear` is of a constant, or of codes with one scale.
    fn is_codes(&self, node: &Node) -> bool {
        let constant =
            self.graph.konst_input(node, 0).is_some() && Quantization::of(self.graph, node, 0).is_some();
        constant || self.uses.codes(node.outputs[0]).is_some()
    }

    /// Rounds reals or codes to int8 with one constant scale; says whether that is what `node` asks for.
    fn quantize(&mut self, node: &Node, to: DType) -> Result<bool, LowerError> {
        let Some(q) = per_tensor(self.graph, node, to) else { return Ok(false) };
        let Some(source) = node.input(0) else { return Err(self.unsupported(node, "has no input")) };
        let codes = self.uses.codes(source);
        let [lo, hi] = code_bounds([f32::NEG_INFINITY, f32::INFINITY], q);
        let mut attrs = QuantizeAttrs {
            in_scale: 1.0,
            in_zero_point: 0,
            out_scale: q.scale,
            out_zero_point: q.zero_point,
            lo,
            hi,
        };
        let output = node.outputs[0];
        if let Some(codes) = codes {
            let input = self.codes(codes)?;
            if codes.qparams == q {
                let shape = self.graph[output].shape.clone();
                let same = self.alias(input, &self.graph[output].name.clone(), &shape)?;
                self.bind(output, same);
                return Ok(true);
            }
            (attrs.in_scale, attrs.in_zero_point) = (codes.qparams.scale, codes.qparams.zero_point);
            let tensor = self.arena(output, Some(q))?;
            self.program.push(OpCode::Requantize, &attrs, vec![input], vec![tensor], &node.name);
            self.bind(output, tensor);
            return Ok(true);
        }
        let input = self.converted(source, DType::F32)?;
        let tensor = self.arena(output, Some(q))?;
        self.program.push(OpCode::Quantize, &attrs, vec![input], vec![tensor], &node.name);
        self.bind(output, tensor);
        Ok(true)
    }
}

/// `shape` as a plan holds it.
pub(super) fn plan_shape(name: &str, shape: &[usize]) -> Result<Shape, LowerError> {
    let too_large = ingraft_tensor::ShapeError::TooLarge;
    let dims: Option<Vec<u32>> = shape.iter().map(|d| u32::try_from(*d).ok()).collect();
    let made = dims.ok_or(too_large).and_then(|d| Shape::new(&d));
    made.map_err(|error| LowerError::Shape { value: name.to_owned(), error })
}
