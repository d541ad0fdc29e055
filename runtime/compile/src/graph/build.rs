//! Building a graph node by node, with types inferred and constants folded on the way.

use std::collections::HashMap;

use ingraft_tensor::DType;

use super::{Frozen, Graph, Node, Tensor, Value, ValueId, fold, tensor};
use crate::error::Fault;
use crate::op::{Op, ValueType};

/// Builds a [`Graph`] in topological order.
///
/// Every node's result types are inferred as it is added; a node whose operands
/// are all constant becomes a constant where the host can evaluate it. Work and
/// memory spent so are bounded by a budget.
///
/// # Examples
/// ```
/// use ingraft_compile::graph::{Builder, Tensor};
/// use ingraft_compile::op::{Binary, Op};
/// use ingraft_tensor::DType;
///
/// let mut builder = Builder::new(0);
/// let x = builder.input("x", DType::F32, vec![2])?;
/// let one = builder.constant("one", Tensor::scalar_f32(1.0));
/// let y = builder.add("y", Op::Binary(Binary::Add), &[x, one])?;
/// let graph = builder.finish(&[y]);
/// assert_eq!(graph[graph.outputs[0]].shape, [2]);
/// # Ok::<(), ingraft_compile::Fault>(())
/// ```
#[derive(Debug, Default)]
pub struct Builder {
    graph: Graph,
    hints: HashMap<ValueId, Hint>,
    frozen: Vec<ValueId>,
    budget_bytes: usize,
}

/// What a value would be if the graph inputs it depends on were constant.
#[derive(Clone, Debug)]
struct Hint {
    tensor: Tensor,
    inputs: Vec<ValueId>,
}

/// The most dimensions a value may have on the way; plans take fewer.
const RANK_MAX: usize = 16;

/// Bytes that folding may touch beside a multiple of the source's size.
const BUDGET_BASE_BYTES: usize = 64 << 20;

/// Bytes that folding may touch per byte of source.
const BUDGET_FACTOR: usize = 8;

/// The most elements of a hint; they serve shapes, scales and such.
const HINT_ELEMENTS_MAX: usize = 1 << 16;

impl Builder {
    /// An empty graph from a source of `source_bytes`, which bounds the work spent on folding.
    pub fn new(source_bytes: usize) -> Self {
        let budget_bytes = source_bytes.saturating_mul(BUDGET_FACTOR).saturating_add(BUDGET_BASE_BYTES);
        Self { budget_bytes, ..Self::default() }
    }

    /// Adds a graph input.
    ///
    /// # Errors
    /// [`Fault::TooLarge`] where a plan cannot hold it.
    pub fn input(&mut self, name: &str, dtype: DType, shape: Vec<usize>) -> Result<ValueId, Fault> {
        check_size(&shape)?;
        let id = self.value(name.to_owned(), ValueType::new(dtype, shape), None);
        self.graph.inputs.push(id);
        Ok(id)
    }

    /// Offers a value for graph input `id`: should an operator need it at compile time, the input becomes this constant.
    /// Has no effect where the type differs.
    pub fn hint(&mut self, id: ValueId, tensor: Tensor) {
        let value = &self.graph[id];
        if value.dtype == tensor.dtype() && value.shape == tensor.shape() {
            self.hints.insert(id, Hint { tensor, inputs: vec![id] });
        }
    }

    /// Adds a constant.
    pub fn constant(&mut self, name: &str, tensor: Tensor) -> ValueId {
        let ty = ValueType::new(tensor.dtype(), tensor.shape().to_vec());
        self.value(name.to_owned(), ty, Some(tensor))
    }

    /// Adds a node with one result called `name`.
    ///
    /// # Errors
    /// A [`Fault`] where the operands do not fit the operator.
    pub fn add(&mut self, name: &str, op: Op, inputs: &[ValueId]) -> Result<ValueId, Fault> {
        let inputs: Vec<_> = inputs.iter().copied().map(Some).collect();
        let results = self.push(name, op, &inputs)?;
        let first = *results.first().ok_or(Fault::Arity { found: 0 })?;
        self.rename(first, name);
        Ok(first)
    }

    /// Adds a node; the results get names derived from `name`.
    ///
    /// # Errors
    /// A [`Fault`] where the operands do not fit the operator.
    pub fn push(&mut self, name: &str, op: Op, inputs: &[Option<ValueId>]) -> Result<Vec<ValueId>, Fault> {
        let types: Vec<_> = inputs.iter().map(|id| id.map(|id| self.value_type(id))).collect();
        let with_shapes = |fault| match fault {
            Fault::Shape { reason, .. } => {
                Fault::Shape { reason, shapes: types.iter().flatten().map(|t| t.shape.clone()).collect() }
            }
            fault => fault,
        };
        let results = op.infer(&types).map_err(with_shapes)?;
        results.iter().try_for_each(|result| check_size(&result.shape))?;
        let folded = self.fold(&op, inputs, &results);
        let hints = if folded.is_none() { self.derive_hints(&op, inputs, &results) } else { None };
        let count = results.len();
        let mut folded = folded.into_iter().flatten();
        let first = self.graph.values.len() as u32;
        for ty in results {
            let derived = format!("{name}#{}", self.graph.values.len());
            let konst = folded.next();
            self.value(derived, ty, konst);
        }
        let outputs: Vec<_> = (0..count as u32).map(|i| ValueId(first + i)).collect();
        if outputs.iter().any(|&id| self.graph.konst(id).is_none()) {
            self.hints.extend(outputs.iter().copied().zip(hints.into_iter().flatten()));
            let node = Node { name: name.to_owned(), op, inputs: inputs.to_vec(), outputs: outputs.clone() };
            self.graph.nodes.push(node);
        }
        Ok(outputs)
    }

    /// How many values there are.
    pub(crate) fn value_count(&self) -> u32 {
        self.graph.values.len() as u32
    }

    /// The element type and extents of `id`.
    pub fn value_type(&self, id: ValueId) -> ValueType {
        let value = &self.graph[id];
        ValueType::new(value.dtype, value.shape.clone())
    }

    /// The data of `id`, where it is a constant.
    pub fn konst(&self, id: ValueId) -> Option<&Tensor> {
        self.graph.konst(id)
    }

    /// The data of `id`, where it is a constant or can be made one by freezing the graph inputs it depends on.
    pub fn freeze(&mut self, id: ValueId) -> Option<Tensor> {
        if let Some(tensor) = self.graph.konst(id) {
            return Some(tensor.clone());
        }
        let hint = self.hints.get(&id)?.clone();
        self.frozen.extend(&hint.inputs);
        for value in hint.inputs.iter().copied().chain([id]) {
            let known = self.hints.get(&value).map(|hint| hint.tensor.clone());
            if let Some(slot) = self.graph.values.get_mut(value.index()) {
                slot.konst = known;
            }
        }
        Some(hint.tensor)
    }

    /// Takes bytes from the folding budget.
    ///
    /// # Errors
    /// [`Fault::TooLarge`] where it is spent.
    pub fn reserve(&mut self, shape: &[usize], dtype: DType) -> Result<(), Fault> {
        check_size(shape)?;
        let bytes = tensor::elements(shape).and_then(|n| n.checked_mul(dtype.size()));
        let left = bytes.and_then(|bytes| self.budget_bytes.checked_sub(bytes));
        self.budget_bytes = left.ok_or(Fault::TooLarge)?;
        Ok(())
    }

    /// Renames a value.
    pub fn rename(&mut self, id: ValueId, name: &str) {
        if let Some(value) = self.graph.values.get_mut(id.index()) {
            name.clone_into(&mut value.name);
        }
    }

    /// The graph with these outputs. Frozen inputs are constants in it and listed apart; nodes are kept where they
    /// compute something that an output needs.
    pub fn finish(mut self, outputs: &[ValueId]) -> Graph {
        self.graph.outputs = outputs.to_vec();
        for &id in &self.frozen {
            if let (Some(at), Some(value)) =
                (self.graph.inputs.iter().position(|&i| i == id), self.graph.konst(id))
            {
                let frozen = Frozen { name: self.graph[id].name.clone(), value: value.clone() };
                self.graph.inputs.remove(at);
                self.graph.frozen.push(frozen);
            }
        }
        let constant =
            |node: &Node| node.outputs.iter().all(|&id| self.graph.values[id.index()].konst.is_some());
        self.graph.nodes.retain(|node| !constant(node));
        self.graph.remove_dead();
        self.graph
    }

    fn value(&mut self, name: String, ty: ValueType, konst: Option<Tensor>) -> ValueId {
        let id = ValueId(self.graph.values.len() as u32);
        self.graph.values.push(Value { name, dtype: ty.dtype, shape: ty.shape, konst });
        id
    }

    /// The results of a node whose operands are all constant, where the host can evaluate it within the budget.
    fn fold(&mut self, op: &Op, inputs: &[Option<ValueId>], results: &[ValueType]) -> Option<Vec<Tensor>> {
        let mut operands = Vec::with_capacity(inputs.len());
        for input in inputs {
            operands.push(match input {
                Some(id) => Some(self.graph.konst(*id)?),
                None => None,
            });
        }
        if !fold::is_foldable(op) {
            return None;
        }
        let bytes = |ty: &ValueType| {
            tensor::elements(&ty.shape).unwrap_or(usize::MAX).saturating_mul(ty.dtype.size())
        };
        let read: usize = operands.iter().flatten().map(|t| t.bytes().len()).fold(0, usize::saturating_add);
        let written = results.iter().map(bytes).fold(0, usize::saturating_add);
        // A reshape shares its operand's data.
        let touched =
            if matches!(op, Op::Reshape { .. } | Op::Identity) { 0 } else { read.saturating_add(written) };
        let left = self.budget_bytes.checked_sub(touched)?;
        let folded = fold::evaluate(op, &operands, results)?;
        self.budget_bytes = left;
        Some(folded)
    }

    /// The hints of a node's results, where every operand is constant or has a hint.
    fn derive_hints(
        &mut self,
        op: &Op,
        inputs: &[Option<ValueId>],
        results: &[ValueType],
    ) -> Option<Vec<Hint>> {
        let small = |ty: &ValueType| tensor::elements(&ty.shape).is_some_and(|n| n <= HINT_ELEMENTS_MAX);
        if self.hints.is_empty() || !results.iter().all(small) || !fold::is_foldable(op) {
            return None;
        }
        let mut sources: Vec<ValueId> = Vec::new();
        let mut operands = Vec::with_capacity(inputs.len());
        for input in inputs {
            let known = input.map(|id| match (self.graph.konst(id), self.hints.get(&id)) {
                (Some(tensor), _) => Some(tensor),
                (None, Some(hint)) => {
                    sources.extend(&hint.inputs);
                    Some(&hint.tensor)
                }
                (None, None) => None,
            });
            operands.push(match known {
                Some(tensor) => Some(tensor?),
                None => None,
            });
        }
        if operands.iter().flatten().any(|t| t.elements() > HINT_ELEMENTS_MAX) {
            return None;
        }
        sources.sort_unstable();
        sources.dedup();
        let tensors = fold::evaluate(op, &operands, results)?;
        Some(tensors.into_iter().map(|tensor| Hint { tensor, inputs: sources.clone() }).collect())
    }
}

fn check_size(shape: &[usize]) -> Result<(), Fault> {
    let fits = shape.len() <= RANK_MAX && tensor::elements(shape).is_some();
    if fits { Ok(()) } else { Err(Fault::TooLarge) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Binary, Unary};

    #[test]
    fn constants_fold_and_dead_nodes_go() {
        let mut b = Builder::new(0);
        let x = b.input("x", DType::F32, vec![2]).unwrap();
        let c = b.constant("c", Tensor::from_f32(&[2], &[1.0, 2.0]).unwrap());
        let d = b.add("d", Op::Binary(Binary::Mul), &[c, c]).unwrap();
        let y = b.add("y", Op::Binary(Binary::Add), &[x, d]).unwrap();
        b.add("unused", Op::Unary(Unary::Relu), &[x]).unwrap();
        let graph = b.finish(&[y]);
        assert_eq!(graph.nodes.len(), 1);
        assert_eq!(graph.konst_input(&graph.nodes[0], 1).unwrap().to_f32(), [1.0, 4.0]);
    }

    #[test]
    fn hints_freeze_inputs_on_demand() {
        let mut b = Builder::new(0);
        let x = b.input("x", DType::I64, vec![1]).unwrap();
        let unused = b.input("unused", DType::I64, vec![1]).unwrap();
        for id in [x, unused] {
            b.hint(id, Tensor::from_i64(DType::I64, &[1], &[3]).unwrap());
        }
        let one = b.constant("one", Tensor::from_i64(DType::I64, &[1], &[1]).unwrap());
        let y = b.add("y", Op::Binary(Binary::Add), &[x, one]).unwrap();
        assert_eq!(b.freeze(y).unwrap().to_i64(), [4]);
        let graph = b.finish(&[y]);
        assert_eq!(graph.inputs, [unused]);
        assert_eq!(graph.frozen[0].name, "x");
        assert!(graph.nodes.is_empty() && graph.konst(y).is_some());
    }

    #[test]
    fn refuses_what_no_plan_can_hold() {
        let mut b = Builder::new(0);
        assert_eq!(b.input("x", DType::F32, vec![1 << 20, 1 << 20]), Err(Fault::TooLarge));
        assert_eq!(b.input("x", DType::F32, vec![1; 17]), Err(Fault::TooLarge));
        assert_eq!(b.reserve(&[1 << 30], DType::F32), Err(Fault::TooLarge));
    }
}
