//! The contract a target fulfils.

use core::ops::Range;

use crate::descent::{Descent, HostDescent};
use crate::{Choice, KernelError, OpCode, SiteGrads, SiteTerms, Span, Sparse, Step, TermsBytes};

/// What a target wants of a run of a whole schedule ([`Target::begin`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Every step is run by itself.
    Steps,
    /// The steps are run once more, for the target to record; nothing is computed before [`Target::finish`].
    Record,
    /// The schedule is recorded: only terms are wanted.
    Ready,
}

/// A piece of hardware, or one of its instruction sets, that runs steps.
///
/// A target is a plain value. It owns no model and keeps no state between
/// steps; everything it works on is in `Memory`, which the caller owns. Targets
/// with memory the host can address are [`Host`](crate::Host) values; a device
/// target has a handle type of its own.
pub trait Target {
    /// The memory it works in: a byte slice, or a device handle.
    type Memory: ?Sized;

    /// Its name, as in `--target NAME`.
    fn name(&self) -> &'static str;

    /// Usable bytes of `memory`; 0 when it does not start at a 16-byte boundary.
    fn capacity(&self, memory: &Self::Memory) -> usize;

    /// Copies `bytes` into `memory` at `offset`; `None` when they do not fit.
    fn write(&self, memory: &mut Self::Memory, offset: usize, bytes: &[u8]) -> Option<()>;

    /// Copies out of `memory` from `offset` into `bytes`; `None` past the end.
    fn read(&self, memory: &Self::Memory, offset: usize, bytes: &mut [u8]) -> Option<()>;

    /// Whether the host addresses the memory, so that [`Self::view`] answers.
    fn is_host(&self) -> bool {
        false
    }

    /// The bytes of `span` where they are; `None` past the end, and where the host does not address the memory.
    fn view<'m>(&self, _memory: &'m Self::Memory, _span: Span) -> Option<&'m [u8]> {
        None
    }

    /// As [`Self::view`], to write.
    fn view_mut<'m>(&self, _memory: &'m mut Self::Memory, _span: Span) -> Option<&'m mut [u8]> {
        None
    }

    /// The name of the kernel that will run `step`.
    ///
    /// # Errors
    /// [`KernelError::Unsupported`] or [`KernelError::Operands`]. Called for every step at bind.
    fn kernel_name(&self, step: &Step<'_>) -> Result<&'static str, KernelError>;

    /// The kernel that will run `step`, to be kept in [`Step::choice`] so that no run has to look for it.
    ///
    /// # Errors
    /// As [`Self::kernel_name`].
    fn choose(&self, step: &Step<'_>) -> Result<Choice, KernelError>;

    /// Scratch bytes `step` needs.
    fn workspace_bytes(&self, step: &Step<'_>) -> usize;

    /// Bytes this target packs the weights of `step` into; 0 when it uses them in place.
    fn packed_bytes(&self, step: &Step<'_>) -> usize;

    /// Packs the weights of `step` into `step.packed`. Called once per step at bind.
    ///
    /// # Errors
    /// [`KernelError::Memory`] when the memory is too small.
    fn prepare(&self, memory: &mut Self::Memory, step: &Step<'_>) -> Result<(), KernelError>;

    /// Bytes this target packs `terms` of `step` into; none for terms it uses as they are.
    fn terms_bytes(&self, _step: &Step<'_>, _terms: &SiteTerms<'_>) -> TermsBytes {
        TermsBytes::default()
    }

    /// Packs `terms` of `step` into memory of the caller, to be passed to [`Self::run`] as [`SiteTerms::packed`] beside
    /// the same terms.
    ///
    /// # Errors
    /// [`KernelError::Memory`] for other lengths than [`Self::terms_bytes`] says, [`KernelError::Terms`] for an overlay
    /// with sums beyond int8.
    fn pack_terms(
        &self,
        _step: &Step<'_>,
        _terms: &SiteTerms<'_>,
        _weights: &mut [u8],
        _factors: &mut [u8],
    ) -> Result<(), KernelError> {
        Ok(())
    }

    /// Writes an integer overlay into `weights`, which [`Self::pack_terms`] made of an overlay without entries, and says
    /// in how many words of `log`, of at least [`log_words`](crate::patch::log_words), stands what was there before.
    ///
    /// # Errors
    /// [`KernelError::Terms`] for a log that is too short, sums beyond int8, or a weight of 16 MiB and more; nothing is then
    /// changed.
    fn patch(
        &self,
        step: &Step<'_>,
        _weights: &mut [u8],
        _overlay: &Sparse<'_>,
        _log: &mut [u32],
    ) -> Result<usize, KernelError> {
        Err(KernelError::Terms(step.op))
    }

    /// Takes an overlay out of `weights` again: the words that [`Self::patch`] logged.
    ///
    /// # Errors
    /// [`KernelError::Memory`] for weights of another step.
    fn unpatch(&self, step: &Step<'_>, _weights: &mut [u8], _log: &[u32]) -> Result<(), KernelError> {
        Err(KernelError::Terms(step.op))
    }

    /// Computes one forward step with the terms active at its site.
    ///
    /// # Errors
    /// Any [`KernelError`]; none for a step that was accepted at bind, with terms that were checked at attach.
    fn run(
        &self,
        memory: &mut Self::Memory,
        step: &Step<'_>,
        terms: SiteTerms<'_>,
    ) -> Result<(), KernelError>;

    /// Computes one backward step: gradients of inputs into its outputs, of the
    /// site's terms into `grads`. Bit `i` of `accumulate` adds to output `i`
    /// instead of overwriting it.
    ///
    /// # Errors
    /// As [`Self::run`].
    fn run_backward(
        &self,
        memory: &mut Self::Memory,
        step: &Step<'_>,
        terms: SiteTerms<'_>,
        grads: SiteGrads<'_>,
        accumulate: u32,
    ) -> Result<(), KernelError>;

    /// Whether `step`, forward or backward, can be run with `terms`. Called before training begins.
    ///
    /// # Errors
    /// [`KernelError::Terms`].
    fn check_terms(&self, _step: &Step<'_>, _terms: &SiteTerms<'_>) -> Result<(), KernelError> {
        Ok(())
    }

    /// Brings `values` to where steps read terms, as they are now: terms of later runs that are parts of them, by their
    /// address, are taken from there. A target that reads the host's memory has nothing to do.
    ///
    /// # Errors
    /// [`KernelError::Device`].
    fn mirror(&self, _memory: &mut Self::Memory, _values: &[u8]) -> Result<(), KernelError> {
        Ok(())
    }

    /// Adds to `gradients` what backward steps added up for parts of them since the last call, which may be the first: from
    /// then on they need not write them. A target that writes the host's memory has nothing to do.
    ///
    /// # Errors
    /// [`KernelError::Device`].
    fn collect(&self, _memory: &mut Self::Memory, _gradients: &mut [f32]) -> Result<(), KernelError> {
        Ok(())
    }

    /// Clips that can be under way at once in `memory`: its lanes, each with activations of its own.
    fn lanes(&self, _memory: &Self::Memory) -> usize {
        1
    }

    /// From now on reads, writes and runs are of lane `lane`; what other lanes were told to run goes on meanwhile. Gradients
    /// of lanes stand apart until [`Self::join`].
    ///
    /// # Errors
    /// [`KernelError::Device`].
    fn select(&self, _memory: &mut Self::Memory, _lane: usize) -> Result<(), KernelError> {
        Ok(())
    }

    /// Adds gradients of all lanes up, in the order of lanes: to the bits of one lane that ran what they ran, one after the
    /// other. Selects the first.
    ///
    /// # Errors
    /// [`KernelError::Device`].
    fn join(&self, _memory: &mut Self::Memory) -> Result<(), KernelError> {
        Ok(())
    }

    /// Moves parameters in memory of the host, faster than the optimizer's own loop and to the same bits.
    fn descent(&self) -> Option<HostDescent> {
        None
    }

    /// Whether parameters can be moved where they are mirrored ([`Self::descend`]).
    fn descends(&self) -> bool {
        false
    }

    /// Calls `take` with the sums of squares of each group's gradients, parts of what is collected, as they stand there: those
    /// of all runs of a group ([`crate::descent::sum_of_squares`]), in order. Where [`Self::descends`].
    ///
    /// # Errors
    /// [`KernelError::Device`].
    fn squares(
        &self,
        _memory: &mut Self::Memory,
        _groups: &mut dyn Iterator<Item = (&[f32], f32)>,
        _take: &mut dyn FnMut(f32),
    ) -> Result<(), KernelError> {
        Err(KernelError::Unsupported(OpCode::Copy))
    }

    /// Moves groups of parameters where they are mirrored, by gradients where they are collected, which are then zero. The
    /// host's values stay as they were, until [`Self::recall`]. Where [`Self::descends`].
    ///
    /// # Errors
    /// [`KernelError::Device`].
    fn descend(
        &self,
        _memory: &mut Self::Memory,
        _groups: &mut dyn Iterator<Item = Descent<'_>>,
    ) -> Result<(), KernelError> {
        Err(KernelError::Unsupported(OpCode::Copy))
    }

    /// Brings back `values` that were mirrored, as they are there now. Where [`Self::descends`].
    ///
    /// # Errors
    /// [`KernelError::Device`].
    fn recall(&self, _memory: &mut Self::Memory, _values: &mut [u8]) -> Result<(), KernelError> {
        Err(KernelError::Unsupported(OpCode::Copy))
    }

    /// Puts `gradients` in place of what backward steps added up since they were collected. Where [`Self::descends`].
    ///
    /// # Errors
    /// [`KernelError::Device`].
    fn deposit(&self, _memory: &mut Self::Memory, _gradients: &[f32]) -> Result<(), KernelError> {
        Err(KernelError::Unsupported(OpCode::Copy))
    }

    /// Forgets what was recorded, mirrored and collected in `memory`. Called at bind: another schedule begins.
    fn forget(&self, _memory: &mut Self::Memory) {}

    /// Begins a run of `steps`, all forward or all backward, with the terms of `sources` sources. Answers other than
    /// [`Replay::Steps`] are followed by [`Self::update`] for each source of every step with a site, in order, and by
    /// [`Self::finish`].
    ///
    /// # Errors
    /// [`KernelError::Device`].
    fn begin(
        &self,
        _memory: &mut Self::Memory,
        _steps: Range<usize>,
        _sources: usize,
    ) -> Result<Replay, KernelError> {
        Ok(Replay::Steps)
    }

    /// Sets the terms of the next step of this run that has a site. While recording, [`Self::run`] or
    /// [`Self::run_backward`] follows: for each sample of a batch with terms of its own, or once behind all of them where the
    /// target [takes them together](Self::takes_batch).
    ///
    /// # Errors
    /// [`KernelError::Device`].
    fn update(
        &self,
        _memory: &mut Self::Memory,
        _op: OpCode,
        _terms: SiteTerms<'_>,
    ) -> Result<(), KernelError> {
        Ok(())
    }

    /// Whether `step` is recorded once for all samples of a batch, whose terms [`Self::update`] was given one after the other.
    fn takes_batch(&self, _step: &Step<'_>) -> bool {
        false
    }

    /// Computes what was recorded, with the terms as set.
    ///
    /// # Errors
    /// [`KernelError::Device`].
    fn finish(&self, _memory: &mut Self::Memory) -> Result<(), KernelError> {
        Ok(())
    }
}
