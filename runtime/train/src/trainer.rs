//! The trainer: a plan, a method and memory, bound.

mod apart;
mod batch;
mod carve;
mod checkpoint;
mod engine;
mod frozen;
mod held;
mod prototypes;
pub(crate) mod span;
mod update;

use ingraft_adapter::{SiteName, TermSource};
use ingraft_exec::{Session, Silent, Trace};
use ingraft_kernel::{Host, Sites, Target};
use ingraft_plan::PlanView;
use ingraft_tensor::bytes;

use crate::head::Standardization;
use crate::memory::{Carver, Sizes};
use crate::parameters::Parameters;
use crate::readout::Tap;
use crate::route::Route;
use crate::{Clip, LatentValues, Readout, Setup, TrainError, TrainMemory, TrainedHead, Truth};
use carve::{LatentMemory, Readings};
use engine::Stage;

/// Trains the terms of sites, a head, or both, in caller memory.
///
/// The life of a trainer: [`Self::bind`]; [`Self::observe`] every training clip
/// once and [`Self::standardize`]; then per mini-batch [`Self::accumulate`] each
/// clip and [`Self::step`]. Nothing allocates. A head alone trains on any plan, in
/// the memory of inference; terms want a plan compiled with `--train-from`.
///
/// On a target with memory of its own ([`Self::bind_apart`]) parameters, their gradients and the optimizer stay with the
/// host: terms are brought along before a run that finds them moved, gradients are fetched once a step. Where
/// [`Self::moves_apart`], the target moves the terms of sites itself, to the same bits, and the host's copy is fetched when
/// it is asked for; the head stays with the host.
pub struct Trainer<'a, 'm, T: Target = Host> {
    session: Session<'a, 'm, T>,
    setup: Setup<'a>,
    tap: Tap,
    cut: usize,
    patch_bytes: usize,
    cached_bytes: usize,
    parameters: Parameters<'m>,
    /// Parameters of the head, at the front of the vector.
    head_len: usize,
    gradients: &'m mut [f32],
    latent: LatentMemory<'m>,
    /// The optimizer's, group by group.
    state: &'m mut [f32],
    /// What it works in.
    workspace: &'m mut [f32],
    statistics: Standardization<'m>,
    readings: Readings<'m>,
    route: Route<'m>,
    cached: &'m [u32],
    /// What is read of the network, where the host does not address the target's memory; empty where it does.
    staged: &'m mut [f32],
    /// Whether the parameters moved since the target saw them.
    stale: bool,
    /// Whether the target holds gradients that `gradients` lacks.
    owed: bool,
    /// Where a target moves the parameters of sites itself: whether it is ahead of the host's, and what of the optimizer's
    /// state goes with them.
    apart: Option<Apart>,
    /// Whether lanes would change the order of sums: a trained site's gradient is of several steps.
    shares: bool,
    stage: Stage,
    loss: f32,
    /// What logits are divided by.
    temperature: f32,
    clips: u32,
    steps: u32,
}

impl<T: Target> core::fmt::Debug for Trainer<'_, '_, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut it = f.debug_struct("Trainer");
        it.field("method", &self.setup.method.name()).field("steps", &self.steps).finish_non_exhaustive()
    }
}

/// What moves on the target.
#[derive(Clone, Copy, Debug)]
struct Apart {
    /// Where the state of sites begins in the optimizer's.
    state: usize,
    /// Whether parameters and state moved there since the host saw them.
    ahead: bool,
    /// Whether the host holds gradients that the target lacks.
    held: bool,
}

/// How a clip fares under the present parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// The loss.
    pub loss: f32,
    /// The class with the largest logit, the first of equals.
    pub class: usize,
}

impl<'a, 'm, T: Target<Memory = [u8]>> Trainer<'a, 'm, T> {
    /// Binds a training run: checks it, lays it out in `memory` and draws the start values.
    ///
    /// The head starts at zero: its loss is convex, so no start is better.
    ///
    /// # Errors
    /// [`TrainError`]: the plan, the sites, the method or the memory do not fit.
    pub fn bind(
        plan: PlanView<'a>,
        target: &'a T,
        setup: Setup<'a>,
        memory: &'m mut [u8],
    ) -> Result<Self, TrainError> {
        let sizes = Sizes::new(&plan, target, &setup)?;
        let (needed, supplied) = (sizes.memory().total(), target.capacity(memory));
        let short = TrainError::MemoryTooSmall { needed, supplied };
        if supplied < needed {
            return Err(short);
        }
        let mut carver = Carver::new(memory);
        let arena = carver.bytes(sizes.session.total()).ok_or(short)?;
        Self::lay_out(plan, target, setup, &sizes, arena, carver)
    }
}

impl<'a, 'm, T: Target> Trainer<'a, 'm, T> {
    /// The memory that training `plan` on `target` as `setup` says needs, to the byte.
    ///
    /// # Errors
    /// Every [`TrainError`] that [`Self::bind`] would give, save those about the
    /// memory itself and [`TrainError::Unreachable`].
    pub fn memory(plan: &PlanView<'_>, target: &T, setup: &Setup<'_>) -> Result<TrainMemory, TrainError> {
        Sizes::new(plan, target, setup).map(|sizes| sizes.memory())
    }

    /// As [`Self::bind`], with the session in `device`, memory of the target for [`TrainMemory::device`] bytes, and
    /// everything else in `memory`, for [`TrainMemory::beside`].
    ///
    /// # Errors
    /// As [`Self::bind`]; [`TrainError::Exec`] for a step that the target has no kernel for, or terms that its kernels do
    /// not take.
    pub fn bind_apart(
        plan: PlanView<'a>,
        target: &'a T,
        setup: Setup<'a>,
        device: &'m mut T::Memory,
        memory: &'m mut [u8],
    ) -> Result<Self, TrainError> {
        let sizes = Sizes::new(&plan, target, &setup)?;
        let aligned = memory.as_ptr().align_offset(bytes::ALIGN) == 0;
        let (needed, supplied) = (sizes.memory().beside(), if aligned { memory.len() } else { 0 });
        if supplied < needed {
            return Err(TrainError::MemoryTooSmall { needed, supplied });
        }
        Self::lay_out(plan, target, setup, &sizes, device, Carver::new(memory))
    }

    fn lay_out(
        plan: PlanView<'a>,
        target: &'a T,
        setup: Setup<'a>,
        sizes: &Sizes,
        device: &'m mut T::Memory,
        mut carver: Carver<'m>,
    ) -> Result<Self, TrainError> {
        let session = Session::bind(plan, sizes.phase, target, device)?;
        let needed = sizes.memory().total();
        let short = TrainError::MemoryTooSmall { needed, supplied: 0 };
        let mut trainer = Self::carve(session, setup, sizes, &mut carver).ok_or(short)?;
        let slots = trainer.parameters.slots;
        let untrained = slots.iter().find(|slot| !trainer.route.trains(&plan, slot.site));
        if let Some(site) = untrained.and_then(|slot| plan.site(slot.site as usize)) {
            return Err(TrainError::Unreachable(SiteName::new(site.name)));
        }
        trainer.check_terms()?;
        trainer.collect()?;
        trainer.shares = trainer.session.lanes() > 1 && trainer.shares_sites();
        Ok(trainer)
    }

    /// Whether the target's kernels take the terms, forward and backward.
    fn check_terms(&self) -> Result<(), TrainError> {
        let plan = self.session.plan();
        let forward = 0..self.tap.step.saturating_add(1);
        let backward = (0..self.route.len()).filter_map(|index| Some(self.route.step(index)?.0));
        for index in forward.chain(backward) {
            let site = plan.step(self.phase(), index).and_then(|step| step.site);
            let Some(site) = site else { continue };
            self.session.check_terms(index, &self.parameters.terms(site as usize))?;
        }
        Ok(())
    }

    /// Whether the target moves the terms of sites itself: it can, the optimizer's rule is elementwise with state in f32, and
    /// the method leaves terms as the optimizer moved them.
    pub fn moves_apart(&self) -> bool {
        self.session.target().descends() && self.apart.is_some()
    }

    /// Brings back what the target moved. What the host holds is then what [`Self::parameters`] gives.
    ///
    /// # Errors
    /// [`TrainError::Exec`] of a device that fails.
    pub fn fetch(&mut self) -> Result<(), TrainError> {
        let moves_apart = self.moves_apart();
        if let Some(apart) = self.apart.as_mut().filter(|apart| moves_apart && apart.ahead) {
            let values = self.parameters.values.get_mut(self.head_len..).unwrap_or_default();
            let state = self.state.get_mut(apart.state..).unwrap_or_default();
            self.session.recall(bytes::of_mut(values))?;
            self.session.recall(bytes::of_mut(state))?;
            apart.ahead = false;
        }
        Ok(())
    }

    /// Brings parameters that moved to the target.
    fn refresh(&mut self) -> Result<(), TrainError> {
        if self.stale {
            let Parameters { values, computed, indptr, indices, ones, zeros, .. } = &self.parameters;
            let state = self.apart.and_then(|apart| self.state.get(apart.state..)).unwrap_or(&[]);
            let reals = [values.get(self.head_len..).unwrap_or(&[]), computed, ones, zeros, state];
            reals.iter().try_for_each(|part| self.session.mirror(bytes::of(part)))?;
            self.session.mirror(bytes::of(indptr))?;
            self.session.mirror(bytes::of(indices))?;
            self.stale = false;
        }
        Ok(())
    }

    /// Fetches gradients that the target holds.
    fn collect(&mut self) -> Result<(), TrainError> {
        let own = self.gradients.get_mut(self.head_len..).unwrap_or_default();
        self.session.collect(own)?;
        self.session.collect(self.latent.gradients)?;
        self.owed = false;
        Ok(())
    }

    /// Fetches them where there are any.
    fn settle(&mut self) -> Result<(), TrainError> {
        if !self.owed {
            return Ok(());
        }
        self.collect()?;
        self.apart.iter_mut().for_each(|apart| apart.held = true);
        Ok(())
    }

    /// The plan.
    pub fn plan(&self) -> &PlanView<'a> {
        self.session.plan()
    }

    /// The target.
    pub fn target(&self) -> &'a T {
        self.session.target()
    }

    /// What is trained, and how.
    pub fn setup(&self) -> &Setup<'a> {
        &self.setup
    }

    /// The live parameters: the terms of the trained sites. As they were when last seen on a device that fails, of which
    /// [`Self::fetch`] tells.
    pub fn parameters(&mut self) -> &Parameters<'m> {
        // Who has to know asks first.
        let _ = self.fetch();
        &self.parameters
    }

    /// The same without asking the target: as they were when last fetched.
    pub fn fetched(&self) -> &Parameters<'m> {
        &self.parameters
    }

    /// Indices of the trained sites, ascending.
    pub fn sites(&self) -> impl Iterator<Item = u32> + '_ {
        self.parameters.sites()
    }

    /// What the terms of latent site `site` are computed from; `None` where they are trained as they are.
    pub fn latent(&self, site: usize) -> Option<LatentValues<'_>> {
        let slot = self.parameters.slot(site).filter(|slot| slot.is_latent())?;
        Some(slot.latent_values(self.parameters.values, self.latent.constants))
    }

    /// The gradients accumulated since the last step, summed over clips, in the
    /// order of [`Parameters::values`]. Without those of a device that fails, of which [`Self::step`] then tells.
    pub fn gradients(&mut self) -> &[f32] {
        // What is owed stays so.
        let _ = self.settle();
        (0..self.parameters.slots.len()).for_each(|slot| self.pull_back(slot));
        self.gradients
    }

    /// The head; `None` when the model's own logits are trained on.
    pub fn head(&self) -> Option<TrainedHead<'_>> {
        let Readout::Head { site, pool, .. } = self.setup.readout else { return None };
        let classes = self.readings.logits.len();
        let (weight, bias) = split_head(self.parameters.values, self.head_len, classes);
        let (mean, inverse_std) = (&*self.statistics.mean, &*self.statistics.inverse_std);
        Some(TrainedHead { site, pool, weight, bias, mean, inverse_std })
    }

    /// Puts back parameters that [`Parameters::values`] gave earlier.
    ///
    /// # Errors
    /// [`TrainError::Length`].
    pub fn restore(&mut self, values: &[f32]) -> Result<(), TrainError> {
        self.fetch()?;
        copy(self.parameters.values, values)?;
        self.stale = true;
        self.compute_all();
        Ok(())
    }

    /// From now on the loss, and whoever asks, sees the logits divided by `temperature`; it is 1 when a trainer is bound.
    ///
    /// For measuring what gradients say of weights; a model that is trained so answers otherwise than its adapter says.
    pub fn soften(&mut self, temperature: f32) {
        self.temperature = temperature;
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// Bytes of one patch as the model takes it.
    pub fn patch_bytes(&self) -> usize {
        self.patch_bytes
    }

    /// Bytes of one patch behind the frozen prefix.
    pub fn cut_bytes(&self) -> usize {
        self.cached_bytes
    }

    /// Number of features the loss sees of a clip.
    pub fn feature_count(&self) -> usize {
        self.readings.pooled.len()
    }

    /// Number of logits.
    pub fn logit_count(&self) -> usize {
        self.readings.logits.len()
    }

    /// Computes the features of a clip, the mean over its patches, into `out`.
    ///
    /// # Errors
    /// [`TrainError::Length`], [`TrainError::Clip`], [`TrainError::Busy`], [`TrainError::Exec`].
    pub fn features(&mut self, clip: Clip<'_>, out: &mut [f32]) -> Result<(), TrainError> {
        self.forward(clip, &mut Silent)?;
        copy(out, self.readings.pooled)
    }

    /// Takes a training clip into the statistics that standardize the head's features.
    ///
    /// # Errors
    /// As [`Self::features`].
    pub fn observe(&mut self, clip: Clip<'_>) -> Result<(), TrainError> {
        self.forward(clip, &mut Silent)?;
        self.statistics.observe(self.readings.pooled);
        Ok(())
    }

    /// Ends observation: from now on the head sees features with mean 0 and
    /// deviation 1 over the clips observed.
    pub fn standardize(&mut self) {
        self.statistics.finish();
    }

    /// In place of statistics of training clips: the head sees every feature less `mean`, divided by `std` (1 where that is
    /// not above 0). For data that must not be looked at.
    pub fn standardize_as(&mut self, mean: f32, std: f32) {
        let inverse = if std > 0.0 && std.is_finite() { 1.0 / std } else { 1.0 };
        self.statistics.set(mean, inverse);
    }

    /// The logits of a clip under the present parameters.
    ///
    /// # Errors
    /// As [`Self::features`].
    pub fn logits(&mut self, clip: Clip<'_>) -> Result<&[f32], TrainError> {
        self.forward(clip, &mut Silent)?;
        self.compute_logits();
        Ok(self.readings.logits)
    }

    /// The loss and the likeliest class of a clip under the present parameters.
    ///
    /// # Errors
    /// As [`Self::features`], and [`TrainError::Truth`].
    pub fn evaluate(&mut self, clip: Clip<'_>, truth: Truth<'_>) -> Result<Evaluation, TrainError> {
        self.forward(clip, &mut Silent)?;
        self.compute_logits();
        let loss = self.setup.loss.evaluate(self.readings.logits, truth, self.readings.logit_grad);
        let loss = loss.ok_or(TrainError::Truth { logits: self.readings.logits.len() })?;
        let ranked = self.readings.logits.iter().enumerate();
        let best = ranked.reduce(|best, next| if next.1 > best.1 { next } else { best });
        Ok(Evaluation { loss, class: best.map_or(0, |(class, _)| class) })
    }

    /// Runs a clip forward with `trace` called around every step behind the cut
    /// (behind the input, for [`Clip::Inputs`]): for calibration and reports.
    ///
    /// # Errors
    /// [`TrainError::Clip`], [`TrainError::Busy`], [`TrainError::Exec`].
    pub fn forward(&mut self, clip: Clip<'_>, trace: &mut dyn Trace<T::Memory>) -> Result<(), TrainError> {
        self.idle()?;
        self.refresh()?;
        let patches = self.patches(&clip)?;
        self.readings.pooled.fill(0.0);
        if let Clip::Features(values) = clip {
            return copy(self.readings.pooled, values);
        }
        for patch in 0..patches {
            let first = self.load(&clip, patch)?;
            let steps = first..self.tap.step.saturating_add(1);
            if trace.watches() {
                self.session.run_steps(steps, core::slice::from_ref(&self.parameters), trace)?;
            } else {
                self.session.run_range(steps, &self.parameters)?;
            }
            self.collect_features(patches)?;
        }
        Ok(())
    }

    fn idle(&self) -> Result<(), TrainError> {
        if matches!(self.stage, Stage::Idle) { Ok(()) } else { Err(TrainError::Busy) }
    }
}

/// Weight and bias of a head of `classes` at the front of the parameter vector.
fn split_head(values: &[f32], head_len: usize, classes: usize) -> (&[f32], &[f32]) {
    let head = values.get(..head_len).unwrap_or(&[]);
    head.split_at_checked(head_len.saturating_sub(classes)).unwrap_or_default()
}

fn copy(to: &mut [f32], from: &[f32]) -> Result<(), TrainError> {
    if to.len() != from.len() {
        return Err(TrainError::Length { needed: from.len(), given: to.len() });
    }
    to.iter_mut().zip(from).for_each(|(t, f)| *t = *f);
    Ok(())
}
