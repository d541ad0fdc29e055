//! Adapters in the form that a session's target works with, in memory of the caller.
//!
//! An [`Adapter`](ingraft_adapter::Adapter) is used as its file has it, so a target that packs weights has to pack, in
//! every run, what the adapter puts in their place. [`Resident`] does it once: afterwards a fused weight or an overlay
//! runs at the base's speed, and changing between resident adapters and the base is still an argument of the run.
//! [`PatchedCopy`] is for adapters that are overlays: a copy of the packed weights that they are written into and taken
//! out of to the bit, in a time that depends on their entries alone.

use ingraft_adapter::{HeadView, TermSource};
use ingraft_kernel::{KernelError, PackedTerms, SiteTerms, Sites, Step, Target, TermsBytes};
use ingraft_tensor::arrays::{arrays, arrays_mut};
use ingraft_tensor::bytes;

use crate::{ExecError, Session};

mod patched;

pub use patched::{Patch, PatchedCopy};

/// An adapter with its terms packed for the target of a session.
///
/// Implements [`TermSource`]: pass it to [`Session::run`] in the adapter's place. It computes the same bytes.
#[derive(Debug)]
pub struct Resident<'p, S> {
    source: S,
    memory: &'p [u8],
}

impl<'p, S: TermSource> Resident<'p, S> {
    /// Bytes that `source` needs on the target of `session`: known before anything is packed.
    ///
    /// # Errors
    /// [`ExecError::Step`].
    pub fn bytes<T: Target>(session: &Session<'_, '_, T>, source: &S) -> Result<usize, ExecError> {
        needs(session, |site| source.terms(site))
    }

    /// Packs `source` into `memory`, of at least [`Self::bytes`], 16-byte aligned.
    ///
    /// A term that cannot be packed, such as an overlay that leaves int8, stays as it is and costs what it costs.
    ///
    /// # Errors
    /// [`ExecError::MemoryTooSmall`], or [`ExecError::Step`].
    pub fn new<T: Target>(
        session: &Session<'_, '_, T>,
        source: S,
        memory: &'p mut [u8],
    ) -> Result<Self, ExecError> {
        fill(session, memory, |site| source.terms(site))?;
        Ok(Self { source, memory })
    }

    /// The adapter as it was given.
    pub fn source(&self) -> &S {
        &self.source
    }
}

impl<S: TermSource> TermSource for Resident<'_, S> {
    fn terms(&self, index: usize) -> SiteTerms<'_> {
        let mut terms = self.source.terms(index);
        terms.packed =
            Record::read(self.memory, index).and_then(|record| record.of(self.memory)).unwrap_or_default();
        terms
    }

    fn head(&self) -> Option<HeadView<'_>> {
        self.source.head()
    }
}

/// Where the packed terms of a site stand. Records come first, one per site of the plan.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    offset: usize,
    needs: TermsBytes,
    /// First word of the log, and how many.
    logged: [usize; 2],
}

/// Bytes of a [`Record`].
const RECORD: usize = 20;
/// Packed terms begin at cache lines of the memory.
const LINE: usize = 64;

impl Record {
    fn read(memory: &[u8], site: usize) -> Option<Self> {
        let bytes = memory.get(site.checked_mul(RECORD)?..)?.first_chunk::<RECORD>()?;
        let mut words = [0usize; 5];
        let read = arrays(bytes).0.iter().map(|b| u32::from_le_bytes(*b) as usize);
        words.iter_mut().zip(read).for_each(|(word, value)| *word = value);
        let [offset, weights, factors, first, count] = words;
        Some(Self { offset, needs: TermsBytes { weights, factors }, logged: [first, count] })
    }

    fn write(self, memory: &mut [u8], site: usize) -> Option<()> {
        let bytes = memory.get_mut(site.checked_mul(RECORD)?..)?.first_chunk_mut::<RECORD>()?;
        let [first, count] = self.logged;
        let words = [self.offset, self.needs.weights, self.needs.factors, first, count];
        for (to, word) in arrays_mut(bytes).0.iter_mut().zip(words) {
            *to = u32::try_from(word).ok()?.to_le_bytes();
        }
        Some(())
    }

    fn of(self, memory: &[u8]) -> Option<PackedTerms<'_>> {
        let (weights, rest) = memory.get(self.offset..)?.split_at_checked(self.needs.weights)?;
        let factors = rest.get(padding(self.needs.weights)..)?.get(..self.needs.factors)?;
        Some(PackedTerms { weights, factors })
    }

    fn of_mut(self, memory: &mut [u8]) -> Option<[&mut [u8]; 2]> {
        let (weights, rest) = memory.get_mut(self.offset..)?.split_at_mut_checked(self.needs.weights)?;
        let factors = rest.get_mut(padding(self.needs.weights)..)?.get_mut(..self.needs.factors)?;
        Some([weights, factors])
    }
}

fn padded(len: usize) -> usize {
    len.checked_next_multiple_of(LINE).unwrap_or(usize::MAX)
}

fn padding(len: usize) -> usize {
    padded(len).wrapping_sub(len)
}

fn table_bytes<T: Target>(session: &Session<'_, '_, T>) -> usize {
    padded(session.plan().site_count().saturating_mul(RECORD))
}

/// Bytes of the packed terms of all sites.
fn needs<'s, T: Target>(
    session: &Session<'_, '_, T>,
    terms: impl Fn(usize) -> SiteTerms<'s>,
) -> Result<usize, ExecError> {
    let mut total = table_bytes(session);
    for_each_site(session, |site, step| {
        let TermsBytes { weights, factors } = session.target().terms_bytes(step, &terms(site));
        total = total.saturating_add(padded(weights)).saturating_add(padded(factors));
        Ok(())
    })?;
    Ok(total)
}

/// Packs the terms of all sites.
fn fill<'s, T: Target>(
    session: &Session<'_, '_, T>,
    memory: &mut [u8],
    terms: impl Fn(usize) -> SiteTerms<'s>,
) -> Result<(), ExecError> {
    let aligned = memory.as_ptr().align_offset(bytes::ALIGN) == 0;
    let (needed, supplied) = (needs(session, &terms)?, if aligned { memory.len() } else { 0 });
    if supplied < needed {
        return Err(ExecError::MemoryTooSmall { needed, supplied });
    }
    let mut next = table_bytes(session);
    memory.get_mut(..next).unwrap_or(&mut []).fill(0);
    for_each_site(session, |site, step| {
        let terms = terms(site);
        let needs = session.target().terms_bytes(step, &terms);
        let record = Record { offset: next, needs, ..Record::default() };
        let [weights, factors] = record.of_mut(memory).ok_or(KernelError::Memory(step.op))?;
        match session.target().pack_terms(step, &terms, weights, factors) {
            // Used as the adapter has it.
            Err(KernelError::Terms(_)) => return Ok(()),
            packed => packed?,
        }
        next = next.saturating_add(padded(needs.weights)).saturating_add(padded(needs.factors));
        record.write(memory, site).ok_or(KernelError::Memory(step.op))
    })
}

/// Calls `visit` with every site whose weight a single forward step applies, and that step. A weight that several steps
/// share may be packed differently in each, so its terms are used as they are.
fn for_each_site<T: Target>(
    session: &Session<'_, '_, T>,
    mut visit: impl FnMut(usize, &Step<'_>) -> Result<(), KernelError>,
) -> Result<(), ExecError> {
    let plan = session.plan();
    for site in 0..plan.site_count() {
        let Some(index) = session.only_step_of(site) else { continue };
        let step = session.place(index)?;
        visit(site, &step).map_err(|error| ExecError::Step { index: index as u32, op: step.op, error })?;
    }
    Ok(())
}
