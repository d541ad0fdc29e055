//! Deriving the training schedule: forward steps with masks, then backward steps.

mod budget;
mod in_place;

use std::collections::BTreeMap;

pub use budget::{fit, place_beside};
pub use in_place::in_place;
use ingraft_kernel::attrs::{
    Attrs, BinaryAttrs, BinaryBackwardAttrs, ConvAttrs, MatMulBackwardAttrs, PoolAttrs, QConvAttrs,
    RecurrentAttrs, RecurrentBackwardAttrs, ReduceAttrs, WhereBackwardAttrs,
};
use ingraft_kernel::backward::recurrent::{CELL, SEQUENCE, STATE};
use ingraft_kernel::backward::reduce::needs_input;
use ingraft_kernel::elementwise::BinaryFn;
use ingraft_kernel::reduce::ReduceFn;
use ingraft_kernel::{OpCode, SiteKind};
use ingraft_tensor::{DType, Shape};

use super::select::plan_shape;
use super::{LowerError, ProgStep, ProgTensor, Program, Storage, TensorRef};

/// From where on a plan can be trained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrainFrom {
    /// From this site on.
    Site(String),
    /// These sites and no others: layers between them keep no input.
    Sites(Vec<String>),
    /// Every pointwise site after the last but one stage of stride 2.
    Late,
    /// From the first site on.
    All,
}

/// A training schedule.
#[derive(Clone, Debug)]
pub struct TrainSchedule {
    /// Forward and backward steps. Its first tensors are those of the inference
    /// program, in the same order.
    pub program: Program,
    /// First step that depends on a trained site.
    pub cut: usize,
    /// First backward step.
    pub backward: usize,
    /// Forward tensors (never aliases) and their gradients.
    pub grads: BTreeMap<TensorRef, TensorRef>,
}

/// Derives the schedule that trains from `from` on.
///
/// # Errors
/// [`LowerError::NoSuchSite`], or [`LowerError::NoBackward`] naming the node.
pub fn derive(program: &Program, from: &TrainFrom) -> Result<TrainSchedule, LowerError> {
    let cut = lowest_step(program, from)?;
    let (logits, _) = logits(program).ok_or(LowerError::NoSuchSite { site: "late".to_owned() })?;
    let trained = trained(program, from, cut);
    let mut deriver = Deriver::new(program, cut, logits, trained);
    deriver.masks()?;
    let backward = deriver.schedule.steps.len();
    for index in (cut..backward).rev() {
        if deriver.differentiable[index] {
            deriver.step(index)?;
        }
    }
    deriver.schedule.derivatives.clear();
    Ok(TrainSchedule { program: deriver.schedule, cut, backward, grads: deriver.grads })
}

/// Indices of the `late` sites: pointwise, after the last but one stage of
/// stride 2, before the classifier; and the normalizations behind the first of them.
pub fn late_sites(program: &Program) -> Vec<usize> {
    let stages: Vec<usize> = program.sites.iter().filter(|s| s.stride >= 2).map(|s| s.step).collect();
    let after = stages.len().checked_sub(2).map(|i| stages[i]);
    let classifier = classifier(program);
    let weights = |(i, site): &(usize, &super::ProgSite)| {
        let matrix = matches!(site.kind, SiteKind::Linear | SiteKind::Conv);
        let pointwise = matrix && site.kernel == [1, 1];
        pointwise && Some(*i) != classifier && after.is_none_or(|a| site.step > a)
    };
    let sites = || program.sites.iter().enumerate();
    let first = sites().find(weights).map(|(_, site)| site.step);
    let behind = |site: &super::ProgSite| site.kind.is_norm() && first.is_some_and(|first| site.step > first);
    sites().filter(|entry| weights(entry) || behind(entry.1)).map(|(i, _)| i).collect()
}

/// The last linear site: what a head replaces.
pub fn classifier(program: &Program) -> Option<usize> {
    program.sites.iter().rposition(|s| s.kind == SiteKind::Linear)
}

/// The result of the last linear layer, and its step; of the last layer with a weight where there is none.
pub fn logits(program: &Program) -> Option<(TensorRef, usize)> {
    let last = || program.sites.iter().rposition(|site| site.kind.is_layer());
    let site = program.sites.get(classifier(program).or_else(last)?)?;
    Some((*program.steps.get(site.step)?.outputs.first()?, site.step))
}

/// The input of the last linear layer and the step producing it: what a default head reads.
pub fn features(program: &Program) -> Option<(TensorRef, usize)> {
    let site = program.sites.get(classifier(program)?)?;
    let (step, producers) = (program.steps.get(site.step)?, program.producers());
    let mut tensor = *step.inputs.first()?;
    if step.op == OpCode::DynamicConv {
        // Codes with a scale of their own in every run are no features; the reals they were made of are.
        let quantizer = producers[tensor.0]?;
        tensor = *program.steps.get(quantizer)?.inputs.first()?;
    }
    Some((tensor, producers[tensor.0]?))
}

/// The steps whose sites are trained.
fn trained(program: &Program, from: &TrainFrom, cut: usize) -> Vec<bool> {
    let wanted = |name: &str| match from {
        TrainFrom::Sites(names) => names.iter().any(|wanted| wanted == name),
        _ => true,
    };
    let mut trained = vec![false; program.steps.len()];
    program
        .sites
        .iter()
        .filter(|site| site.kind != SiteKind::Embedding && site.step >= cut && wanted(&site.name))
        .for_each(|site| trained[site.step] = true);
    trained
}

fn lowest_step(program: &Program, from: &TrainFrom) -> Result<usize, LowerError> {
    let found = match from {
        TrainFrom::Site(name) => program.sites.iter().find(|s| s.name == *name).map(|s| s.step),
        TrainFrom::Sites(names) => {
            let step = |name: &String| program.sites.iter().find(|s| s.name == *name).map(|s| s.step);
            if let Some(site) = names.iter().find(|name| step(name).is_none()) {
                return Err(LowerError::NoSuchSite { site: site.clone() });
            }
            names.iter().filter_map(step).min()
        }
        TrainFrom::Late => late_sites(program).first().map(|i| program.sites[*i].step),
        TrainFrom::All => program.sites.iter().find(|s| s.kind != SiteKind::Embedding).map(|s| s.step),
    };
    let name = match from {
        TrainFrom::Site(name) => name.clone(),
        TrainFrom::Sites(names) => names.join(","),
        TrainFrom::Late => "late".to_owned(),
        TrainFrom::All => "all".to_owned(),
    };
    found.ok_or(LowerError::NoSuchSite { site: name })
}

struct Deriver<'p> {
    source: &'p Program,
    schedule: Program,
    differentiable: Vec<bool>,
    /// Steps whose sites are trained.
    trained: Vec<bool>,
    /// Roots that depend on a trained site.
    active: Vec<bool>,
    masks: BTreeMap<usize, TensorRef>,
    grads: BTreeMap<TensorRef, TensorRef>,
}

impl<'p> Deriver<'p> {
    fn new(source: &'p Program, cut: usize, logits: TensorRef, trained: Vec<bool>) -> Self {
        let (active, acting) = active(source, cut, &trained);
        let relevant = relevant(source, logits);
        let mut schedule = source.clone();
        let end = source.producers()[logits.0].map_or(0, |p| p + 1);
        schedule.steps.truncate(end);
        let differentiable = (0..end).map(|i| acting[i] && relevant[i]).collect();
        // Outputs behind the logits are not computed when training.
        schedule.outputs.clear();
        let (masks, grads) = (BTreeMap::new(), BTreeMap::new());
        Self { source, schedule, differentiable, trained, active, masks, grads }
    }

    /// Adds a mask to every differentiable step that clips or rounds.
    fn masks(&mut self) -> Result<(), LowerError> {
        for index in 0..self.schedule.steps.len() {
            let step = &self.schedule.steps[index];
            let output = self.schedule.tensor(step.outputs[0]);
            if !self.differentiable[index] || !clips(step, output.dtype) {
                continue;
            }
            let name = format!("{}.mask", output.name);
            let shape = plan_shape(&name, &[output.shape.elements().div_ceil(8)])?;
            let storage = Storage::Arena;
            let mask =
                self.schedule.add(ProgTensor { name, dtype: DType::U8, shape, qparams: None, storage });
            self.schedule.steps[index].outputs.push(mask);
            self.masks.insert(index, mask);
        }
        Ok(())
    }

    /// Emits the backward steps of forward step `index`.
    fn step(&mut self, index: usize) -> Result<(), LowerError> {
        let forward = self.source.steps[index].clone();
        let output = forward.outputs[0];
        if !has_slope(&forward, self.source) {
            return Ok(());
        }
        let dy = self.grad(output);
        let mut inputs = vec![dy];
        inputs.extend(self.masks.get(&index));
        match forward.op {
            OpCode::QConv if self.source.tensor(output).dtype == DType::I32 => {
                return Err(LowerError::NoBackward { node: forward.name, op: forward.op });
            }
            OpCode::QConv | OpCode::Conv | OpCode::DynamicConv => {
                inputs.extend(self.layer_operands(index, &forward)?);
                self.emit(index, &forward, OpCode::ConvBackward, inputs, &forward.inputs[..1]);
            }
            OpCode::QDepthwise | OpCode::Depthwise => {
                inputs.extend(self.layer_operands(index, &forward)?);
                self.emit(index, &forward, OpCode::DepthwiseBackward, inputs, &forward.inputs[..1]);
            }
            OpCode::QPool | OpCode::Pool => {
                if is_maximum(&forward) {
                    inputs.push(forward.inputs[0]);
                }
                self.emit(index, &forward, OpCode::PoolBackward, inputs, &forward.inputs[..1]);
            }
            OpCode::QAdd => self.additions(index, &forward, &inputs),
            OpCode::Binary | OpCode::QMul => self.binary(index, &forward, inputs)?,
            OpCode::Reduce => self.reduction(index, &forward, inputs)?,
            OpCode::MatMul => self.products(index, &forward, dy),
            OpCode::Softmax => {
                inputs.push(output);
                self.emit(index, &forward, OpCode::SoftmaxBackward, inputs, &forward.inputs[..1]);
            }
            OpCode::QSoftmax => {
                inputs.extend(&forward.inputs);
                self.emit(index, &forward, OpCode::SoftmaxBackward, inputs, &forward.inputs[..1]);
            }
            OpCode::Norm => {
                inputs.extend(forward.inputs.iter().take(2));
                self.emit(index, &forward, OpCode::NormBackward, inputs, &forward.inputs[..1]);
            }
            // The range found at run time contains every value, so nothing is clipped.
            OpCode::Quantize
            | OpCode::Requantize
            | OpCode::Dequantize
            | OpCode::DynamicQuantize
            | OpCode::Recode
            | OpCode::Cast => {
                let plain = ProgStep { attrs: Vec::new(), ..forward.clone() };
                self.emit(index, &plain, OpCode::AddBackward, inputs, &forward.inputs[..1]);
            }
            OpCode::Lookup => {
                let table = self.derivative(index, &forward)?;
                inputs.extend([forward.inputs[0], table]);
                self.emit(index, &forward, OpCode::LookupBackward, inputs, &forward.inputs[..1]);
            }
            OpCode::Copy => self.emit(index, &forward, OpCode::CopyBackward, inputs, &forward.inputs[..1]),
            OpCode::Unary => {
                inputs.push(forward.inputs[0]);
                self.emit(index, &forward, OpCode::UnaryBackward, inputs, &forward.inputs[..1]);
            }
            OpCode::Where => self.choices(index, &forward, dy),
            OpCode::Gather | OpCode::GatherElements => {
                inputs.push(forward.inputs[1]);
                let op = if forward.op == OpCode::Gather {
                    OpCode::GatherBackward
                } else {
                    OpCode::GatherElementsBackward
                };
                self.emit(index, &forward, op, inputs, &forward.inputs[..1]);
            }
            OpCode::Resize => {
                self.emit(index, &forward, OpCode::ResizeBackward, inputs, &forward.inputs[..1]);
            }
            OpCode::Lstm | OpCode::Gru => self.recurrent(index, &forward)?,
            OpCode::Fill => {}
            op => return Err(LowerError::NoBackward { node: forward.name, op }),
        }
        Ok(())
    }

    /// The operands of a layer that its gradient needs: one that is not trained keeps no input, only its type.
    fn layer_operands(&mut self, index: usize, forward: &ProgStep) -> Result<Vec<TensorRef>, LowerError> {
        let mut operands = forward.inputs.clone();
        if !self.trained[index] {
            let name = format!("{}.frozen", forward.name);
            let dtype = self.source.tensor(operands[0]).dtype;
            let shape = plan_shape(&name, &[0])?;
            let storage = Storage::Constant(Vec::new());
            operands[0] = self.schedule.add(ProgTensor { name, dtype, shape, qparams: None, storage });
        }
        Ok(operands)
    }

    /// One step per operand of an addition: each may broadcast differently.
    fn additions(&mut self, index: usize, forward: &ProgStep, inputs: &[TensorRef]) {
        let plain = ProgStep { attrs: Vec::new(), ..forward.clone() };
        for operand in &forward.inputs {
            if self.needs_grad(*operand) {
                self.emit(index, &plain, OpCode::AddBackward, inputs.to_vec(), &[*operand]);
            }
        }
    }

    /// One step per operand of a function of two; a plain sum needs neither.
    fn binary(
        &mut self,
        index: usize,
        forward: &ProgStep,
        mut inputs: Vec<TensorRef>,
    ) -> Result<(), LowerError> {
        let refused = || LowerError::NoBackward { node: forward.name.clone(), op: forward.op };
        let mut attrs = binary_attrs(forward).ok_or_else(refused)?;
        if forward.op == OpCode::Binary
            && attrs.function == BinaryFn::Add.code()
            && attrs.lo == f32::NEG_INFINITY
            && attrs.hi == f32::INFINITY
        {
            self.additions(index, forward, &inputs);
            return Ok(());
        }
        for (slot, operand) in forward.inputs.iter().enumerate() {
            if let Some(qparams) = self.source.tensor(*operand).qparams {
                attrs.scales[slot] = qparams.scale;
                attrs.zero_points[slot] = qparams.zero_point;
            }
        }
        inputs.extend(&forward.inputs);
        for (operand, tensor) in (0u32..).zip(&forward.inputs) {
            attrs.operand = operand;
            let step = with_attrs(forward, &attrs);
            if self.needs_grad(*tensor) {
                self.emit(index, &step, OpCode::BinaryBackward, inputs.clone(), &[*tensor]);
            }
        }
        Ok(())
    }

    fn reduction(
        &mut self,
        index: usize,
        forward: &ProgStep,
        mut inputs: Vec<TensorRef>,
    ) -> Result<(), LowerError> {
        let function =
            ReduceAttrs::read(&forward.attrs).and_then(|attrs| ReduceFn::from_code(attrs.function));
        let function =
            function.ok_or_else(|| LowerError::NoBackward { node: forward.name.clone(), op: forward.op })?;
        if needs_input(function) {
            inputs.push(forward.inputs[0]);
        }
        self.emit(index, forward, OpCode::ReduceBackward, inputs, &forward.inputs[..1]);
        Ok(())
    }

    /// One step per operand of a product of activations; each needs the other operand.
    fn products(&mut self, index: usize, forward: &ProgStep, dy: TensorRef) {
        for (operand, (wanted, other)) in [(0, 1), (1, 0)].into_iter().enumerate() {
            let (wanted, other) = (forward.inputs[wanted], forward.inputs[other]);
            let step = with_attrs(forward, &MatMulBackwardAttrs { operand: operand as u32 });
            if self.needs_grad(wanted) {
                self.emit(index, &step, OpCode::MatMulBackward, vec![dy, other], &[wanted]);
            }
        }
    }

    /// One step per choice that depends on a trained site.
    fn choices(&mut self, index: usize, forward: &ProgStep, dy: TensorRef) {
        for (operand, wanted) in [(0, forward.inputs[1]), (1, forward.inputs[2])] {
            let step = with_attrs(forward, &WhereBackwardAttrs { operand });
            if self.needs_grad(wanted) {
                self.emit(index, &step, OpCode::WhereBackward, vec![dy, forward.inputs[0]], &[wanted]);
            }
        }
    }

    /// One step per output that something reads: the gradients of all add up.
    fn recurrent(&mut self, index: usize, forward: &ProgStep) -> Result<(), LowerError> {
        let refused = || LowerError::NoBackward { node: forward.name.clone(), op: forward.op };
        let attrs = RecurrentAttrs::read(&forward.attrs).ok_or_else(refused)?;
        let (sequence, states) = (forward.inputs[0], forward.inputs.get(4..).unwrap_or(&[]));
        let differentiable = match forward.op {
            OpCode::Lstm => vec![(SEQUENCE, sequence), (STATE, states[0]), (CELL, states[1])],
            _ => vec![(SEQUENCE, sequence), (STATE, states[0])],
        };
        // A layer whose weights are computed has no gradient for them.
        let weights = forward.inputs.iter().enumerate().filter(|(i, _)| matches!(i, 1..=3 | 6..));
        if weights.into_iter().any(|(_, tensor)| self.needs_grad(*tensor)) {
            return Err(refused());
        }
        let wanted: Vec<(u32, TensorRef)> =
            differentiable.into_iter().filter(|(_, tensor)| self.needs_grad(*tensor)).collect();
        let (bits, tensors) = wanted.iter().fold((0, Vec::new()), |(bits, mut tensors), (bit, tensor)| {
            tensors.push(*tensor);
            (bits | bit, tensors)
        });
        let op = if forward.op == OpCode::Lstm { OpCode::LstmBackward } else { OpCode::GruBackward };
        for (incoming, output) in (0u32..).zip(&forward.outputs) {
            if !self.read_later(index, *output) {
                continue;
            }
            let step = with_attrs(
                forward,
                &RecurrentBackwardAttrs {
                    direction: attrs.direction,
                    linear_before_reset: attrs.linear_before_reset,
                    incoming,
                    wanted: bits,
                },
            );
            let mut inputs = vec![self.grad(*output)];
            inputs.extend(&forward.inputs);
            self.emit(index, &step, op, inputs, &tensors);
        }
        Ok(())
    }

    /// Whether a forward step that the loss depends on reads `tensor`.
    fn read_later(&self, index: usize, tensor: TensorRef) -> bool {
        let root = self.source.root(tensor);
        let later = self.differentiable.iter().enumerate().skip(index + 1).filter(|(_, on)| **on);
        later
            .filter_map(|(i, _)| self.source.steps.get(i))
            .any(|step| step.inputs.iter().any(|input| self.source.root(*input) == root))
    }

    fn emit(
        &mut self,
        index: usize,
        forward: &ProgStep,
        op: OpCode,
        inputs: Vec<TensorRef>,
        wanted: &[TensorRef],
    ) {
        let outputs: Vec<TensorRef> =
            wanted.iter().filter(|t| self.needs_grad(**t)).copied().collect::<Vec<_>>();
        let outputs: Vec<TensorRef> = outputs.into_iter().map(|t| self.grad(t)).collect();
        if outputs.is_empty() && !self.trained[index] {
            return;
        }
        self.schedule.steps.push(ProgStep {
            op,
            attrs: forward.attrs.clone(),
            inputs,
            outputs,
            site: forward.site,
            forward: Some(index),
            name: forward.name.clone(),
        });
    }

    fn needs_grad(&self, tensor: TensorRef) -> bool {
        self.active[self.source.root(tensor).0]
    }

    /// The gradient of `tensor`, under its shape.
    fn grad(&mut self, tensor: TensorRef) -> TensorRef {
        let root = self.source.root(tensor);
        let make = |name: &str, shape: Shape, storage: Storage| ProgTensor {
            name: format!("{name}.grad"),
            dtype: DType::F32,
            shape,
            qparams: None,
            storage,
        };
        let grad = match self.grads.get(&root) {
            Some(grad) => *grad,
            None => {
                let source = self.source.tensor(root);
                let grad = self.schedule.add(make(&source.name, source.shape, Storage::Arena));
                self.grads.insert(root, grad);
                grad
            }
        };
        if tensor == root {
            return grad;
        }
        let source = self.source.tensor(tensor);
        self.schedule.add(make(&source.name, source.shape, Storage::Alias(grad)))
    }

    fn derivative(&mut self, index: usize, forward: &ProgStep) -> Result<TensorRef, LowerError> {
        let found = self.source.derivatives.iter().find(|(step, _)| *step == index);
        let (_, slopes) =
            found.ok_or(LowerError::NoBackward { node: forward.name.clone(), op: forward.op })?;
        let name = format!("{}.slopes", forward.name);
        let shape = plan_shape(&name, &[slopes.len()])?;
        Ok(self.schedule.constant(&name, shape, slopes))
    }
}

/// The gradient's attributes, for f32 operands.
fn binary_attrs(forward: &ProgStep) -> Option<BinaryBackwardAttrs> {
    let (function, lo, hi) = match forward.op {
        OpCode::Binary => {
            let attrs = BinaryAttrs::read(&forward.attrs)?;
            (BinaryFn::from_code(attrs.function)?, attrs.lo, attrs.hi)
        }
        // The mask tells where it was clamped.
        _ => (BinaryFn::Mul, f32::NEG_INFINITY, f32::INFINITY),
    };
    Some(BinaryBackwardAttrs {
        function: function.code(),
        operand: 0,
        lo,
        hi,
        scales: [1.0; 2],
        zero_points: [0; 2],
    })
}

fn with_attrs(forward: &ProgStep, attrs: &impl Attrs) -> ProgStep {
    ProgStep { attrs: attrs.as_bytes().to_vec(), ..forward.clone() }
}

/// Whether the step's result moves with its operands at all: truth values, indices and whole numbers do not.
fn has_slope(step: &ProgStep, program: &Program) -> bool {
    let dtype = |tensors: &[TensorRef]| tensors.first().map(|tensor| program.tensor(*tensor).dtype);
    let float = |dtype: Option<DType>| matches!(dtype, Some(DType::F32 | DType::F16));
    match step.op {
        OpCode::ArgReduce => false,
        OpCode::Cast => float(dtype(&step.inputs)) && float(dtype(&step.outputs)),
        // Sums of codes that a later step scales: refused where they are met, not passed over.
        OpCode::MatMulInteger | OpCode::QConv => true,
        _ => float(dtype(&step.outputs)) || matches!(dtype(&step.outputs), Some(DType::I8 | DType::U8)),
    }
}

/// Whether the step's result is clamped or rounded, so that its gradient needs a mask.
fn clips(step: &ProgStep, output: DType) -> bool {
    match step.op {
        OpCode::QConv | OpCode::QDepthwise if output == DType::I8 => true,
        OpCode::QConv | OpCode::QDepthwise => {
            QConvAttrs::read(&step.attrs).is_some_and(|a| finite(a.lo, a.hi))
        }
        OpCode::Conv | OpCode::Depthwise | OpCode::DynamicConv => {
            ConvAttrs::read(&step.attrs).is_some_and(|a| finite(a.lo, a.hi))
        }
        OpCode::Quantize | OpCode::Requantize | OpCode::QAdd | OpCode::QMul => true,
        OpCode::QPool => !is_maximum(step),
        OpCode::Reduce => output == DType::I8,
        _ => false,
    }
}

/// Whether a clamp to these bounds can do anything.
fn finite(lo: f32, hi: f32) -> bool {
    lo > f32::NEG_INFINITY || hi < f32::INFINITY
}

fn is_maximum(step: &ProgStep) -> bool {
    PoolAttrs::read(&step.attrs).is_some_and(|attrs| attrs.kind == 0)
}

/// Roots that depend on a trained site, all of them at or after step `cut`, and the steps that compute them.
fn active(program: &Program, cut: usize, trained: &[bool]) -> (Vec<bool>, Vec<bool>) {
    let mut tensors = vec![false; program.tensors.len()];
    let mut steps = vec![false; program.steps.len()];
    for (index, step) in program.steps.iter().enumerate().skip(cut) {
        let fed = step.inputs.iter().any(|t| tensors[program.root(*t).0]);
        if fed || trained[index] {
            steps[index] = true;
            step.outputs.iter().for_each(|t| tensors[program.root(*t).0] = true);
        }
    }
    (tensors, steps)
}

/// Steps that `logits` depends on.
fn relevant(program: &Program, logits: TensorRef) -> Vec<bool> {
    let mut wanted = vec![false; program.tensors.len()];
    wanted[program.root(logits).0] = true;
    let mut steps = vec![false; program.steps.len()];
    for (index, step) in program.steps.iter().enumerate().rev() {
        if step.outputs.iter().any(|t| wanted[program.root(*t).0]) {
            steps[index] = true;
            step.inputs.iter().for_each(|t| wanted[program.root(*t).0] = true);
        }
    }
    steps
}
