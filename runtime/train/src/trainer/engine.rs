//! One clip, forward and backward, interruptible between any two steps.

use ingraft_exec::{GradSink, Silent};
use ingraft_kernel::{SiteGrads, Target};
use ingraft_plan::Phase;
use ingraft_tensor::{View, bytes};

use super::update::Update;
use super::{Readings, Trainer, split_head};
use crate::parameters::Parameters;
use crate::{Clip, Readout, TrainError, Truth, prefix};

/// Where the engine stands within a clip.
///
/// Two passes keep the memory at one patch: the first pools the features of
/// every patch for the loss; the second runs each patch forward again and then
/// backward with the loss's gradient. It visits patches last to first, since the
/// last one's activations are still there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stage {
    /// Between clips.
    Idle,
    /// First pass, about to run forward step `step` of patch `patch`.
    Pool { patch: usize, step: usize },
    /// Second pass, about to run forward step `step` of patch `patch`.
    Forward { patch: usize, step: usize },
    /// Second pass, about to run backward step `index` of patch `patch`.
    Backward { patch: usize, index: usize },
    /// Between clips, about to run step `step` of the frozen prefix of a patch to be kept.
    Prefix { step: usize },
    /// Between clips, while the means of classes are taken.
    Prototypes,
    /// Between clips, within a step of the optimizer.
    Update(Update),
}

/// What follows a stage.
pub(super) enum Turn {
    /// Another stage, at once.
    Go(Stage),
    /// The budget is spent; later this stage.
    Pause(Stage),
    /// The clip is done.
    Done,
}

impl<T: Target> Trainer<'_, '_, T> {
    /// Runs a clip forward and backward and adds its gradients; gives its loss.
    ///
    /// # Errors
    /// [`TrainError::Clip`], [`TrainError::Truth`], [`TrainError::Exec`]; gradients
    /// may then be incomplete, [`Self::discard`] them.
    pub fn accumulate(&mut self, clip: Clip<'_>, truth: Truth<'_>) -> Result<f32, TrainError> {
        self.idle()?;
        match self.advance(clip, truth, usize::MAX)? {
            Some(loss) => Ok(loss),
            None => Err(TrainError::Busy),
        }
    }

    /// As [`Self::accumulate`], for at most `budget` steps of the plan (at least
    /// one): `None` says that the clip is not done, and wants the next call with the
    /// same clip and truth. The result does not depend on how the work was divided.
    ///
    /// # Errors
    /// As [`Self::accumulate`]; the clip is then given up.
    pub fn advance(
        &mut self,
        clip: Clip<'_>,
        truth: Truth<'_>,
        budget: usize,
    ) -> Result<Option<f32>, TrainError> {
        if matches!(self.stage, Stage::Update(_) | Stage::Prefix { .. } | Stage::Prototypes) {
            return Err(TrainError::Busy);
        }
        let result = self.proceed(&clip, truth, budget.max(1));
        if !matches!(result, Ok(None)) {
            self.stage = Stage::Idle;
        }
        result
    }

    fn proceed(
        &mut self,
        clip: &Clip<'_>,
        truth: Truth<'_>,
        mut budget: usize,
    ) -> Result<Option<f32>, TrainError> {
        let patches = self.patches(clip)?;
        loop {
            let turn = match self.stage {
                Stage::Idle => self.begin(clip, truth)?,
                Stage::Update(_) | Stage::Prefix { .. } | Stage::Prototypes => return Err(TrainError::Busy),
                Stage::Pool { patch, step } => {
                    let step = self.run_forward(step, &mut budget)?;
                    self.end_pool(clip, truth, patches, (patch, step))?
                }
                Stage::Forward { patch, step } => match self.run_forward(step, &mut budget)? {
                    step if step <= self.tap.step => Turn::Pause(Stage::Forward { patch, step }),
                    _ => self.seed(patches, patch)?,
                },
                Stage::Backward { patch, index } => {
                    let index = self.run_backward(index, &mut budget)?;
                    self.end_backward(clip, (patch, index))?
                }
            };
            match turn {
                Turn::Go(stage) => self.stage = stage,
                Turn::Pause(stage) => {
                    self.stage = stage;
                    return Ok(None);
                }
                Turn::Done => {
                    self.clips = self.clips.saturating_add(1);
                    return Ok(Some(self.loss));
                }
            }
        }
    }

    /// Number of different pieces that [`Self::advance`], [`Self::advance_step`] and [`Self::advance_prefix`] do with a
    /// budget of one.
    pub fn piece_count(&self) -> usize {
        self.steps_of_plan().saturating_add(Update::KINDS).saturating_add(1)
    }

    /// Which piece comes next, below [`Self::piece_count`]: steps of the plan are told apart by their index, those of
    /// the optimizer by their kind, and one more begins a clip, a prefix or a step. What a piece took is what it will take.
    pub fn next_piece(&self) -> usize {
        let steps = self.steps_of_plan();
        match self.stage {
            Stage::Idle | Stage::Prototypes => steps.saturating_add(Update::KINDS),
            Stage::Prefix { step } | Stage::Pool { step, .. } | Stage::Forward { step, .. } => step,
            Stage::Backward { index, .. } => {
                let mut taken = (index..self.route.len()).filter_map(|index| self.route.step(index));
                taken.next().map_or(steps, |(step, _)| step)
            }
            Stage::Update(update) => steps.saturating_add(update.kind()),
        }
    }

    fn steps_of_plan(&self) -> usize {
        self.session.plan().step_count(self.phase())
    }

    /// The schedule that is run.
    pub(super) fn phase(&self) -> Phase {
        if self.parameters.slots.is_empty() { Phase::Infer } else { Phase::Train }
    }

    fn begin(&mut self, clip: &Clip<'_>, truth: Truth<'_>) -> Result<Turn, TrainError> {
        self.readings.pooled.fill(0.0);
        if let Clip::Features(values) = clip {
            super::copy(self.readings.pooled, values)?;
            self.read_loss(truth)?;
            return Ok(Turn::Done);
        }
        Ok(Turn::Go(Stage::Pool { patch: 0, step: self.load(clip, 0)? }))
    }

    /// After forward steps of the first pass up to, not including, `step` of `patch`.
    fn end_pool(
        &mut self,
        clip: &Clip<'_>,
        truth: Truth<'_>,
        patches: usize,
        (patch, step): (usize, usize),
    ) -> Result<Turn, TrainError> {
        if step <= self.tap.step {
            return Ok(Turn::Pause(Stage::Pool { patch, step }));
        }
        self.collect_features(patches)?;
        let next = patch.saturating_add(1);
        if next < patches {
            return Ok(Turn::Go(Stage::Pool { patch: next, step: self.load(clip, next)? }));
        }
        self.read_loss(truth)?;
        if self.parameters.slots.is_empty() { Ok(Turn::Done) } else { self.seed(patches, patch) }
    }

    /// After backward steps up to, not including, `index` of `patch`.
    fn end_backward(&mut self, clip: &Clip<'_>, (patch, index): (usize, usize)) -> Result<Turn, TrainError> {
        if index < self.route.len() {
            return Ok(Turn::Pause(Stage::Backward { patch, index }));
        }
        let Some(patch) = patch.checked_sub(1) else { return Ok(Turn::Done) };
        Ok(Turn::Go(Stage::Forward { patch, step: self.load(clip, patch)? }))
    }

    /// Number of patches of `clip`.
    pub(super) fn patches(&self, clip: &Clip<'_>) -> Result<usize, TrainError> {
        if matches!(clip, Clip::Features(_)) && !self.parameters.slots.is_empty() {
            return Err(TrainError::Clip { unit: self.cached_bytes, given: 0 });
        }
        clip.patches(self.patch_bytes, self.cached_bytes, self.readings.pooled.len())
    }

    /// Puts patch `patch` of `clip` into memory; gives the first step to run.
    pub(super) fn load(&mut self, clip: &Clip<'_>, patch: usize) -> Result<usize, TrainError> {
        let plan = *self.session.plan();
        match clip {
            Clip::Inputs(all) => {
                let mut rest = nth(all, patch, self.patch_bytes);
                for (index, io) in plan.inputs().enumerate() {
                    let len = prefix::bytes(&plan, io.tensor).unwrap_or(0);
                    self.session.write_input(index, take(&mut rest, len))?;
                }
                Ok(0)
            }
            Clip::Prefixes(all) => {
                let mut rest = nth(all, patch, self.cached_bytes);
                for tensor in self.cached {
                    let len = prefix::bytes(&plan, *tensor).unwrap_or(0);
                    let written = self.session.write_tensor(*tensor, take(&mut rest, len));
                    written.ok_or(TrainError::NoReadout)?;
                }
                Ok(self.cut)
            }
            Clip::Features(_) => Ok(self.tap.step.saturating_add(1)),
        }
    }

    /// Runs forward steps from `step` to the tap while `budget` lasts; gives the next one.
    pub(super) fn run_forward(&mut self, step: usize, budget: &mut usize) -> Result<usize, TrainError> {
        self.refresh()?;
        let end = self.tap.step.saturating_add(1).min(step.saturating_add(*budget));
        if *budget == usize::MAX {
            self.session.run_range(step..end, &self.parameters)?;
        } else {
            self.session.run_steps(step..end, core::slice::from_ref(&self.parameters), &mut Silent)?;
            *budget = budget.saturating_sub(end.saturating_sub(step));
        }
        Ok(end)
    }

    /// Runs backward steps from `index` while `budget` lasts; gives the next one.
    pub(super) fn run_backward(&mut self, first: usize, budget: &mut usize) -> Result<usize, TrainError> {
        self.owed = !self.session.target().is_host();
        let Self { session, parameters, route, gradients, latent, .. } = self;
        let mut sink = Sink { parameters, gradients, computed: latent.gradients };
        if *budget == usize::MAX {
            let taken = (first..route.len()).filter_map(|index| route.step(index));
            session.run_route(taken, &*parameters, &mut sink)?;
            return Ok(route.len());
        }
        for index in first..route.len() {
            let Some((step, accumulate)) = route.step(index) else { continue };
            if *budget == 0 {
                return Ok(index);
            }
            *budget = budget.saturating_sub(1);
            let site = session.plan().step(Phase::Train, step).and_then(|view| view.site);
            let grads = site.map_or(SiteGrads::default(), |site| sink.grads(site as usize));
            session.run_backward(step, &*parameters, grads, accumulate)?;
        }
        Ok(route.len())
    }

    /// Adds the present patch's features to the clip's.
    pub(super) fn collect_features(&mut self, patches: usize) -> Result<(), TrainError> {
        let share = 1.0 / patches as f32;
        let Self { session, tap, staged, readings, .. } = self;
        let tensor = match session.tensor(tap.tensor) {
            Some(tensor) => Some(tensor),
            None => session.plan().tensor(tap.tensor).and_then(|tensor| {
                let operand = tensor.operand;
                let len = operand.shape.elements().checked_mul(operand.dtype.size())?;
                let room = bytes::of_mut(staged).get_mut(..len)?;
                session.read_tensor(tap.tensor, room)?;
                View::new(operand.dtype, operand.shape, room)
            }),
        };
        let pooled = tensor.and_then(|tensor| tap.pool(tensor, share, readings.pooled));
        pooled.ok_or(TrainError::NoReadout)
    }

    /// The logits of the pooled features.
    pub(super) fn compute_logits(&mut self) {
        let Readings { pooled, logits, .. } = &mut self.readings;
        if self.head_len == 0 {
            logits.iter_mut().zip(pooled.iter()).for_each(|(logit, value)| *logit = *value);
        } else {
            let (weight, bias) = split_head(self.parameters.values, self.head_len, logits.len());
            self.statistics.forward(weight, bias, pooled, logits);
        }
        logits.iter_mut().for_each(|logit| *logit /= self.temperature);
    }

    /// The loss, the head's gradients, and the gradient of the pooled features.
    pub(super) fn read_loss(&mut self, truth: Truth<'_>) -> Result<(), TrainError> {
        self.compute_logits();
        let Readings { pooled, pooled_grad, logits, logit_grad } = &mut self.readings;
        let loss = self.setup.loss.evaluate(logits, truth, logit_grad);
        self.loss = loss.ok_or(TrainError::Truth { logits: logits.len() })?;
        logit_grad.iter_mut().for_each(|g| *g /= self.temperature);
        if matches!(self.setup.readout, Readout::Logits) {
            pooled_grad.iter_mut().zip(logit_grad.iter()).for_each(|(p, l)| *p = *l);
            return Ok(());
        }
        let (weight, _) = split_head(self.parameters.values, self.head_len, logits.len());
        let gradients = self.gradients.get_mut(..self.head_len).unwrap_or_default();
        // Without trained sites nobody asks for the gradient of the features.
        let below = if self.parameters.slots.is_empty() { &mut [] } else { &mut **pooled_grad };
        self.statistics.backward(weight, logit_grad, pooled, gradients, below);
        Ok(())
    }

    /// Writes the gradient of the tapped tensor of `patch`, one of `patches`.
    pub(super) fn seed(&mut self, patches: usize, patch: usize) -> Result<Turn, TrainError> {
        let share = 1.0 / patches as f32;
        let Self { session, tap, staged, readings, .. } = self;
        let tensor = tap.grad.ok_or(TrainError::NoGradient)?;
        if let Some(mut view) = session.tensor_mut(tensor) {
            tap.spread(readings.pooled_grad, share, view.as_slice::<f32>().ok_or(TrainError::NoGradient)?);
        } else {
            tap.spread(readings.pooled_grad, share, staged);
            session.write_tensor(tensor, bytes::of(staged)).ok_or(TrainError::NoGradient)?;
        }
        Ok(Turn::Go(Stage::Backward { patch, index: 0 }))
    }
}

/// The vectors that gradients of terms are added up in.
struct Sink<'t, 'm> {
    parameters: &'t Parameters<'m>,
    gradients: &'t mut [f32],
    /// Of terms that are computed from latent parameters.
    computed: &'t mut [f32],
}

impl GradSink for Sink<'_, '_> {
    fn grads(&mut self, site: usize) -> SiteGrads<'_> {
        match self.parameters.slot(site) {
            Some(slot) if slot.is_latent() => slot.grads(self.computed),
            Some(slot) => slot.grads(self.gradients),
            None => SiteGrads::default(),
        }
    }
}

/// Piece `index` of pieces of `len` bytes.
fn nth(bytes: &[u8], index: usize, len: usize) -> &[u8] {
    let start = index.saturating_mul(len);
    bytes.get(start..start.saturating_add(len)).unwrap_or(&[])
}

/// Cuts the first `len` bytes off `rest`.
fn take<'b>(rest: &mut &'b [u8], len: usize) -> &'b [u8] {
    let (taken, tail) = rest.split_at_checked(len).unwrap_or((&[], &[]));
    *rest = tail;
    taken
}
