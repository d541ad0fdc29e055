//! One step of a plan, and the call a kernel receives for it.

use ingraft_tensor::{DType, Shape, View, ViewMut};

use crate::attrs::Attrs;
use crate::{KernelError, OpCode, SiteGrads, SiteTerms};

/// The most inputs a step has.
pub const MAX_INPUTS: usize = 9;
/// The most outputs a step has.
pub const MAX_OUTPUTS: usize = 4;

/// A range of the target's memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub offset: usize,
    /// Number of bytes.
    pub len: usize,
}

impl Span {
    /// One past the last byte, saturating.
    pub fn end(self) -> usize {
        self.offset.saturating_add(self.len)
    }

    /// Whether the two ranges share a byte.
    pub fn overlaps(self, other: Self) -> bool {
        self.len != 0 && other.len != 0 && self.offset < other.end() && other.offset < self.end()
    }
}

/// Where an operand's bytes are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place<'a> {
    /// In the target's memory.
    Memory(Span),
    /// In the plan, immutable.
    Plan(&'a [u8]),
}

/// An operand before memory is attached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Operand<'a> {
    /// Element type.
    pub dtype: DType,
    /// Shape.
    pub shape: Shape,
    /// Location.
    pub place: Place<'a>,
}

impl Operand<'_> {
    fn sample(mut self, part: usize, parts: usize) -> Option<Self> {
        let Place::Memory(span) = self.place else { return Some(self) };
        let mut dims = [0u32; ingraft_tensor::MAX_RANK];
        dims.iter_mut().zip(self.shape.dims()).for_each(|(d, s)| *d = *s);
        let rows = self.shape.dim(0).checked_div(parts)?;
        (rows.checked_mul(parts)? == self.shape.dim(0)).then_some(())?;
        *dims.first_mut()? = rows as u32;
        self.shape = Shape::new(dims.get(..self.shape.rank())?).ok()?;
        let len = span.len.checked_div(parts)?;
        self.place = Place::Memory(Span { offset: span.offset.checked_add(len.checked_mul(part)?)?, len });
        Some(self)
    }

    const NONE: Self = Operand { dtype: DType::U8, shape: Shape::SCALAR, place: Place::Plan(&[]) };
}

/// One step: what to compute, on which operands, with which memory beside them.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The operator.
    pub op: OpCode,
    /// Its attribute record ([`crate::attrs`]).
    pub attrs: &'a [u8],
    inputs: [Operand<'a>; MAX_INPUTS],
    input_count: u8,
    outputs: [Operand<'a>; MAX_OUTPUTS],
    output_count: u8,
    /// Scratch memory for this step alone.
    pub workspace: Span,
    /// Weights as this target packed them at bind; empty when it uses them in place.
    pub packed: Span,
    /// The kernel its target chose at bind; `None` to have it look again.
    pub choice: Option<Choice>,
}

/// A kernel that a target chose for a step ([`Target::choose`](crate::Target::choose)).
///
/// Only that target can tell what it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice(pub u16);

impl<'a> Step<'a> {
    /// A step without operands.
    pub fn new(op: OpCode, attrs: &'a [u8]) -> Self {
        Self {
            op,
            attrs,
            inputs: [Operand::NONE; MAX_INPUTS],
            input_count: 0,
            outputs: [Operand::NONE; MAX_OUTPUTS],
            output_count: 0,
            workspace: Span::default(),
            packed: Span::default(),
            choice: None,
        }
    }

    /// Makes this another step, without operands.
    pub fn begin(&mut self, op: OpCode, attrs: &'a [u8]) {
        (self.op, self.attrs) = (op, attrs);
        (self.input_count, self.output_count) = (0, 0);
        (self.workspace, self.packed, self.choice) = (Span::default(), Span::default(), None);
    }

    /// Adds an input.
    ///
    /// # Errors
    /// [`KernelError::Operands`] beyond [`MAX_INPUTS`].
    pub fn push_input(&mut self, operand: Operand<'a>) -> Result<(), KernelError> {
        let slot = self.inputs.get_mut(self.input_count as usize).ok_or(KernelError::Operands(self.op))?;
        *slot = operand;
        self.input_count += 1;
        Ok(())
    }

    /// Adds an output, which must lie in memory.
    ///
    /// # Errors
    /// [`KernelError::Operands`] beyond [`MAX_OUTPUTS`] or for an operand in the plan.
    pub fn push_output(&mut self, operand: Operand<'a>) -> Result<(), KernelError> {
        let slot = self.outputs.get_mut(self.output_count as usize).ok_or(KernelError::Operands(self.op))?;
        if matches!(operand.place, Place::Plan(_)) {
            return Err(KernelError::Operands(self.op));
        }
        *slot = operand;
        self.output_count += 1;
        Ok(())
    }

    /// The same step on sample `part` of `parts`: operands in memory whose
    /// outermost extent divides into `parts` are narrowed, constants stay.
    ///
    /// # Errors
    /// [`KernelError::Operands`] when the first input or output does not divide.
    pub fn sample(&self, part: usize, parts: usize) -> Result<Self, KernelError> {
        let mut step = *self;
        let inputs = step.inputs.iter_mut().take(self.input_count as usize);
        let outputs = step.outputs.iter_mut().take(self.output_count as usize);
        for operand in inputs.chain(outputs) {
            *operand = operand.sample(part, parts).ok_or(KernelError::Operands(self.op))?;
        }
        Ok(step)
    }

    /// The same step with other constant bytes as input `index`; `None` when there is no such input of that length.
    pub(crate) fn with_constant(mut self, index: usize, bytes: &'a [u8]) -> Option<Self> {
        let operand = self.inputs.get_mut(..self.input_count as usize)?.get_mut(index)?;
        let len = operand.shape.elements().checked_mul(operand.dtype.size())?;
        operand.place = Place::Plan(bytes);
        (len == bytes.len()).then_some(self)
    }

    /// The inputs.
    pub fn inputs(&self) -> &[Operand<'a>] {
        self.inputs.get(..self.input_count as usize).unwrap_or(&[])
    }

    /// The outputs.
    pub fn outputs(&self) -> &[Operand<'a>] {
        self.outputs.get(..self.output_count as usize).unwrap_or(&[])
    }

    /// Input `index`.
    ///
    /// # Errors
    /// [`KernelError::Operands`] when there is none.
    pub fn input(&self, index: usize) -> Result<Operand<'a>, KernelError> {
        self.inputs().get(index).copied().ok_or(KernelError::Operands(self.op))
    }

    /// Output `index`.
    ///
    /// # Errors
    /// [`KernelError::Operands`] when there is none.
    pub fn output(&self, index: usize) -> Result<Operand<'a>, KernelError> {
        self.outputs().get(index).copied().ok_or(KernelError::Operands(self.op))
    }

    /// The element type of input `index`, if there is one.
    pub fn input_dtype(&self, index: usize) -> Option<DType> {
        self.inputs().get(index).map(|o| o.dtype)
    }

    /// The element type of output `index`, if there is one.
    pub fn output_dtype(&self, index: usize) -> Option<DType> {
        self.outputs().get(index).map(|o| o.dtype)
    }

    /// The attribute record as `A`.
    ///
    /// # Errors
    /// [`KernelError::Operands`] when the record is not an `A`.
    pub fn attrs<A: Attrs>(&self) -> Result<&'a A, KernelError> {
        A::read(self.attrs).ok_or(KernelError::Operands(self.op))
    }
}

/// What a host kernel receives: the step with its memory attached.
#[derive(Debug)]
pub struct Call<'c, 'm> {
    /// The operator.
    pub op: OpCode,
    /// The attribute record.
    pub attrs: &'c [u8],
    /// Inputs, in the operator's order.
    pub inputs: &'c [View<'c>],
    /// Outputs, in the operator's order. A forward step with a saved
    /// straight-through mask has it as its last output, one bit per element.
    pub outputs: &'c mut [ViewMut<'m>],
    /// Scratch of the size the row asked for.
    pub workspace: &'c mut [u8],
    /// Weights as this row packed them at bind.
    pub packed: &'c [u8],
    /// Active adapter terms of the step's site.
    pub terms: SiteTerms<'c>,
    /// Gradient accumulators of the site's terms, on backward steps.
    pub grads: SiteGrads<'c>,
    /// On backward steps: bit `i` set when output `i` already holds a gradient to add to.
    pub accumulate: u32,
}

impl<'c, 'm> Call<'c, 'm> {
    /// The error for operands that do not fit.
    pub fn operands(&self) -> KernelError {
        KernelError::Operands(self.op)
    }

    /// The attribute record as `A`.
    ///
    /// # Errors
    /// [`KernelError::Operands`] when the record is not an `A`.
    pub fn attrs<A: Attrs>(&self) -> Result<&'c A, KernelError> {
        A::read(self.attrs).ok_or(KernelError::Operands(self.op))
    }

    /// Input `index`.
    ///
    /// # Errors
    /// [`KernelError::Operands`] when there is none.
    pub fn input(&self, index: usize) -> Result<View<'c>, KernelError> {
        self.inputs.get(index).copied().ok_or(KernelError::Operands(self.op))
    }

    /// The elements of input `index`.
    ///
    /// # Errors
    /// [`KernelError::Operands`] when there is none or its type is another.
    pub fn slice<T: ingraft_tensor::bytes::Element>(&self, index: usize) -> Result<&'c [T], KernelError> {
        self.input(index)?.as_slice().ok_or(KernelError::Operands(self.op))
    }

    /// Output `index`.
    ///
    /// # Errors
    /// [`KernelError::Operands`] when there is none.
    pub fn output(&mut self, index: usize) -> Result<&mut ViewMut<'m>, KernelError> {
        let error = KernelError::Operands(self.op);
        self.outputs.get_mut(index).ok_or(error)
    }

    /// The elements of output `index`.
    ///
    /// # Errors
    /// [`KernelError::Operands`] when there is none or its type is another.
    pub fn slice_mut<T: ingraft_tensor::bytes::Element>(
        &mut self,
        index: usize,
    ) -> Result<&mut [T], KernelError> {
        let error = KernelError::Operands(self.op);
        self.output(index)?.as_slice().ok_or(error)
    }

    /// The elements of output 0 and, when present, the mask bits in output 1.
    ///
    /// # Errors
    /// [`KernelError::Operands`] when output 0 is missing or of another type, or
    /// the mask is not one bit per element.
    pub fn out_and_mask<T: ingraft_tensor::bytes::Element>(
        &mut self,
    ) -> Result<(&mut [T], Option<&mut [u8]>), KernelError> {
        let error = KernelError::Operands(self.op);
        let (first, rest) = self.outputs.split_first_mut().ok_or(error)?;
        let out: &mut [T] = first.as_slice().ok_or(error)?;
        let mask = rest.first_mut().map(|mask| mask.bytes());
        if mask.as_ref().is_some_and(|m| m.len() != out.len().div_ceil(8)) {
            return Err(error);
        }
        Ok((out, mask))
    }
}
