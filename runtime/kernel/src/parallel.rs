//! A host target whose steps are shared by several workers.

use ingraft_tensor::bytes::align_up;
use ingraft_tensor::{View, ViewMut};

use crate::band::{Band, Bands};
use crate::descent::HostDescent;
use crate::host::Split;
use crate::{
    Call, Choice, Host, HostMemory, Kernel, KernelError, MAX_INPUTS, OpCode, Place, SiteGrads, SiteTerms,
    Span, Sparse, Step, Target, TermsBytes, packed_terms,
};

/// The most workers a step is shared by.
pub const MAX_WORKERS: usize = 16;

/// Workers that the caller owns: threads of a pool, or cores of a board.
pub trait Workers {
    /// How many jobs can run at once; more than [`MAX_WORKERS`] are not used.
    fn count(&self) -> usize;

    /// Runs every job, in any order and on any worker, and returns when all are done.
    fn run(&self, jobs: &mut [Job<'_>]);
}

/// A band of a step, ready to run on any worker.
#[derive(Debug)]
pub struct Job<'j> {
    work: Option<Work<'j>>,
    result: Result<(), KernelError>,
}

#[derive(Debug)]
struct Work<'j> {
    row: &'static Kernel,
    band: Band<'j>,
    inputs: [View<'j>; MAX_INPUTS],
    output: ViewMut<'j>,
    workspace: &'j mut [u8],
    packed: &'j [u8],
    terms: SiteTerms<'j>,
}

impl Job<'_> {
    const EMPTY: Self = Self { work: None, result: Ok(()) };

    /// Computes the band. Once: a second call does nothing.
    pub fn run(&mut self) {
        let Some(work) = self.work.take() else { return };
        let Work { row, band, inputs, output, workspace, packed, terms } = work;
        let op = band.step.op;
        let count = band.step.inputs().len();
        self.result = match inputs.get(..count) {
            Some(inputs) => (row.run)(&mut Call {
                op,
                attrs: band.attrs(),
                inputs,
                outputs: &mut [output],
                workspace,
                packed,
                terms,
                grads: SiteGrads::default(),
                accumulate: 0,
            }),
            None => Err(KernelError::Memory(op)),
        };
    }
}

/// A host target that shares large steps among workers.
///
/// Results are those of the host target alone, to the bit: a band is computed by the same kernel on the same values.
/// Training steps and steps that save a mask run whole. Scratch memory is needed once per worker.
#[derive(Clone, Copy, Debug)]
pub struct Parallel<'w, W> {
    host: Host,
    workers: &'w W,
    grain: usize,
}

impl<'w, W: Workers> Parallel<'w, W> {
    /// `host` on `workers`.
    pub const fn new(host: Host, workers: &'w W) -> Self {
        Self { host, workers, grain: GRAIN }
    }

    /// The same with another smallest share: a worker is woken for no fewer multiply-accumulates than `grain`.
    /// Slow cores, or workers that wake fast, are worth less than the default of 2¹⁸.
    pub const fn with_grain(self, grain: usize) -> Self {
        Self { grain, ..self }
    }

    /// The workers.
    pub const fn workers(&self) -> &'w W {
        self.workers
    }

    /// By how many workers `step` is shared; 1 for a step that runs whole.
    pub fn share_count(&self, step: &Step<'_>) -> usize {
        self.bands(step).map_or(1, |bands| bands.count())
    }

    fn bands<'s, 'a>(&self, step: &'s Step<'a>) -> Option<Bands<'s, 'a>> {
        Bands::new(step, self.workers.count().min(MAX_WORKERS), self.grain)
    }

    fn share(
        &self,
        memory: &mut [u8],
        bands: &Bands<'_, '_>,
        step: &Step<'_>,
        terms: SiteTerms<'_>,
    ) -> Option<Result<(), KernelError>> {
        let row = self.host.row(step).ok()?;
        let share = Span { offset: step.workspace.offset, len: align_up((row.workspace)(step)) };
        let place = |index: usize| {
            let band = bands.get(index)?;
            let Place::Memory(output) = band.step.outputs().first()?.place else { return None };
            let offset = share.offset.checked_add(share.len.checked_mul(index)?)?;
            Some((band, output, Span { offset, ..share }))
        };
        let spans = (0..bands.count()).filter_map(place).flat_map(|(_, output, scratch)| [output, scratch]);
        let mut split = Split::<{ 2 * MAX_WORKERS }>::new(memory, spans)?;
        let mut jobs = [const { Job::EMPTY }; MAX_WORKERS];
        for (index, job) in jobs.iter_mut().take(bands.count()).enumerate() {
            let (band, output, scratch) = place(index)?;
            let operand = *band.step.outputs().first()?;
            let mut inputs = [View::EMPTY; MAX_INPUTS];
            for (slot, operand) in inputs.iter_mut().zip(band.step.inputs()) {
                let bytes = match operand.place {
                    Place::Memory(span) => split.read(span)?,
                    Place::Plan(bytes) => bytes,
                };
                *slot = View::new(operand.dtype, operand.shape, bytes)?;
            }
            let output = ViewMut::new(operand.dtype, operand.shape, split.take(output)?)?;
            let (workspace, mut packed, mut terms) = (split.take(scratch)?, split.read(step.packed)?, terms);
            packed_terms::exchanged(row, &band.step, &mut inputs, &mut packed, &mut terms)?;
            job.work = Some(Work { row, band, inputs, output, workspace, packed, terms });
        }
        let jobs = jobs.get_mut(..bands.count())?;
        self.workers.run(jobs);
        // A job that a pool forgot must not pass for one that is done.
        let finished = |job: &Job<'_>| if job.work.is_none() { job.result } else { Err(forgotten(step.op)) };
        Some(jobs.iter().try_for_each(finished))
    }
}

/// Some microseconds of one core: several times what it costs to wake another.
const GRAIN: usize = 1 << 18;

fn forgotten(op: OpCode) -> KernelError {
    KernelError::Unsupported(op)
}

impl<W: Workers> Target for Parallel<'_, W> {
    type Memory = HostMemory;

    fn name(&self) -> &'static str {
        Target::name(&self.host)
    }

    fn descent(&self) -> Option<HostDescent> {
        self.host.descent()
    }

    fn capacity(&self, memory: &[u8]) -> usize {
        self.host.capacity(memory)
    }

    fn write(&self, memory: &mut [u8], offset: usize, bytes: &[u8]) -> Option<()> {
        self.host.write(memory, offset, bytes)
    }

    fn read(&self, memory: &[u8], offset: usize, bytes: &mut [u8]) -> Option<()> {
        self.host.read(memory, offset, bytes)
    }

    fn is_host(&self) -> bool {
        true
    }

    fn view<'m>(&self, memory: &'m [u8], span: Span) -> Option<&'m [u8]> {
        self.host.view(memory, span)
    }

    fn view_mut<'m>(&self, memory: &'m mut [u8], span: Span) -> Option<&'m mut [u8]> {
        self.host.view_mut(memory, span)
    }

    fn kernel_name(&self, step: &Step<'_>) -> Result<&'static str, KernelError> {
        self.host.kernel_name(step)
    }

    fn choose(&self, step: &Step<'_>) -> Result<Choice, KernelError> {
        self.host.choose(step)
    }

    fn workspace_bytes(&self, step: &Step<'_>) -> usize {
        let one = self.host.workspace_bytes(step);
        self.bands(step).map_or(one, |bands| align_up(one).saturating_mul(bands.count()))
    }

    fn packed_bytes(&self, step: &Step<'_>) -> usize {
        self.host.packed_bytes(step)
    }

    fn prepare(&self, memory: &mut [u8], step: &Step<'_>) -> Result<(), KernelError> {
        self.host.prepare(memory, step)
    }

    fn terms_bytes(&self, step: &Step<'_>, terms: &SiteTerms<'_>) -> TermsBytes {
        self.host.terms_bytes(step, terms)
    }

    fn pack_terms(
        &self,
        step: &Step<'_>,
        terms: &SiteTerms<'_>,
        weights: &mut [u8],
        factors: &mut [u8],
    ) -> Result<(), KernelError> {
        self.host.pack_terms(step, terms, weights, factors)
    }

    fn patch(
        &self,
        step: &Step<'_>,
        weights: &mut [u8],
        overlay: &Sparse<'_>,
        log: &mut [u32],
    ) -> Result<usize, KernelError> {
        self.host.patch(step, weights, overlay, log)
    }

    fn unpatch(&self, step: &Step<'_>, weights: &mut [u8], log: &[u32]) -> Result<(), KernelError> {
        self.host.unpatch(step, weights, log)
    }

    fn run(&self, memory: &mut [u8], step: &Step<'_>, terms: SiteTerms<'_>) -> Result<(), KernelError> {
        let shared = self.bands(step).and_then(|bands| self.share(memory, &bands, step, terms));
        shared.unwrap_or_else(|| {
            let mut whole = *step;
            whole.workspace.len = self.host.workspace_bytes(step);
            self.host.run(memory, &whole, terms)
        })
    }

    fn run_backward(
        &self,
        memory: &mut [u8],
        step: &Step<'_>,
        terms: SiteTerms<'_>,
        grads: SiteGrads<'_>,
        accumulate: u32,
    ) -> Result<(), KernelError> {
        self.host.run_backward(memory, step, terms, grads, accumulate)
    }
}
