//! The program: plan operators on tensors that have no place in memory yet.

use std::collections::BTreeMap;

use ingraft_kernel::attrs::Attrs;
use ingraft_kernel::{OpCode, SiteKind};
use ingraft_tensor::{DType, QParams, Shape};

use crate::graph::Diagonals;

/// Index of a tensor of a [`Program`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorRef(pub(crate) usize);

/// Where a tensor's bytes come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Storage {
    /// Written by a step, or by the caller.
    Arena,
    /// Known at compile time.
    Constant(Vec<u8>),
    /// The bytes of another tensor under this one's shape.
    Alias(TensorRef),
}

/// One tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgTensor {
    /// ONNX name.
    pub name: String,
    /// Element type as stored.
    pub dtype: DType,
    /// Shape.
    pub shape: Shape,
    /// Quantization, where codes stand for reals.
    pub qparams: Option<QParams>,
    /// Origin of the bytes.
    pub storage: Storage,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgStep {
    /// Operator.
    pub op: OpCode,
    /// Attribute record.
    pub attrs: Vec<u8>,
    /// Inputs.
    pub inputs: Vec<TensorRef>,
    /// Outputs.
    pub outputs: Vec<TensorRef>,
    /// Index into [`Program::sites`].
    pub site: Option<usize>,
    /// For a backward step, the forward step it belongs to.
    pub forward: Option<usize>,
    /// ONNX node.
    pub name: String,
}

/// A place where an adapter may attach.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgSite {
    /// ONNX name of the weight.
    pub name: String,
    /// Kind.
    pub kind: SiteKind,
    /// Element type of the plan's weight.
    pub dtype: DType,
    /// Output channels.
    pub out: usize,
    /// Input channels per group.
    pub inputs: usize,
    /// Kernel.
    pub kernel: [usize; 2],
    /// Groups.
    pub groups: usize,
    /// Whether ONNX stores the weight `(in, out)`.
    pub transposed: bool,
    /// The step that applies it.
    pub step: usize,
    /// Largest stride of the step: where the network's stages change.
    pub stride: u32,
}

/// What happened to numbers on the way, for the user to read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Notes {
    /// Node, operator and reason of what stayed float.
    pub float_nodes: Vec<[String; 3]>,
    /// Sites whose bias codes were not on the scale sx·sw and were rounded to it.
    pub requantized_biases: Vec<String>,
    /// Sites and channels whose scale was enlarged so that no accumulator can overflow.
    pub rescaled_channels: Vec<(String, usize)>,
}

/// Steps in order, on tensors without addresses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    /// Tensors.
    pub tensors: Vec<ProgTensor>,
    /// Steps.
    pub steps: Vec<ProgStep>,
    /// Sites, in the order of their steps.
    pub sites: Vec<ProgSite>,
    /// Model inputs by name.
    pub inputs: Vec<(String, TensorRef)>,
    /// Model outputs by name.
    pub outputs: Vec<(String, TensorRef)>,
    /// Per table step, the derivative of its function at every input code.
    pub derivatives: Vec<(usize, Vec<f32>)>,
    /// What was multiplied into the weights of sites, by name.
    pub diagonals: Diagonals,
    /// What to tell the user.
    pub notes: Notes,
}

impl Program {
    /// The tensor.
    pub fn tensor(&self, id: TensorRef) -> &ProgTensor {
        &self.tensors[id.0]
    }

    /// Adds a tensor.
    pub fn add(&mut self, tensor: ProgTensor) -> TensorRef {
        self.tensors.push(tensor);
        TensorRef(self.tensors.len() - 1)
    }

    /// Adds a constant vector or matrix of `T`.
    pub fn constant<T: ingraft_tensor::bytes::Element>(
        &mut self,
        name: &str,
        shape: Shape,
        values: &[T],
    ) -> TensorRef {
        let storage = Storage::Constant(ingraft_tensor::bytes::of(values).to_vec());
        self.add(ProgTensor { name: name.to_owned(), dtype: T::DTYPE, shape, qparams: None, storage })
    }

    /// Adds a step and gives its index.
    pub fn push<A: Attrs>(
        &mut self,
        op: OpCode,
        attrs: &A,
        inputs: Vec<TensorRef>,
        outputs: Vec<TensorRef>,
        name: &str,
    ) -> usize {
        let attrs = zerocopy::IntoBytes::as_bytes(attrs).to_vec();
        let name = name.to_owned();
        self.steps.push(ProgStep { op, attrs, inputs, outputs, site: None, forward: None, name });
        self.steps.len() - 1
    }

    /// The same program with what earlier stages know of its weights and of the nodes they left real.
    pub fn annotated(mut self, diagonals: Diagonals, float_reasons: &BTreeMap<String, &'static str>) -> Self {
        self.diagonals = diagonals;
        for [name, _, reason] in &mut self.notes.float_nodes {
            if let Some(known) = float_reasons.get(name) {
                *reason = (*known).to_owned();
            }
        }
        self
    }

    /// The same program without tensors that nothing refers to.
    pub fn compact(mut self) -> Self {
        let mut used = vec![false; self.tensors.len()];
        let operands = self.steps.iter().flat_map(|s| s.inputs.iter().chain(&s.outputs));
        for id in operands.chain(self.inputs.iter().chain(&self.outputs).map(|(_, id)| id)) {
            used[id.0] = true;
            used[self.root(*id).0] = true;
        }
        let roots: Vec<TensorRef> = (0..self.tensors.len()).map(|i| self.root(TensorRef(i))).collect();
        let mut moved = vec![TensorRef(0); self.tensors.len()];
        let mut kept = Vec::new();
        for (i, tensor) in
            core::mem::take(&mut self.tensors).into_iter().enumerate().filter(|(i, _)| used[*i])
        {
            moved[i] = TensorRef(kept.len());
            kept.push((i, tensor));
        }
        for (i, tensor) in kept {
            let storage = match tensor.storage {
                // Aliases of aliases refer to the bytes themselves.
                Storage::Alias(_) => Storage::Alias(moved[roots[i].0]),
                storage => storage,
            };
            self.tensors.push(ProgTensor { storage, ..tensor });
        }
        let operands = self.steps.iter_mut().flat_map(|s| s.inputs.iter_mut().chain(&mut s.outputs));
        let io = self.inputs.iter_mut().chain(&mut self.outputs).map(|(_, id)| id);
        operands.chain(io).for_each(|id| *id = moved[id.0]);
        self
    }

    /// The tensor whose bytes `id` stands for, behind any aliases.
    pub fn root(&self, mut id: TensorRef) -> TensorRef {
        while let Storage::Alias(of) = self.tensors[id.0].storage {
            id = of;
        }
        id
    }

    /// Per tensor, the last step that writes it; aliases have their root's.
    pub fn producers(&self) -> Vec<Option<usize>> {
        let mut producers = vec![None; self.tensors.len()];
        for (index, step) in self.steps.iter().enumerate() {
            for output in &step.outputs {
                producers[self.root(*output).0] = Some(index);
            }
        }
        (0..self.tensors.len()).map(|i| producers[self.root(TensorRef(i)).0]).collect()
    }

    /// Whether `id` lives in the arena.
    pub fn in_arena(&self, id: TensorRef) -> bool {
        matches!(self.tensors[self.root(id).0].storage, Storage::Arena)
    }

    /// Bytes of `id`.
    pub fn bytes(&self, id: TensorRef) -> usize {
        let tensor = &self.tensors[id.0];
        tensor.shape.elements() * tensor.dtype.size()
    }
}
