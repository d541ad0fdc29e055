//! Reading one node: its operands, its attributes, and what it becomes in the graph.

mod attribute;

use std::collections::{HashMap, HashSet};

use ingraft_tensor::DType;

use super::proto::{AttributeProto, AttributeType, NodeProto};
use crate::error::Fault;
use crate::graph::{Builder, Tensor, ValueId};
use crate::op::{Op, ValueType};

/// One node of the file while it is being turned into nodes of the graph.
///
/// Keeps account of what was read, so that an attribute, operand or result
/// that the operator's reader does not know is refused, never skipped.
pub(crate) struct NodeReader<'a> {
    proto: &'a NodeProto,
    opset: i64,
    builder: &'a mut Builder,
    inputs: Vec<Option<ValueId>>,
    inputs_read: usize,
    attributes: HashMap<&'a str, &'a AttributeProto>,
    attributes_read: HashSet<&'a str>,
    results: Vec<Option<ValueId>>,
    first_new: u32,
}

impl<'a> NodeReader<'a> {
    pub(super) fn new(
        proto: &'a NodeProto,
        opset: i64,
        builder: &'a mut Builder,
        inputs: Vec<Option<ValueId>>,
    ) -> Result<Self, Fault> {
        let mut attributes = HashMap::new();
        for attribute in &proto.attribute {
            let subgraph = [AttributeType::Graph as i32, AttributeType::Graphs as i32];
            if subgraph.contains(&attribute.r#type) {
                return Err(Fault::Subgraph);
            }
            attributes.insert(attribute.name.as_str(), attribute);
        }
        let first_new = builder.value_count();
        let results = vec![None; proto.output.len()];
        let attributes_read = HashSet::new();
        Ok(Self {
            proto,
            opset,
            builder,
            inputs,
            inputs_read: 0,
            attributes,
            attributes_read,
            results,
            first_new,
        })
    }

    /// The values bound to the node's results, in order; `None` for a result the operator does not have.
    pub(super) fn into_results(self) -> Vec<Option<ValueId>> {
        self.results
    }

    /// The operator.
    pub(crate) fn op_type(&self) -> &'a str {
        &self.proto.op_type
    }

    /// Version of the default operator set.
    pub(crate) fn opset(&self) -> i64 {
        self.opset
    }

    /// Number of operands, omitted ones included.
    pub(crate) fn input_count(&self) -> usize {
        self.inputs.len()
    }

    /// Number of results, unwanted ones included.
    pub(crate) fn output_count(&self) -> usize {
        self.results.len()
    }

    /// Operand `index`, where present.
    pub(crate) fn optional(&mut self, index: usize) -> Option<ValueId> {
        self.inputs_read = self.inputs_read.max(index + 1);
        self.inputs.get(index).copied().flatten()
    }

    /// Operand `index`.
    pub(crate) fn input(&mut self, index: usize) -> Result<ValueId, Fault> {
        self.optional(index).ok_or(Fault::MissingInput { index })
    }

    /// The type of a value.
    pub(crate) fn value_type(&self, id: ValueId) -> ValueType {
        self.builder.value_type(id)
    }

    /// The type of operand `index`.
    pub(crate) fn input_type(&mut self, index: usize) -> Result<ValueType, Fault> {
        let id = self.input(index)?;
        Ok(self.value_type(id))
    }

    /// The data of operand `index`, where it already is a constant.
    pub(crate) fn known(&mut self, index: usize) -> Option<Tensor> {
        let id = self.optional(index)?;
        self.builder.konst(id).cloned()
    }

    /// The data of operand `index`, where it is present and a constant or can be made one.
    pub(crate) fn optional_constant(&mut self, index: usize) -> Option<Tensor> {
        let id = self.optional(index)?;
        self.builder.freeze(id)
    }

    /// The data of operand `index`, which must be known at compile time.
    pub(crate) fn constant(&mut self, index: usize) -> Result<Tensor, Fault> {
        let id = self.input(index)?;
        self.builder.freeze(id).ok_or(Fault::NotConstant { index })
    }

    /// Makes these operands constants where they are graph inputs with a known value: weights, scales, zero points.
    pub(crate) fn freeze(&mut self, indices: &[usize]) {
        for &index in indices {
            self.optional_constant(index);
        }
    }

    /// Operand `index` as integers known at compile time.
    pub(crate) fn ints_operand(&mut self, index: usize) -> Result<Vec<i64>, Fault> {
        let tensor = self.constant(index)?;
        match tensor.dtype() {
            DType::F32 | DType::F16 => Err(Fault::DType { index, dtype: tensor.dtype() }),
            _ => Ok(tensor.to_i64()),
        }
    }

    /// The list of integers in attribute `name`, where older opsets have it, or in operand `index`.
    pub(crate) fn ints_attribute_or(&mut self, name: &'static str, index: usize) -> Result<Vec<i64>, Fault> {
        match self.ints(name)? {
            Some(values) => Ok(values),
            None => self.ints_operand(index),
        }
    }

    /// Whether somebody might use result `index`.
    pub(crate) fn has_output(&self, index: usize) -> bool {
        self.proto.output.get(index).is_some_and(|name| !name.is_empty())
    }

    /// Operand `index` as extents known at compile time.
    pub(crate) fn extents_operand(&mut self, index: usize) -> Result<Vec<usize>, Fault> {
        let extents =
            self.ints_operand(index)?.iter().map(|&v| usize::try_from(v).ok()).collect::<Option<_>>();
        extents.ok_or(Fault::Operand { index, reason: "holds a negative extent" })
    }

    /// Operand `index`, where present, as one number known at compile time.
    pub(crate) fn scalar_operand(&mut self, index: usize) -> Result<Option<f64>, Fault> {
        if self.optional(index).is_none() {
            return Ok(None);
        }
        let scalar = self.constant(index)?.scalar_f64();
        scalar.map(Some).ok_or(Fault::Operand { index, reason: "must hold one number" })
    }

    /// Operand `index` as a truth value known at compile time.
    pub(crate) fn flag_operand(&mut self, index: usize) -> Result<bool, Fault> {
        Ok(self.scalar_operand(index)?.is_some_and(|v| v != 0.0))
    }

    /// The list of axes in attribute `axes` or operand `index`, for a tensor of `rank`; `None` where there is neither.
    pub(crate) fn axes(&mut self, index: usize, rank: usize) -> Result<Option<Vec<usize>>, Fault> {
        if let Some(axes) = self.axes_attribute("axes", rank)? {
            return Ok(Some(axes));
        }
        if self.optional(index).is_none() {
            return Ok(None);
        }
        let axes = normalize_axes(&self.ints_operand(index)?, rank);
        axes.map(Some).ok_or(Fault::Operand { index, reason: "holds an axis outside the input or twice" })
    }

    /// The length of the list that [`Self::axes`] reads.
    pub(crate) fn axes_count(&mut self, index: usize) -> Result<usize, Fault> {
        match self.ints("axes")? {
            Some(axes) => Ok(axes.len()),
            None => Ok(self.ints_operand(index)?.len()),
        }
    }

    /// Attribute `name` as axes of a tensor of `rank`.
    pub(crate) fn axes_attribute(
        &mut self,
        name: &'static str,
        rank: usize,
    ) -> Result<Option<Vec<usize>>, Fault> {
        let Some(axes) = self.ints(name)? else { return Ok(None) };
        let refused =
            Fault::Attribute { attribute: name, reason: "holds an axis outside the input or twice" };
        normalize_axes(&axes, rank).map(Some).ok_or(refused)
    }

    /// Attribute `name` as an axis of a tensor of `rank`.
    pub(crate) fn axis(&mut self, name: &'static str, default: i64, rank: usize) -> Result<usize, Fault> {
        let axis = self.int(name, default)?;
        let axes = normalize_axes(&[axis], rank).and_then(|axes| axes.first().copied());
        axes.ok_or(Fault::Attribute { attribute: name, reason: "is outside the input" })
    }

    /// As [`Self::axis`], where the attribute has no default.
    pub(crate) fn required_axis(&mut self, name: &'static str, rank: usize) -> Result<usize, Fault> {
        let axis = self.required_int(name)?;
        self.axis(name, axis, rank)
    }

    /// Accepts attributes that have no effect here, whatever they say.
    pub(crate) fn ignore(&mut self, names: &[&'static str]) {
        self.attributes_read.extend(names);
    }

    /// Takes bytes for a constant about to be made from the import's budget.
    pub(crate) fn reserve(&mut self, shape: &[usize], dtype: DType) -> Result<(), Fault> {
        self.builder.reserve(shape, dtype)
    }

    /// Adds a node; gives all its results.
    pub(crate) fn emit_all(&mut self, op: Op, inputs: &[Option<ValueId>]) -> Result<Vec<ValueId>, Fault> {
        self.builder.push(name_of(self.proto), op, inputs)
    }

    /// Adds a node; gives its first result.
    pub(crate) fn emit(&mut self, op: Op, inputs: &[Option<ValueId>]) -> Result<ValueId, Fault> {
        self.emit_all(op, inputs)?.first().copied().ok_or(Fault::Arity { found: 0 })
    }

    /// Adds a constant.
    pub(crate) fn emit_constant(&mut self, tensor: Tensor) -> ValueId {
        let name = format!("{}#{}", name_of(self.proto), self.builder.value_count());
        self.builder.constant(&name, tensor)
    }

    /// Adds a scalar constant of the element type of `like`.
    pub(crate) fn scalar_like(&mut self, like: ValueId, value: f64) -> Result<ValueId, Fault> {
        let dtype = self.value_type(like).dtype;
        let single = Tensor::scalar_f32(value as f32);
        let cast = self.emit_constant(single);
        self.emit(Op::Cast { to: dtype }, &[Some(cast)])
    }

    /// Makes `value` result `index` of the node.
    pub(crate) fn bind(&mut self, index: usize, value: ValueId) -> Result<(), Fault> {
        let Some(name) = self.proto.output.get(index).filter(|name| !name.is_empty()) else { return Ok(()) };
        // A value that was there before this node keeps its own name.
        let value = if value.0 < self.first_new { self.emit(Op::Identity, &[Some(value)])? } else { value };
        self.builder.rename(value, name);
        if let Some(slot) = self.results.get_mut(index) {
            *slot = Some(value);
        }
        Ok(())
    }

    /// Adds the node's last operator, whose results are the node's.
    pub(crate) fn finish(&mut self, op: Op, inputs: &[Option<ValueId>]) -> Result<(), Fault> {
        let results = self.emit_all(op, inputs)?;
        for (index, result) in results.into_iter().enumerate() {
            self.bind(index, result)?;
        }
        self.complete()
    }

    /// Makes `value` the node's only result.
    pub(crate) fn finish_with(&mut self, value: ValueId) -> Result<(), Fault> {
        self.bind(0, value)?;
        self.complete()
    }

    /// Makes a constant the node's only result.
    pub(crate) fn finish_constant(&mut self, tensor: Tensor) -> Result<(), Fault> {
        let id = self.emit_constant(tensor);
        self.finish_with(id)
    }

    /// Checks that everything the node says has been read.
    pub(crate) fn complete(&mut self) -> Result<(), Fault> {
        if let Some(unread) =
            self.proto.attribute.iter().find(|a| !self.attributes_read.contains(a.name.as_str()))
        {
            return Err(Fault::UnknownAttribute { attribute: unread.name.clone() });
        }
        if self.inputs.iter().skip(self.inputs_read).any(Option::is_some) {
            return Err(Fault::Arity { found: self.inputs.len() });
        }
        Ok(())
    }
}

/// The name of a node, or of its first result where it has none.
pub(super) fn name_of(node: &NodeProto) -> &str {
    match (node.name.as_str(), node.output.first()) {
        ("", Some(output)) => output,
        (name, _) => name,
    }
}

/// Axes counted from the start, or `None` where one is outside or there twice.
fn normalize_axes(axes: &[i64], rank: usize) -> Option<Vec<usize>> {
    if axes.len() > rank {
        return None;
    }
    let mut normalized: Vec<usize> = Vec::with_capacity(axes.len());
    for &axis in axes {
        let axis = if axis < 0 { axis.checked_add(rank as i64)? } else { axis };
        let axis = usize::try_from(axis).ok().filter(|axis| *axis < rank && !normalized.contains(axis))?;
        normalized.push(axis);
    }
    Some(normalized)
}
