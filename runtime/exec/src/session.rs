//! A plan bound to a target and memory.

use core::ops::Range;

use ingraft_adapter::{HeadView, TermSource};
use ingraft_kernel::attrs::HeadAttrs;
use ingraft_kernel::descent::Descent;
use ingraft_kernel::head::Features;
use ingraft_kernel::{
    HostMemory, KernelError, OpCode, Operand, Place, Replay, SiteGrads, SiteTerms, Sites, Span, Step, Target,
};
use ingraft_plan::{IoView, Phase, PlanView};
use ingraft_tensor::{DType, Shape, View, ViewMut, bytes};
use zerocopy::IntoBytes;

use crate::memory::{RECORD, Record, head_batch};
use crate::{ExecError, MemoryNeeds, Silent, Trace};

/// Where gradients of the terms of sites are added up.
pub trait GradSink {
    /// Those of site `site`; none where it is not trained.
    fn grads(&mut self, site: usize) -> SiteGrads<'_>;
}

/// A plan's schedule bound to a target and to memory: ready to run.
///
/// Nothing allocates after [`Self::bind`]. Which adapter acts is an argument of
/// each run; without one the base acts, bit for bit.
#[derive(Debug)]
pub struct Session<'a, 'm, T: Target> {
    plan: PlanView<'a>,
    phase: Phase,
    target: &'a T,
    memory: &'m mut T::Memory,
    needs: MemoryNeeds,
}

impl<'a, 'm, T: Target> Session<'a, 'm, T> {
    /// Binds `phase` of `plan`: accepts every step and packs weights.
    ///
    /// # Errors
    /// [`ExecError::MemoryTooSmall`] (also for memory that is not 16-byte
    /// aligned), [`ExecError::NoSchedule`], or [`ExecError::Step`].
    pub fn bind(
        plan: PlanView<'a>,
        phase: Phase,
        target: &'a T,
        memory: &'m mut T::Memory,
    ) -> Result<Self, ExecError> {
        let needs = MemoryNeeds::new(&plan, phase, target)?;
        let supplied = target.capacity(memory);
        if supplied < needs.total() {
            return Err(ExecError::MemoryTooSmall { needed: needs.total(), supplied });
        }
        target.forget(memory);
        let session = Self { plan, phase, target, memory, needs };
        let count = plan.step_count(phase);
        let Some(mut next) = needs.record_offset(count) else { return Ok(session) };
        for index in 0..count {
            let mut step = session.resolve(index)?;
            let at = |error| ExecError::Step { index: index as u32, op: step.op, error };
            let choice = target.choose(&step).map_err(at)?;
            step.choice = Some(choice);
            step.packed = Span { offset: next, len: target.packed_bytes(&step) };
            next = next.saturating_add(bytes::align_up(step.packed.len));
            let record = Record { choice, workspace: target.workspace_bytes(&step), packed: step.packed };
            let place = needs.record_offset(index).zip(record.to_bytes());
            let written = place.and_then(|(offset, bytes)| target.write(session.memory, offset, &bytes));
            written.ok_or(at(KernelError::Memory(step.op)))?;
            if step.packed.len != 0 {
                target.prepare(session.memory, &step).map_err(at)?;
            }
        }
        Ok(session)
    }

    /// The plan.
    pub fn plan(&self) -> &PlanView<'a> {
        &self.plan
    }

    /// The target.
    pub fn target(&self) -> &'a T {
        self.target
    }

    /// The bytes in use, by purpose.
    pub fn needs(&self) -> MemoryNeeds {
        self.needs
    }

    /// Samples per run, as a head and per-sample adapters see it.
    pub fn batch(&self) -> usize {
        head_batch(&self.plan, self.phase)
    }

    /// Copies `bytes` into input `index`, to be done before every run: a run may reuse the memory of its inputs.
    ///
    /// # Errors
    /// [`ExecError::Io`] when there is no such input or its length differs.
    pub fn write_input(&mut self, index: usize, bytes: &[u8]) -> Result<(), ExecError> {
        let span = self.io_span(self.plan.inputs().nth(index));
        let fits = span.filter(|s| s.len == bytes.len());
        let written = fits.and_then(|s| self.target.write(self.memory, s.offset, bytes));
        written.ok_or(ExecError::Io { index: index as u32, expected: span.map_or(0, |s| s.len) })
    }

    /// Copies output `index` into `bytes`.
    ///
    /// # Errors
    /// [`ExecError::Io`] when there is no such output or its length differs.
    pub fn read_output(&self, index: usize, bytes: &mut [u8]) -> Result<(), ExecError> {
        let io = self.plan.outputs().nth(index);
        let expected = io.and_then(|io| self.plan.tensor(io.tensor)).map_or(0, |t| operand_bytes(&t.operand));
        let error = ExecError::Io { index: index as u32, expected };
        let io = io.filter(|_| expected == bytes.len()).ok_or(error)?;
        self.read_tensor(io.tensor, bytes).ok_or(error)
    }

    /// Copies tensor `tensor` of the plan into `bytes`; `None` when there is none of that length.
    pub fn read_tensor(&self, tensor: u32, bytes: &mut [u8]) -> Option<()> {
        match self.plan.tensor(tensor)?.operand.place {
            Place::Memory(span) => {
                (span.len == bytes.len()).then(|| self.target.read(self.memory, span.offset, bytes))?
            }
            Place::Plan(source) => {
                (source.len() == bytes.len()).then(|| bytes.iter_mut().zip(source).for_each(|(b, s)| *b = *s))
            }
        }
    }

    /// Copies `bytes` into tensor `tensor` of the plan; `None` when there is none of that length in memory.
    pub fn write_tensor(&mut self, tensor: u32, bytes: &[u8]) -> Option<()> {
        let Place::Memory(span) = self.plan.tensor(tensor)?.operand.place else { return None };
        (span.len == bytes.len()).then(|| self.target.write(self.memory, span.offset, bytes))?
    }

    /// Tensor `tensor` of the plan as it stands in memory that the host addresses; `None` in other memory, unless it is a
    /// constant.
    pub fn tensor(&self, tensor: u32) -> Option<View<'_>> {
        let operand = self.plan.tensor(tensor)?.operand;
        let bytes = match operand.place {
            Place::Memory(span) => self.target.view(self.memory, span)?,
            Place::Plan(bytes) => bytes,
        };
        View::new(operand.dtype, operand.shape, bytes)
    }

    /// Tensor `tensor` of the plan, to write, in memory that the host addresses.
    pub fn tensor_mut(&mut self, tensor: u32) -> Option<ViewMut<'_>> {
        let operand = self.plan.tensor(tensor)?.operand;
        let Place::Memory(span) = operand.place else { return None };
        ViewMut::new(operand.dtype, operand.shape, self.target.view_mut(self.memory, span)?)
    }

    /// Runs one inference with the terms of `source`.
    ///
    /// # Errors
    /// [`ExecError::Step`]; the memory then holds a partial result.
    pub fn run<S: TermSource>(&mut self, source: &S) -> Result<(), ExecError> {
        self.run_traced(core::slice::from_ref(source), &mut Silent)
    }

    /// Runs one batch, with one source for all samples or one for each.
    ///
    /// # Errors
    /// [`ExecError::Batch`], or [`ExecError::Step`].
    pub fn run_batch<S: TermSource>(&mut self, sources: &[S]) -> Result<(), ExecError> {
        self.run_traced(sources, &mut Silent)
    }

    /// As [`Self::run_batch`], with `trace` called around every step.
    ///
    /// When every source has a head, the steps behind the last one that a head
    /// reads are not run.
    ///
    /// # Errors
    /// As [`Self::run_batch`].
    pub fn run_traced<S: TermSource>(
        &mut self,
        sources: &[S],
        trace: &mut dyn Trace<T::Memory>,
    ) -> Result<(), ExecError> {
        let batch = self.batch();
        if sources.len() != 1 && sources.len() != batch {
            return Err(ExecError::Batch { batch, adapters: sources.len() });
        }
        let mut last = 0usize;
        for source in sources {
            let step = source.head().and_then(|head| self.plan.head_source(self.phase, head.site));
            last = last.max(step.map_or(usize::MAX, |(_, step)| step as usize));
        }
        let end = self.plan.step_count(self.phase).min(last.saturating_add(1));
        if !trace.watches() && self.heads_come_last(end, sources) && self.replay(0..end, sources)? {
            return Ok(());
        }
        self.run_steps(0..end, sources, trace)
    }

    /// Runs the forward steps in `range` with the terms of `source`, which has no head that reads before their end; as the
    /// target recorded them, where it does.
    ///
    /// # Errors
    /// [`ExecError::Step`].
    pub fn run_range<S: TermSource>(&mut self, range: Range<usize>, source: &S) -> Result<(), ExecError> {
        let sources = core::slice::from_ref(source);
        if !range.is_empty() && self.replay(range.clone(), sources)? {
            return Ok(());
        }
        self.run_steps(range, sources, &mut Silent)
    }

    /// Whether no head reads a tensor before step `end` is done, so that the steps may run as a whole.
    fn heads_come_last<S: TermSource>(&self, end: usize, sources: &[S]) -> bool {
        sources.iter().all(|source| {
            let step = source.head().and_then(|head| self.plan.head_source(self.phase, head.site));
            step.is_none_or(|(_, step)| (step as usize).checked_add(1) == Some(end))
        })
    }

    /// Runs the steps in `range` as the target recorded them, then the heads; records them the first time. `false`
    /// where the target records nothing.
    fn replay<S: TermSource>(&mut self, range: Range<usize>, sources: &[S]) -> Result<bool, ExecError> {
        let state = self.target.begin(self.memory, range.clone(), sources.len()).map_err(whole)?;
        if state == Replay::Steps {
            return Ok(false);
        }
        let last = range.end.saturating_sub(1);
        for index in range {
            let Some(view) = self.plan.step(self.phase, index) else { continue };
            let at = |error| ExecError::Step { index: index as u32, op: view.op, error };
            let step = if state == Replay::Record { Some(self.place(index)?) } else { None };
            let Some(site) = view.site else {
                if let Some(step) = step {
                    self.target.run(self.memory, &step, SiteTerms::NONE).map_err(at)?;
                }
                continue;
            };
            let (whole, apart) = match step {
                Some(step) if sources.len() > 1 && self.target.takes_batch(&step) => {
                    step.sample(0, sources.len()).map_err(at)?;
                    (Some(step), None)
                }
                step => (None, step),
            };
            for (sample, source) in sources.iter().enumerate() {
                let terms = source.terms(site as usize);
                self.target.update(self.memory, view.op, terms).map_err(at)?;
                if let Some(step) = &apart {
                    let part = step.sample(sample, sources.len()).map_err(at)?;
                    self.target.run(self.memory, &part, terms).map_err(at)?;
                }
            }
            if let Some(step) = &whole {
                self.target.run(self.memory, step, SiteTerms::NONE).map_err(at)?;
            }
        }
        self.target.finish(self.memory).map_err(whole)?;
        self.run_heads(last, sources).map_err(whole)?;
        Ok(true)
    }

    /// Runs the forward steps in `range`, and the heads that read a tensor produced there.
    ///
    /// # Errors
    /// [`ExecError::Step`].
    pub fn run_steps<S: TermSource>(
        &mut self,
        range: Range<usize>,
        sources: &[S],
        trace: &mut dyn Trace<T::Memory>,
    ) -> Result<(), ExecError> {
        let mut step = Step::new(OpCode::Copy, &[]);
        for index in range {
            self.place_into(index, &mut step)?;
            let at = |error| ExecError::Step { index: index as u32, op: step.op, error };
            let view = self.plan.step(self.phase, index).ok_or(at(KernelError::Operands(step.op)))?;
            let event = crate::StepEvent { index, view: &view, step: &step };
            trace.before(event);
            match (view.site, sources) {
                (Some(site), [source]) => {
                    self.target.run(self.memory, &step, source.terms(site as usize)).map_err(at)?;
                }
                (Some(site), sources) => {
                    for (sample, source) in sources.iter().enumerate() {
                        let part = step.sample(sample, sources.len()).map_err(at)?;
                        self.target.run(self.memory, &part, source.terms(site as usize)).map_err(at)?;
                    }
                }
                (None, _) => self.target.run(self.memory, &step, SiteTerms::NONE).map_err(at)?,
            }
            trace.after(event, self.memory);
            self.run_heads(index, sources).map_err(at)?;
        }
        Ok(())
    }

    /// Runs backward step `index` with the terms of `source`.
    ///
    /// # Errors
    /// [`ExecError::Step`].
    pub fn run_backward<S: TermSource>(
        &mut self,
        index: usize,
        source: &S,
        grads: SiteGrads<'_>,
        accumulate: u32,
    ) -> Result<(), ExecError> {
        let op = self.plan.step(self.phase, index).map_or(OpCode::Copy, |s| s.op);
        let at = |error| ExecError::Step { index: index as u32, op, error };
        let step = self.place(index)?;
        let site = self.plan.step(self.phase, index).and_then(|s| s.site);
        let terms = site.map_or(SiteTerms::NONE, |site| source.terms(site as usize));
        self.target.run_backward(self.memory, &step, terms, grads, accumulate).map_err(at)
    }

    /// Runs the backward steps of `route`, ascending indices with their accumulate bits, with the terms of `source` and
    /// gradients added up in `sink`; as the target recorded them, where it does: every run is to have the same route.
    ///
    /// # Errors
    /// [`ExecError::Step`].
    pub fn run_route<S: TermSource>(
        &mut self,
        route: impl Iterator<Item = (usize, u32)> + Clone,
        source: &S,
        sink: &mut impl GradSink,
    ) -> Result<(), ExecError> {
        let mut ends = route.clone().map(|(index, _)| index);
        let Some(first) = ends.next() else { return Ok(()) };
        let range = first..ends.last().unwrap_or(first).saturating_add(1);
        let state = self.target.begin(self.memory, range, 1).map_err(whole)?;
        for (index, accumulate) in route {
            let site = self.plan.step(self.phase, index).and_then(|step| step.site);
            if let Some(site) = site.filter(|_| state != Replay::Steps) {
                let op = self.plan.step(self.phase, index).map_or(OpCode::Copy, |step| step.op);
                let at = |error| ExecError::Step { index: index as u32, op, error };
                self.target.update(self.memory, op, source.terms(site as usize)).map_err(at)?;
            }
            if state != Replay::Ready {
                let grads = site.map_or(SiteGrads::default(), |site| sink.grads(site as usize));
                self.run_backward(index, source, grads, accumulate)?;
            }
        }
        if state == Replay::Steps { Ok(()) } else { self.target.finish(self.memory).map_err(whole) }
    }

    /// Whether the target can run step `index` with `terms`.
    ///
    /// # Errors
    /// [`ExecError::Step`].
    pub fn check_terms(&self, index: usize, terms: &SiteTerms<'_>) -> Result<(), ExecError> {
        let step = self.place(index)?;
        let at = |error| ExecError::Step { index: index as u32, op: step.op, error };
        self.target.check_terms(&step, terms).map_err(at)
    }

    /// Brings `values` to where steps read terms, as they are now ([`Target::mirror`]).
    ///
    /// # Errors
    /// [`ExecError::Step`].
    pub fn mirror(&mut self, values: &[u8]) -> Result<(), ExecError> {
        self.target.mirror(self.memory, values).map_err(whole)
    }

    /// Adds to `gradients` what backward steps added up elsewhere ([`Target::collect`]).
    ///
    /// # Errors
    /// [`ExecError::Step`].
    pub fn collect(&mut self, gradients: &mut [f32]) -> Result<(), ExecError> {
        self.target.collect(self.memory, gradients).map_err(whole)
    }

    /// Clips that can be under way at once ([`Target::lanes`]).
    pub fn lanes(&self) -> usize {
        self.target.lanes(self.memory)
    }

    /// Works in lane `lane` from now on ([`Target::select`]).
    ///
    /// # Errors
    /// [`ExecError::Step`].
    pub fn select(&mut self, lane: usize) -> Result<(), ExecError> {
        self.target.select(self.memory, lane).map_err(whole)
    }

    /// Adds gradients of all lanes up ([`Target::join`]).
    ///
    /// # Errors
    /// [`ExecError::Step`].
    pub fn join(&mut self) -> Result<(), ExecError> {
        self.target.join(self.memory).map_err(whole)
    }

    /// Sums of squares of gradients where they are collected ([`Target::squares`]).
    ///
    /// # Errors
    /// [`ExecError::Step`].
    pub fn squares<'g>(
        &mut self,
        mut groups: impl Iterator<Item = (&'g [f32], f32)>,
        mut take: impl FnMut(f32),
    ) -> Result<(), ExecError> {
        self.target.squares(self.memory, &mut groups, &mut take).map_err(whole)
    }

    /// Moves parameters where they are mirrored ([`Target::descend`]).
    ///
    /// # Errors
    /// [`ExecError::Step`].
    pub fn descend<'g>(&mut self, mut groups: impl Iterator<Item = Descent<'g>>) -> Result<(), ExecError> {
        self.target.descend(self.memory, &mut groups).map_err(whole)
    }

    /// Brings back `values` that were mirrored ([`Target::recall`]).
    ///
    /// # Errors
    /// [`ExecError::Step`].
    pub fn recall(&mut self, values: &mut [u8]) -> Result<(), ExecError> {
        self.target.recall(self.memory, values).map_err(whole)
    }

    /// Puts `gradients` in place of those added up where they are collected ([`Target::deposit`]).
    ///
    /// # Errors
    /// [`ExecError::Step`].
    pub fn deposit(&mut self, gradients: &[f32]) -> Result<(), ExecError> {
        self.target.deposit(self.memory, gradients).map_err(whole)
    }

    /// Forgets what the target recorded, mirrored and collected: terms are of other kinds from now on.
    pub fn forget(&mut self) {
        self.target.forget(self.memory);
    }

    /// The logits of sample `sample`'s head, `[classes]`, copied into `out`; `None` when they do not fit.
    pub fn read_logits(&self, sample: usize, out: &mut [f32]) -> Option<()> {
        let row = self.plan.head_classes();
        (out.len() <= row && sample < self.batch()).then_some(())?;
        let offset = self.needs.head_offset().checked_add(sample.checked_mul(row)?.checked_mul(4)?)?;
        self.target.read(self.memory, offset, out.as_mut_bytes())
    }

    fn run_heads<S: TermSource>(&mut self, index: usize, sources: &[S]) -> Result<(), KernelError> {
        for (sample, source) in sources.iter().enumerate() {
            let Some(head) = source.head() else { continue };
            let Some((tensor, step)) = self.plan.head_source(self.phase, head.site) else { continue };
            if step as usize != index {
                continue;
            }
            if sources.len() == 1 {
                for sample in 0..self.batch() {
                    self.run_head(sample, tensor, &head)?;
                }
            } else {
                self.run_head(sample, tensor, &head)?;
            }
        }
        Ok(())
    }

    fn run_head(&mut self, sample: usize, tensor: u32, head: &HeadView<'_>) -> Result<(), KernelError> {
        let error = KernelError::Terms(OpCode::Head);
        let view = self.plan.tensor(tensor).ok_or(error)?;
        let attrs = head_attrs(head.pool, view.qparams);
        let dims = |d: &[u32]| Shape::new(d).map_err(|_| error);
        let classes = head.classes as u32;
        let features = head.weight.len().checked_div(head.classes).ok_or(error)? as u32;
        let stride = self.plan.head_classes().checked_mul(4).ok_or(error)?;
        let offset = sample.checked_mul(stride).and_then(|o| o.checked_add(self.needs.head_offset()));
        let out = Span { offset: offset.ok_or(error)?, len: head.classes.checked_mul(4).ok_or(error)? };
        let constant =
            |values, shape| Operand { dtype: DType::F32, shape, place: Place::Plan(bytes::of(values)) };
        let mut step = Step::new(OpCode::Head, attrs.as_bytes());
        step.push_input(view.operand)?;
        step.push_output(view.operand)?;
        let narrowed = step.sample(sample, self.batch())?.input(0)?;
        let mut step = Step::new(OpCode::Head, attrs.as_bytes());
        step.push_input(narrowed)?;
        step.push_input(constant(head.weight, dims(&[classes, features])?))?;
        step.push_input(constant(head.bias, dims(&[classes])?))?;
        step.push_output(Operand {
            dtype: DType::F32,
            shape: dims(&[1, classes])?,
            place: Place::Memory(out),
        })?;
        self.target.run(self.memory, &step, SiteTerms::NONE)
    }

    fn resolve(&self, index: usize) -> Result<Step<'a>, ExecError> {
        let op = self.plan.step(self.phase, index).map_or(OpCode::Copy, |s| s.op);
        let at = |error| ExecError::Step { index: index as u32, op, error };
        self.plan.resolve(self.phase, index).map_err(at)
    }

    /// The first forward step that applies the weight of `site`.
    pub(crate) fn step_of(&self, site: usize) -> Option<usize> {
        Some(self.plan.site_tensors(self.phase, site)?.step as usize)
    }

    /// The forward step that applies the weight of `site`; `None` where there are several.
    pub(crate) fn only_step_of(&self, site: usize) -> Option<usize> {
        let first = self.step_of(site)?;
        let op = self.plan.step(self.phase, first)?.op;
        let mut others = (0..self.plan.step_count(self.phase)).filter(|index| *index != first);
        let shares = |index| {
            let step = self.plan.step(self.phase, index);
            step.is_some_and(|step| step.site == Some(site as u32) && step.op == op)
        };
        (!others.any(shares)).then_some(first)
    }

    /// Step `index` with its workspace and packed weights in place.
    pub(crate) fn place(&self, index: usize) -> Result<Step<'a>, ExecError> {
        let mut step = Step::new(OpCode::Copy, &[]);
        self.place_into(index, &mut step)?;
        Ok(step)
    }

    fn place_into(&self, index: usize, step: &mut Step<'a>) -> Result<(), ExecError> {
        let resolved = self.plan.resolve_into(self.phase, index, step);
        let op = step.op;
        let at = |error| ExecError::Step { index: index as u32, op, error };
        resolved.map_err(at)?;
        let Some(offset) = self.needs.record_offset(index) else {
            step.workspace = self.needs.workspace_span(self.target.workspace_bytes(step));
            return Ok(());
        };
        let mut bytes = [0; RECORD];
        let read = self.target.read(self.memory, offset, &mut bytes);
        read.ok_or(at(KernelError::Memory(op)))?;
        let record = Record::from_bytes(bytes);
        step.choice = Some(record.choice);
        step.workspace = self.needs.workspace_span(record.workspace);
        step.packed = record.packed;
        Ok(())
    }

    fn io_span(&self, io: Option<IoView<'_>>) -> Option<Span> {
        match self.plan.tensor(io?.tensor)?.operand.place {
            Place::Memory(span) => Some(span),
            Place::Plan(_) => None,
        }
    }
}

impl<T: Target<Memory = HostMemory>> Session<'_, '_, T> {
    /// Computes the features a head at `site` with `pool` would see of sample
    /// `sample` into `out`; `None` when the plan has no such tensor or `out` has
    /// another length. Only meaningful right after the producing step ran.
    pub fn read_features(&self, site: u32, pool: u32, sample: usize, out: &mut [f32]) -> Option<()> {
        let (tensor, _) = self.plan.head_source(self.phase, site)?;
        let attrs = head_attrs(pool, self.plan.tensor(tensor)?.qparams);
        let features = Features::new(&attrs, self.tensor(tensor)?)?;
        (features.count() == out.len()).then_some(())?;
        features.for_each(sample, |i, value| {
            if let Some(o) = out.get_mut(i) {
                *o = value;
            }
        })
    }

    /// Input `index`, to write in place.
    pub fn input_mut(&mut self, index: usize) -> Option<ViewMut<'_>> {
        let tensor = self.plan.inputs().nth(index)?.tensor;
        self.tensor_mut(tensor)
    }

    /// Output `index`.
    pub fn output(&self, index: usize) -> Option<View<'_>> {
        self.tensor(self.plan.outputs().nth(index)?.tensor)
    }
}

/// An error of a run as a whole.
fn whole(error: KernelError) -> ExecError {
    ExecError::Step { index: 0, op: OpCode::Copy, error }
}

/// The attributes of a head reading a tensor with these parameters.
fn head_attrs(pool: u32, qparams: Option<ingraft_tensor::QParams>) -> HeadAttrs {
    HeadAttrs {
        pool,
        scale: qparams.map_or(1.0, |q| q.scale),
        zero_point: qparams.map_or(0, |q| q.zero_point),
    }
}

fn operand_bytes(operand: &Operand<'_>) -> usize {
    operand.shape.elements().saturating_mul(operand.dtype.size())
}
