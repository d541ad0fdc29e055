//! Targets whose memory the host addresses: tables of kernels over a byte slice.

use ingraft_tensor::{View, ViewMut, bytes};

use crate::descent::HostDescent;
use crate::in_place::{Work, asked};
use crate::{
    Call, Choice, Kernel, KernelError, MAX_INPUTS, MAX_OUTPUTS, Place, REFERENCE, SiteGrads, SiteTerms, Span,
    Sparse, Step, Target, TermsBytes, find, packed_terms,
};

/// The memory of a host target.
pub type HostMemory = [u8];

/// A target made of kernel tables, searched in order.
///
/// The scalar reference is `Host::SCALAR`; a faster target puts its own table
/// before it and inherits what it does not list.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    name: &'static str,
    tables: [&'static [Kernel]; 4],
    descent: Option<HostDescent>,
}

impl Host {
    /// The scalar reference target.
    pub const SCALAR: Self = Self::only("scalar", REFERENCE);

    /// A target that prefers `first`, then `second`, then the scalar reference.
    pub const fn new(name: &'static str, first: &'static [Kernel], second: &'static [Kernel]) -> Self {
        Self { name, tables: [first, second, REFERENCE, &[]], descent: None }
    }

    /// A target that prefers `first`, then what this one of at most three tables does.
    pub const fn under(self, name: &'static str, first: &'static [Kernel]) -> Self {
        let [second, third, fourth, _] = self.tables;
        Self { name, tables: [first, second, third, fourth], ..self }
    }

    /// A target of `table` alone: firmware that links only the operators its plan uses.
    pub const fn only(name: &'static str, table: &'static [Kernel]) -> Self {
        Self { name, tables: [table, &[], &[], &[]], descent: None }
    }

    /// The same, with a loop of its own for the moves of an optimizer.
    pub const fn descending(self, descent: HostDescent) -> Self {
        Self { descent: Some(descent), ..self }
    }

    /// The tables, most preferred first.
    pub fn tables(&self) -> &[&'static [Kernel]] {
        &self.tables
    }

    /// The row of the step's choice, or else the first that computes it.
    pub(crate) fn row(&self, step: &Step<'_>) -> Result<&'static Kernel, KernelError> {
        let chosen = step.choice.and_then(|Choice(code)| {
            let [table, row] = code.to_le_bytes();
            self.tables.get(usize::from(table))?.get(usize::from(row))
        });
        // A choice of another target or step is no more than a wrong guess.
        match chosen.filter(|row| row.matches(step)) {
            Some(row) => Ok(row),
            None => find(&self.tables, step),
        }
    }

    fn dispatch(
        &self,
        memory: &mut [u8],
        step: &Step<'_>,
        terms: SiteTerms<'_>,
        grads: SiteGrads<'_>,
        accumulate: u32,
    ) -> Result<(), KernelError> {
        let row = self.row(step)?;
        let memory_error = KernelError::Memory(step.op);
        let outputs = step.outputs().iter().filter_map(|o| match o.place {
            Place::Memory(span) => Some(span),
            Place::Plan(_) => None,
        });
        let mut split = Split::<SPANS>::new(memory, outputs.chain([step.workspace])).ok_or(memory_error)?;
        let mut outputs = [const { ViewMut::empty() }; MAX_OUTPUTS];
        for (slot, operand) in outputs.iter_mut().zip(step.outputs()) {
            let Place::Memory(span) = operand.place else { return Err(memory_error) };
            let bytes = split.take(span).ok_or(memory_error)?;
            *slot = ViewMut::new(operand.dtype, operand.shape, bytes).ok_or(memory_error)?;
        }
        let workspace = split.take(step.workspace).ok_or(memory_error)?;
        let mut inputs = [View::EMPTY; MAX_INPUTS];
        let in_place = row.in_place.filter(|_| asked(step));
        for (slot, operand) in inputs.iter_mut().zip(step.inputs()).skip(usize::from(in_place.is_some())) {
            let bytes = match operand.place {
                Place::Memory(span) => split.read(span).ok_or(memory_error)?,
                Place::Plan(bytes) => bytes,
            };
            *slot = View::new(operand.dtype, operand.shape, bytes).ok_or(memory_error)?;
        }
        let mut packed = split.read(step.packed).ok_or(memory_error)?;
        let mut terms = terms;
        packed_terms::exchanged(row, step, &mut inputs, &mut packed, &mut terms).ok_or(memory_error)?;
        if let Some(in_place) = in_place {
            let inputs = inputs.get(..step.inputs().len()).ok_or(memory_error)?;
            let held = outputs.first_mut().ok_or(memory_error)?.bytes();
            return (in_place.run)(&mut Work { step, row, inputs, terms, grads, packed }, held, workspace);
        }
        (row.run)(&mut Call {
            op: step.op,
            attrs: step.attrs,
            inputs: inputs.get(..step.inputs().len()).ok_or(memory_error)?,
            outputs: outputs.get_mut(..step.outputs().len()).ok_or(memory_error)?,
            workspace,
            packed,
            terms,
            grads,
            accumulate,
        })
    }
}

impl Target for Host {
    type Memory = HostMemory;

    fn name(&self) -> &'static str {
        self.name
    }

    fn capacity(&self, memory: &[u8]) -> usize {
        if memory.as_ptr().align_offset(bytes::ALIGN) == 0 { memory.len() } else { 0 }
    }

    fn write(&self, memory: &mut [u8], offset: usize, bytes: &[u8]) -> Option<()> {
        let room = memory.get_mut(offset..offset.checked_add(bytes.len())?)?;
        room.iter_mut().zip(bytes).for_each(|(r, b)| *r = *b);
        Some(())
    }

    fn read(&self, memory: &[u8], offset: usize, bytes: &mut [u8]) -> Option<()> {
        let source = memory.get(offset..offset.checked_add(bytes.len())?)?;
        bytes.iter_mut().zip(source).for_each(|(b, s)| *b = *s);
        Some(())
    }

    fn is_host(&self) -> bool {
        true
    }

    fn descent(&self) -> Option<HostDescent> {
        self.descent
    }

    fn view<'m>(&self, memory: &'m [u8], span: Span) -> Option<&'m [u8]> {
        memory.get(span.offset..span.end())
    }

    fn view_mut<'m>(&self, memory: &'m mut [u8], span: Span) -> Option<&'m mut [u8]> {
        memory.get_mut(span.offset..span.end())
    }

    fn kernel_name(&self, step: &Step<'_>) -> Result<&'static str, KernelError> {
        find(&self.tables, step).map(|row| row.name)
    }

    fn choose(&self, step: &Step<'_>) -> Result<Choice, KernelError> {
        let row = find(&self.tables, step)?;
        let place = self.tables.iter().enumerate().find_map(|(table, rows)| {
            let index = rows.iter().position(|candidate| core::ptr::eq(candidate, row))?;
            Some(Choice(u16::from_le_bytes([u8::try_from(table).ok()?, u8::try_from(index).ok()?])))
        });
        place.ok_or(KernelError::Unsupported(step.op))
    }

    fn workspace_bytes(&self, step: &Step<'_>) -> usize {
        self.row(step).map_or(0, |row| {
            let before = row.in_place.map_or(0, |in_place| (in_place.workspace)(step));
            before.saturating_add((row.workspace)(step))
        })
    }

    fn packed_bytes(&self, step: &Step<'_>) -> usize {
        self.row(step).map_or(0, |row| (row.packed)(step))
    }

    fn prepare(&self, memory: &mut [u8], step: &Step<'_>) -> Result<(), KernelError> {
        let row = self.row(step)?;
        let span = step.packed;
        let packed = memory.get_mut(span.offset..span.end()).ok_or(KernelError::Memory(step.op))?;
        (row.pack)(step, packed)
    }

    fn terms_bytes(&self, step: &Step<'_>, terms: &SiteTerms<'_>) -> TermsBytes {
        self.row(step).map_or(TermsBytes::default(), |row| packed_terms::needs(row, step, terms))
    }

    fn pack_terms(
        &self,
        step: &Step<'_>,
        terms: &SiteTerms<'_>,
        weights: &mut [u8],
        factors: &mut [u8],
    ) -> Result<(), KernelError> {
        packed_terms::pack(self.row(step)?, step, terms, weights, factors)
    }

    fn patch(
        &self,
        step: &Step<'_>,
        weights: &mut [u8],
        overlay: &Sparse<'_>,
        log: &mut [u32],
    ) -> Result<usize, KernelError> {
        packed_terms::write(self.row(step)?, step, weights, overlay, Some(log))
    }

    fn unpatch(&self, step: &Step<'_>, weights: &mut [u8], log: &[u32]) -> Result<(), KernelError> {
        packed_terms::revert(self.row(step)?, step, weights, log)
    }

    fn run(&self, memory: &mut [u8], step: &Step<'_>, terms: SiteTerms<'_>) -> Result<(), KernelError> {
        self.dispatch(memory, step, terms, SiteGrads::default(), 0)
    }

    fn run_backward(
        &self,
        memory: &mut [u8],
        step: &Step<'_>,
        terms: SiteTerms<'_>,
        grads: SiteGrads<'_>,
        accumulate: u32,
    ) -> Result<(), KernelError> {
        self.dispatch(memory, step, terms, grads, accumulate)
    }
}

/// Memory split into what is written and the gaps between, which may be read.
///
/// What is written must not overlap; inputs may share bytes with each other but
/// not with anything written.
pub(crate) struct Split<'m, const N: usize> {
    written: [Option<(Span, &'m mut [u8])>; N],
    gaps: [(usize, &'m [u8]); N],
    /// What lies behind the last written byte.
    tail: (usize, &'m [u8]),
}

impl<'m, const N: usize> Split<'m, N> {
    /// `None` for more than `N` spans, overlapping ones, or some past the end.
    pub(crate) fn new(memory: &'m mut [u8], written: impl Iterator<Item = Span>) -> Option<Self> {
        let mut spans = [Span { offset: usize::MAX, len: 0 }; N];
        let mut slots = spans.iter_mut();
        for span in written.filter(|span| span.len != 0) {
            *slots.next()? = span;
        }
        sort(&mut spans);
        let mut split =
            Self { written: [const { None }; N], gaps: [const { (0, &[] as &[u8]) }; N], tail: (0, &[]) };
        let (mut rest, mut base) = (memory, 0usize);
        let (mut gaps, mut written) = (split.gaps.iter_mut(), split.written.iter_mut());
        for span in spans.iter().filter(|span| span.len != 0) {
            let (gap, tail) = rest.split_at_mut_checked(span.offset.checked_sub(base)?)?;
            let (bytes, tail) = tail.split_at_mut_checked(span.len)?;
            *gaps.next()? = (base, gap);
            *written.next()? = Some((*span, bytes));
            (rest, base) = (tail, span.end());
        }
        split.tail = (base, rest);
        Some(split)
    }

    /// The written bytes of `span`, once.
    pub(crate) fn take(&mut self, span: Span) -> Option<&'m mut [u8]> {
        if span.len == 0 {
            return Some(&mut []);
        }
        let slot = self.written.iter_mut().find(|s| s.as_ref().is_some_and(|(have, _)| *have == span))?;
        slot.take().map(|(_, bytes)| bytes)
    }

    /// The bytes of `span`, none of which is written.
    pub(crate) fn read(&self, span: Span) -> Option<&'m [u8]> {
        if span.len == 0 {
            return Some(&[]);
        }
        self.gaps.iter().chain([&self.tail]).find_map(|(base, gap)| {
            let start = span.offset.checked_sub(*base)?;
            gap.get(start..start.checked_add(span.len)?)
        })
    }
}

/// Insertion sort by offset: few entries, and free of panics.
fn sort<const N: usize>(spans: &mut [Span; N]) {
    for end in 1..N {
        for i in (1..=end).rev() {
            match spans.get_mut(i - 1..=i) {
                Some([a, b]) if b.offset < a.offset => core::mem::swap(a, b),
                _ => break,
            }
        }
    }
}

const SPANS: usize = MAX_OUTPUTS + 1;
