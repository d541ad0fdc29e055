//! Generated cases for every operator: operands, terms and what a kernel made of them.
//!
//! [`of`] is keyed by operator. Cases are the same on every machine and in every
//! run.

#[path = "cases/backward.rs"]
mod backward;
#[path = "cases/conv.rs"]
mod conv;
#[path = "cases/conv_backward.rs"]
mod conv_backward;
#[path = "cases/elementwise.rs"]
mod elementwise;
#[path = "cases/matrix.rs"]
mod matrix;
#[path = "cases/movement.rs"]
mod movement;
#[path = "cases/random.rs"]
mod random;
#[path = "cases/reduction.rs"]
mod reduction;
#[path = "cases/spatial.rs"]
mod spatial;
#[path = "cases/tensor.rs"]
mod tensor;
#[path = "cases/terms.rs"]
mod terms;

use ingraft::kernel::attrs::Attrs;
use ingraft::kernel::patch::log_words;
use ingraft::kernel::{
    Call, Host, Kernel, KernelError, OpCode, Operand, PackedTerms, Parallel, Place, SiteGrads, SiteTerms,
    Span, Sparse, SparseValues, Step, Target, Workers, in_place,
};
use ingraft::tensor::{DType, View, ViewMut, bytes};

pub(crate) use random::Random;
pub(crate) use tensor::Tensor;
pub(crate) use terms::{LowRank, Terms, Values};

/// How far two kernels may be apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tolerance {
    /// Every output to the bit.
    Exact,
    /// f32 within 1e-5 of the largest magnitude; int8 codes within one step and
    /// masks within a bit, at most one element in a hundred: a real value that
    /// differs in its last places may round to the other side.
    Real,
    /// f32 within 2⁻⁷ of the largest magnitude, where products are of f16: a bound for the cases here, whose rows are short
    /// and whose products cancel little.
    Half,
}

/// One step with everything around it.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) op: OpCode,
    attrs: Vec<u32>,
    pub(crate) inputs: Vec<Tensor>,
    /// The outputs before the call; kernels overwrite them, or add to them.
    pub(crate) outputs: Vec<Tensor>,
    pub(crate) terms: Terms,
    /// Gradient accumulators of the terms.
    pub(crate) grads: Vec<(Parameter, Vec<f32>)>,
    pub(crate) accumulate: u32,
    pub(crate) tolerance: Tolerance,
}

/// A parameter of a term whose gradient is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parameter {
    Down,
    Up,
    Sparse,
    Scale,
    Shift,
    Dense,
}

/// What a kernel wrote: outputs, then gradients of parameters.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) outputs: Vec<Tensor>,
    pub(crate) grads: Vec<Vec<f32>>,
}

/// The cases of `op`, or `None` when this file does not know the operator.
pub(crate) fn of(op: OpCode) -> Option<Vec<Case>> {
    let mut random = Random::new(op as u64);
    Some(match op {
        OpCode::Conv | OpCode::Depthwise | OpCode::QConv | OpCode::QDepthwise | OpCode::DynamicConv => {
            conv::cases(op, &mut random)
        }
        OpCode::ConvBackward | OpCode::DepthwiseBackward => conv_backward::cases(op, &mut random),
        OpCode::MatMul | OpCode::MatMulInteger | OpCode::Lstm | OpCode::Gru => matrix::cases(op, &mut random),
        OpCode::Pool | OpCode::QPool | OpCode::PoolBackward | OpCode::Resize | OpCode::Head => {
            spatial::cases(op, &mut random)
        }
        OpCode::Reduce
        | OpCode::ArgReduce
        | OpCode::Softmax
        | OpCode::QSoftmax
        | OpCode::Norm
        | OpCode::DynamicQuantize => reduction::cases(op, &mut random),
        OpCode::Binary
        | OpCode::QAdd
        | OpCode::QMul
        | OpCode::Unary
        | OpCode::UnaryBackward
        | OpCode::AddBackward
        | OpCode::Where
        | OpCode::Lookup
        | OpCode::LookupBackward
        | OpCode::Quantize
        | OpCode::Dequantize
        | OpCode::Requantize
        | OpCode::Cast
        | OpCode::Recode => elementwise::cases(op, &mut random),
        OpCode::BinaryBackward
        | OpCode::ReduceBackward
        | OpCode::MatMulBackward
        | OpCode::WhereBackward
        | OpCode::GatherBackward
        | OpCode::GatherElementsBackward
        | OpCode::ResizeBackward
        | OpCode::LstmBackward
        | OpCode::GruBackward
        | OpCode::SoftmaxBackward
        | OpCode::NormBackward => backward::cases(op, &mut random),
        OpCode::Copy | OpCode::CopyBackward | OpCode::Fill | OpCode::Gather | OpCode::GatherElements => {
            movement::cases(op, &mut random)
        }
        _ => return None,
    })
}

impl Case {
    /// A case without operands; integer outputs are exact, f32 outputs are not.
    pub(crate) fn new<A: Attrs + 'static>(op: OpCode, name: impl Into<String>, attrs: &A) -> Self {
        let words = bytes::cast(bytes::of(core::slice::from_ref(attrs))).expect("records are rows of words");
        Self { attrs: words.to_vec(), ..Self::plain(op, name) }
    }

    /// A case of an operator without attributes.
    pub(crate) fn plain(op: OpCode, name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            op,
            attrs: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            terms: Terms::default(),
            grads: Vec::new(),
            accumulate: 0,
            tolerance: Tolerance::Real,
        }
    }

    pub(crate) fn exact(mut self) -> Self {
        self.tolerance = Tolerance::Exact;
        self
    }

    pub(crate) fn input(mut self, tensor: Tensor) -> Self {
        self.inputs.push(tensor);
        self
    }

    /// Adds an output, filled with bytes that no kernel may let through.
    pub(crate) fn output(mut self, dtype: DType, dims: &[usize]) -> Self {
        self.outputs.push(Tensor::filled(dtype, dims, 0x5a));
        self
    }

    pub(crate) fn terms(mut self, terms: Terms) -> Self {
        self.terms = terms;
        self
    }

    /// Adds a straight-through mask of output 0.
    pub(crate) fn mask(self) -> Self {
        let bytes = self.outputs[0].shape.elements().div_ceil(8);
        self.output(DType::U8, &[bytes])
    }

    /// The attribute record.
    pub(crate) fn attrs<A: Attrs>(&self) -> &A {
        A::read(bytes::of(&self.attrs)).expect("the record the case was made with")
    }

    /// Whether `kernel` computes this case, as asked at bind.
    pub(crate) fn suits(&self, kernel: &Kernel) -> bool {
        let step = self.step();
        kernel.matches(&step) && (kernel.check)(&step).is_ok()
    }

    /// By how many workers of `target` it would be run.
    pub(crate) fn share_count<W: Workers>(&self, target: &Parallel<'_, W>) -> usize {
        target.share_count(&self.step())
    }

    /// Runs `kernel` in memory of exactly the size it asked for, with guards around.
    pub(crate) fn run(&self, kernel: &Kernel) -> Result<Outcome, KernelError> {
        let step = self.step();
        let mut packed = Guarded::new((kernel.packed)(&step), 0xff);
        (kernel.pack)(&step, packed.bytes())?;
        let mut workspace = Guarded::new((kernel.workspace)(&step), 0xff);
        let mut outcome = Outcome { outputs: self.outputs.clone(), grads: self.initial_grads() };
        let mut buffers: Vec<Guarded> = self.outputs.iter().map(|t| Guarded::of(t.bytes())).collect();
        let inputs: Vec<View<'_>> = self.inputs.iter().map(Tensor::view).collect();
        let mut outputs: Vec<ViewMut<'_>> = Vec::new();
        for (tensor, buffer) in self.outputs.iter().zip(&mut buffers) {
            outputs.push(ViewMut::new(tensor.dtype, tensor.shape, buffer.bytes()).expect("lengths agree"));
        }
        (kernel.run)(&mut Call {
            op: self.op,
            attrs: bytes::of(&self.attrs),
            inputs: &inputs,
            outputs: &mut outputs,
            workspace: workspace.bytes(),
            packed: packed.bytes(),
            terms: self.terms.site(),
            grads: site_grads(&self.grads, &mut outcome.grads),
            accumulate: self.accumulate,
        })?;
        for (tensor, buffer) in outcome.outputs.iter_mut().zip(&mut buffers) {
            tensor.bytes_mut().copy_from_slice(buffer.bytes());
        }
        let intact = buffers.iter().chain([&workspace, &packed]).all(Guarded::intact);
        assert!(intact, "{}: {} wrote outside its memory", self.name, kernel.name);
        Ok(outcome)
    }

    /// Runs the case on `target` as a session does: outputs, workspace and packed
    /// weights in one block of memory.
    pub(crate) fn run_on<T: Target<Memory = [u8]>>(&self, target: &T) -> Result<Outcome, KernelError> {
        let (step, end) = self.laid_out(target)?;
        let mut storage = vec![u128::MAX; end.div_ceil(16)];
        self.run_in(target, bytes::of_mut(&mut storage), &step, self.terms.site())
    }

    /// As [`Self::run_on`], in memory of another kind, which `allocate` makes of a length.
    pub(crate) fn run_on_device<T: Target>(
        &self,
        target: &T,
        allocate: impl FnOnce(usize) -> T::Memory,
    ) -> Result<Outcome, KernelError>
    where
        T::Memory: Sized,
    {
        let (step, end) = self.laid_out(target)?;
        self.run_in(target, &mut allocate(end), &step, self.terms.site())
    }

    /// As [`Self::run_on`], with the terms packed for `target` beforehand; `Terms` where they cannot be.
    pub(crate) fn run_packed<T: Target<Memory = [u8]>>(&self, target: &T) -> Result<Outcome, KernelError> {
        let (step, terms) = (self.step(), self.terms.site());
        let needs = target.terms_bytes(&step, &terms);
        let (mut weights, mut factors) =
            (Guarded::new(needs.weights, 0xff), Guarded::new(needs.factors, 0xff));
        target.pack_terms(&step, &terms, weights.bytes(), factors.bytes())?;
        let packed = PackedTerms { weights: weights.bytes(), factors: factors.bytes() };
        let (step, end) = self.laid_out(target)?;
        let mut storage = vec![u128::MAX; end.div_ceil(16)];
        let terms = SiteTerms { packed, ..terms };
        let outcome = self.run_in(target, bytes::of_mut(&mut storage), &step, terms);
        assert!(weights.intact() && factors.intact(), "{}: {} overran", self.name, target.name());
        outcome
    }

    /// Whether writing the case's overlay into packed weights makes what packing it makes, and taking it out what was
    /// there before.
    pub(crate) fn patches_to_the_bit<T: Target>(&self, target: &T) -> Result<bool, KernelError> {
        let (step, terms) = (self.step(), self.terms.site());
        let Some(overlay) = terms.sparse else { return Err(KernelError::Terms(self.op)) };
        let none = Sparse { indptr: &[], indices: &[], values: SparseValues::I16(&[]) };
        let mut buffer = Guarded::new(target.terms_bytes(&step, &terms).weights, 0xff);
        let pack = |sparse, buffer: &mut Guarded| {
            let terms = SiteTerms { sparse: Some(sparse), ..SiteTerms::NONE };
            target.pack_terms(&step, &terms, buffer.bytes(), &mut []).map(|()| buffer.bytes().to_vec())
        };
        let with = pack(overlay, &mut buffer)?;
        let base = pack(none, &mut buffer)?;
        let mut log = vec![0; log_words(&overlay)];
        let short = log.len().saturating_sub(1);
        if short < log.len() {
            let refused = target.patch(&step, buffer.bytes(), &overlay, &mut log[..short]);
            assert!(refused.is_err() && buffer.bytes() == base, "{}: a short log", self.name);
        }
        let used = target.patch(&step, buffer.bytes(), &overlay, &mut log)?;
        let patched = buffer.bytes() == with;
        target.unpatch(&step, buffer.bytes(), &log[..used])?;
        Ok(patched && buffer.bytes() == base && buffer.intact())
    }

    /// The name of the kernel that `target` runs this case with.
    pub(crate) fn chosen_by<T: Target>(&self, target: &T) -> Result<&'static str, KernelError> {
        target.kernel_name(&self.step())
    }

    /// The step with its operands placed in one block of memory, and the length of the block.
    fn laid_out<T: Target>(&self, target: &T) -> Result<(Step<'_>, usize), KernelError> {
        let mut step = Step::new(self.op, bytes::of(&self.attrs));
        for operand in self.step().inputs() {
            step.push_input(*operand)?;
        }
        let mut end = 0;
        let mut place = |len| {
            let span = Span { offset: end, len };
            end = bytes::align_up(span.end());
            span
        };
        for tensor in &self.outputs {
            let place = Place::Memory(place(tensor.bytes().len()));
            step.push_output(Operand { dtype: tensor.dtype, shape: tensor.shape, place })?;
        }
        step.workspace = place(target.workspace_bytes(&step));
        step.packed = place(target.packed_bytes(&step));
        Ok((step, end))
    }

    fn run_in<T: Target>(
        &self,
        target: &T,
        memory: &mut T::Memory,
        step: &Step<'_>,
        terms: SiteTerms<'_>,
    ) -> Result<Outcome, KernelError> {
        let error = KernelError::Memory(self.op);
        let offsets = step.outputs().iter().map(|operand| match operand.place {
            Place::Memory(span) => span.offset,
            Place::Plan(_) => 0,
        });
        for (offset, tensor) in offsets.clone().zip(&self.outputs) {
            target.write(memory, offset, tensor.bytes()).ok_or(error)?;
        }
        target.prepare(memory, step)?;
        let mut outcome = Outcome { outputs: self.outputs.clone(), grads: self.initial_grads() };
        let grads = site_grads(&self.grads, &mut outcome.grads);
        if self.grads.is_empty() && self.accumulate == 0 {
            target.run(memory, step, terms)?;
        } else {
            target.run_backward(memory, step, terms, grads, self.accumulate)?;
        }
        for (offset, tensor) in offsets.zip(&mut outcome.outputs) {
            target.read(memory, offset, tensor.bytes_mut()).ok_or(error)?;
        }
        Ok(outcome)
    }

    /// Whether this gradient could be written over the one that comes in.
    pub(crate) fn fits_in_place(&self) -> bool {
        let ([dy, ..], [dx]) = (self.inputs.as_slice(), self.outputs.as_slice()) else { return false };
        in_place::possible(self.op, bytes::of(&self.attrs), dy.shape, dx.shape)
    }

    /// As [`Self::run_on`], overwriting, with the only output in the place of the first input.
    pub(crate) fn run_in_place_on(&self, target: &Host) -> Result<Outcome, KernelError> {
        let dy = &self.inputs[0];
        let span = Span { offset: 0, len: dy.bytes().len() };
        let mut step = Step::new(self.op, bytes::of(&self.attrs));
        step.push_input(Operand { place: Place::Memory(span), dtype: dy.dtype, shape: dy.shape })?;
        for operand in &self.step().inputs()[1..] {
            step.push_input(*operand)?;
        }
        let dx = &self.outputs[0];
        step.push_output(Operand { dtype: dx.dtype, shape: dx.shape, place: Place::Memory(span) })?;
        let mut end = bytes::align_up(span.end());
        let mut place = |len| {
            let span = Span { offset: end, len };
            end = bytes::align_up(span.end());
            span
        };
        step.workspace = place(target.workspace_bytes(&step));
        step.packed = place(target.packed_bytes(&step));
        let mut storage = vec![u128::MAX; end.div_ceil(16)];
        let memory = bytes::of_mut(&mut storage);
        memory[..span.len].copy_from_slice(dy.bytes());
        target.prepare(memory, &step)?;
        let mut outcome = Outcome { outputs: self.outputs.clone(), grads: self.initial_grads() };
        let grads = site_grads(&self.grads, &mut outcome.grads);
        target.run_backward(memory, &step, self.terms.site(), grads, 0)?;
        outcome.outputs[0].bytes_mut().copy_from_slice(&memory[..span.len]);
        Ok(outcome)
    }

    fn initial_grads(&self) -> Vec<Vec<f32>> {
        self.grads.iter().map(|(_, values)| values.clone()).collect()
    }

    fn step(&self) -> Step<'_> {
        let mut step = Step::new(self.op, bytes::of(&self.attrs));
        for tensor in &self.inputs {
            let place = Place::Plan(tensor.bytes());
            step.push_input(Operand { dtype: tensor.dtype, shape: tensor.shape, place }).expect("few inputs");
        }
        for tensor in &self.outputs {
            let place = Place::Memory(Span { offset: 0, len: tensor.bytes().len() });
            step.push_output(Operand { dtype: tensor.dtype, shape: tensor.shape, place })
                .expect("few outputs");
        }
        step
    }
}

impl Outcome {
    /// What in `self` is further from `want` than `tolerance`, if anything.
    pub(crate) fn difference(&self, want: &Self, tolerance: Tolerance) -> Option<String> {
        let outputs = self.outputs.iter().zip(&want.outputs);
        let mut found = outputs.enumerate().filter_map(|(i, (have, want))| {
            have.difference(want, tolerance).map(|difference| format!("output {i}: {difference}"))
        });
        let grads = self.grads.iter().zip(&want.grads).enumerate();
        found.next().or_else(|| {
            grads.into_iter().find_map(|(i, (have, want))| {
                tensor::far(have, want, tolerance).map(|difference| format!("gradient {i}: {difference}"))
            })
        })
    }
}

fn site_grads<'g>(parameters: &[(Parameter, Vec<f32>)], values: &'g mut [Vec<f32>]) -> SiteGrads<'g> {
    let mut grads = SiteGrads::default();
    for ((parameter, _), values) in parameters.iter().zip(values) {
        let slot = match parameter {
            Parameter::Down => &mut grads.down,
            Parameter::Up => &mut grads.up,
            Parameter::Sparse => &mut grads.sparse,
            Parameter::Scale => &mut grads.scale,
            Parameter::Shift => &mut grads.shift,
            Parameter::Dense => &mut grads.dense,
        };
        *slot = Some(values);
    }
    grads
}

/// Bytes at a 16-byte boundary between two guards.
struct Guarded {
    storage: Vec<u128>,
    len: usize,
}

impl Guarded {
    fn new(len: usize, fill: u8) -> Self {
        let mut it = Self { storage: vec![GUARD; len.div_ceil(16) + 2], len };
        it.bytes().fill(fill);
        it
    }

    fn of(bytes: &[u8]) -> Self {
        let mut it = Self::new(bytes.len(), 0);
        it.bytes().copy_from_slice(bytes);
        it
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut bytes::of_mut(&mut self.storage)[16..16 + self.len]
    }

    fn intact(&self) -> bool {
        let (all, guard) = (bytes::of(&self.storage), GUARD.to_le_bytes());
        let after = 16 + self.len;
        all[..16] == guard && all[after..].iter().zip((after..).map(|i| guard[i % 16])).all(|(a, b)| *a == b)
    }
}

const GUARD: u128 = 0x0123_4567_89ab_cdef_f0e1_d2c3_b4a5_9687;
