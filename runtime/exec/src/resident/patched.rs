//! A copy of the weights that overlays are written into.

use ingraft_adapter::{HeadView, TermSource};
use ingraft_kernel::patch::log_words;
use ingraft_kernel::{KernelError, SiteTerms, Sites, Sparse, SparseValues, Step, Target};

use super::{Record, fill, needs};
use crate::{ExecError, Session};

/// A copy of a session's weights, as its target packs them, for adapters that are integer overlays, one at a time.
///
/// The session's own weights stay the base's: which of them acts is chosen per run, as with any adapter. The log keeps
/// every code that was overwritten, so that the copy goes from one adapter to the next to the bit.
#[derive(Debug)]
pub struct PatchedCopy<'p> {
    memory: &'p mut [u8],
    log: &'p mut [u32],
}

/// An adapter whose overlays stand in a [`PatchedCopy`]: a [`TermSource`] that computes the same bytes as the adapter.
#[derive(Debug)]
pub struct Patch<'c, S> {
    source: S,
    memory: &'c [u8],
}

impl<'p> PatchedCopy<'p> {
    /// Bytes of a copy of every weight of `session` that takes an integer overlay.
    ///
    /// # Errors
    /// [`ExecError::Step`].
    pub fn bytes<T: Target>(session: &Session<'_, '_, T>) -> Result<usize, ExecError> {
        needs(session, |_| EMPTY)
    }

    /// Words of log that the overlays of `source` take: one for each entry, and one for each channel of their sites.
    pub fn log_words<T: Target, S: TermSource>(session: &Session<'_, '_, T>, source: &S) -> usize {
        let sites = 0..session.plan().site_count();
        let words = sites.filter_map(|site| overlay(&source.terms(site)).map(|overlay| log_words(&overlay)));
        words.fold(0, usize::saturating_add)
    }

    /// Copies the base's weights into `memory`, of at least [`Self::bytes`], 16-byte aligned. `log` bounds the adapters
    /// that may be written: [`Self::log_words`] of each.
    ///
    /// # Errors
    /// [`ExecError::MemoryTooSmall`], or [`ExecError::Step`].
    pub fn new<T: Target>(
        session: &Session<'_, '_, T>,
        memory: &'p mut [u8],
        log: &'p mut [u32],
    ) -> Result<Self, ExecError> {
        fill(session, memory, |_| EMPTY)?;
        Ok(Self { memory, log })
    }

    /// The copy as it stands, in the target's own form.
    pub fn bytes_of_copy(&self) -> &[u8] {
        self.memory
    }

    /// Writes the overlays of `source` into the copy, after taking out the present ones.
    ///
    /// Terms of other kinds stay as they are, and so does an overlay that leaves int8 or whose weight has 16 MiB. Where `source` panics, the overlays
    /// that were written by then are in the log: the next call, or [`Self::revert`], takes them out.
    ///
    /// # Errors
    /// [`ExecError::LogTooSmall`], or [`ExecError::Step`]; the copy is then the base's.
    pub fn apply<S: TermSource, T: Target>(
        &mut self,
        session: &Session<'_, '_, T>,
        source: S,
    ) -> Result<Patch<'_, S>, ExecError> {
        self.revert(session)?;
        let (needed, supplied) = (Self::log_words(session, &source), self.log.len());
        if needed > supplied {
            return Err(ExecError::LogTooSmall { needed, supplied });
        }
        let mut used = 0usize;
        let written = self.for_each_weight(session, |memory, log, site, step, mut record| {
            let error = KernelError::Memory(step.op);
            let terms = source.terms(site);
            let Some(overlay) = overlay(&terms) else { return Ok(()) };
            let [weights, _] = record.of_mut(memory).ok_or(error)?;
            let log = log.get_mut(used..).ok_or(error)?;
            let count = match session.target().patch(step, weights, &overlay, log) {
                Err(KernelError::Terms(_)) => return Ok(()),
                count => count?,
            };
            record.logged = [used, count];
            used = used.saturating_add(count);
            record.write(memory, site).ok_or(error)
        });
        if written.is_err() {
            self.revert(session)?;
        }
        written.map(|()| Patch { source, memory: self.memory })
    }

    /// Restores the base's weights.
    ///
    /// # Errors
    /// [`ExecError::Step`] for a session of another plan or target.
    pub fn revert<T: Target>(&mut self, session: &Session<'_, '_, T>) -> Result<(), ExecError> {
        self.for_each_weight(session, |memory, log, site, step, mut record| {
            let error = KernelError::Memory(step.op);
            let [first, count] = record.logged;
            if count == 0 {
                return Ok(());
            }
            let entries = log.get(first..).and_then(|log| log.get(..count)).ok_or(error)?;
            let [weights, _] = record.of_mut(memory).ok_or(error)?;
            session.target().unpatch(step, weights, entries)?;
            record.logged = [0; 2];
            record.write(memory, site).ok_or(error)
        })
    }

    /// Calls `visit` with every site whose weight the copy holds.
    fn for_each_weight<T: Target>(
        &mut self,
        session: &Session<'_, '_, T>,
        mut visit: impl FnMut(&mut [u8], &mut [u32], usize, &Step<'_>, Record) -> Result<(), KernelError>,
    ) -> Result<(), ExecError> {
        for site in 0..session.plan().site_count() {
            let record = Record::read(self.memory, site).filter(|record| record.needs.weights != 0);
            let Some((record, index)) = record.zip(session.step_of(site)) else { continue };
            let step = session.place(index)?;
            let done = visit(self.memory, self.log, site, &step, record);
            done.map_err(|error| ExecError::Step { index: index as u32, op: step.op, error })?;
        }
        Ok(())
    }
}

/// The integer overlay of a site, where it is what changes the weight.
fn overlay<'t>(terms: &SiteTerms<'t>) -> Option<Sparse<'t>> {
    let integer = |sparse: &Sparse<'_>| matches!(sparse.values, SparseValues::I16(_));
    terms.sparse.filter(|sparse| integer(sparse) && terms.patched.is_none())
}

/// What a weight without changes looks like to a target.
const EMPTY: SiteTerms<'static> = SiteTerms {
    sparse: Some(Sparse { indptr: &[], indices: &[], values: SparseValues::I16(&[]) }),
    ..SiteTerms::NONE
};

impl<S: TermSource> TermSource for Patch<'_, S> {
    fn terms(&self, index: usize) -> SiteTerms<'_> {
        let mut terms = self.source.terms(index);
        let record = Record::read(self.memory, index).filter(|record| record.logged != [0; 2]);
        terms.packed = record.and_then(|record| record.of(self.memory)).unwrap_or_default();
        terms
    }

    fn head(&self) -> Option<HeadView<'_>> {
        self.source.head()
    }
}
