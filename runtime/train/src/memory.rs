//! How much memory training needs, and the parts it is cut into.

use ingraft_exec::MemoryNeeds;
use ingraft_kernel::{Sites, Target};
use ingraft_plan::{Phase, PlanView};
use ingraft_tensor::bytes::{self, Plain};

use crate::method::Part;
use crate::parameters::{Ends, Pool, Slot};
use crate::readout::{Tap, head_sizes};
use crate::trainer::span::{self, Span};
use crate::{FrozenSite, Setup, TrainError, prefix};
use ingraft_adapter::SiteName;

/// The bytes a trainer needs, by purpose: exact, and known before the first step.
///
/// A pure function of plan, target and setup, callable on the host before a
/// device is flashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainMemory {
    /// Activations, masks, gradients of activations, scratch.
    pub session: usize,
    /// Weights as the target packs them at bind, of every layer of the schedule; 0 on targets that use them in place.
    pub packed: usize,
    /// The parameters of head and terms.
    pub parameters: usize,
    /// Their gradients.
    pub gradients: usize,
    /// The optimizer's state, and what it works in.
    pub optimizer: usize,
    /// Feature statistics, pooled features, logits, and their gradients; what features are read from, where the host does
    /// not address the target's memory.
    pub head: usize,
    /// Positions of sparse terms, and the constant halves of scale-and-shift pairs.
    pub constants: usize,
    /// Terms that are computed from latent parameters, their gradients, and what computing them takes.
    pub latent: usize,
    /// Tables of trained sites, backward steps and cached tensors.
    pub tables: usize,
    /// Not part of the total: bytes of one patch behind the frozen prefix, should the caller keep it.
    pub cached_patch: usize,
    /// Not part of the total: bytes of one clip's features, should the caller keep them.
    pub cached_clip: usize,
}

impl TrainMemory {
    /// The sum of what the trainer itself needs.
    pub fn total(&self) -> usize {
        self.beside().saturating_add(self.device())
    }

    /// The part that lies in the memory of the target: a session's.
    pub fn device(&self) -> usize {
        self.session.saturating_add(self.packed)
    }

    /// The part that lies in memory of the host.
    pub fn beside(&self) -> usize {
        let terms = [self.parameters, self.gradients, self.optimizer, self.constants, self.latent];
        let parts = terms.into_iter().chain([self.head, self.tables]);
        parts.fold(0, usize::saturating_add)
    }
}

/// The element counts of everything a trainer holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// The schedule that is run: inference's where no site is trained, which
    /// needs neither masks nor gradients of activations.
    pub(crate) phase: Phase,
    pub(crate) session: MemoryNeeds,
    pub(crate) tap: Tap,
    /// First forward step that depends on a trained site; one past the tap when none does.
    pub(crate) cut: usize,
    pub(crate) features: usize,
    pub(crate) logits: usize,
    /// Head parameters; 0 without a head.
    pub(crate) head: usize,
    pub(crate) slots: usize,
    pub(crate) ends: Ends,
    pub(crate) ones: usize,
    pub(crate) zeros: usize,
    /// Words of the optimizer's state.
    pub(crate) state: usize,
    /// Of these, the head's, at the front.
    pub(crate) head_state: usize,
    /// Words of its working memory.
    pub(crate) working: usize,
    pub(crate) backward: usize,
    pub(crate) cached: usize,
    pub(crate) cached_bytes: usize,
    pub(crate) patch_bytes: usize,
    /// Values of what is read, where the host does not address it in the target's memory.
    pub(crate) staged: usize,
}

impl Sizes {
    /// The sizes of training `plan` on `target` as `setup` says.
    pub(crate) fn new<T: Target>(
        plan: &PlanView<'_>,
        target: &T,
        setup: &Setup<'_>,
    ) -> Result<Self, TrainError> {
        let mut trains = false;
        for_each_slot(plan, setup, Ends::default(), |_, _, _| trains = true)?;
        let phase = if trains { Phase::Train } else { Phase::Infer };
        let session = MemoryNeeds::new(plan, phase, target)?;
        let tap = Tap::new(plan, phase, setup.readout)?;
        let (logits, head) = head_sizes(plan, setup.readout, tap.features())?;
        if !trains && head == 0 {
            return Err(TrainError::NothingToTrain);
        }
        let mut sizes = Self {
            phase,
            session,
            tap,
            cut: tap.step.saturating_add(1),
            features: tap.features(),
            logits,
            head,
            slots: 0,
            ends: Ends { parameters: head, ..Ends::default() },
            ones: 0,
            zeros: 0,
            state: 0,
            head_state: 0,
            working: 0,
            backward: 0,
            cached: 0,
            cached_bytes: 0,
            patch_bytes: 0,
            staged: if target.is_host() { 0 } else { tap.elements() },
        };
        sizes.count_state(setup, &span::of_head(setup, head, logits));
        sizes.head_state = sizes.state;
        if trains {
            sizes.count_sites(plan, setup)?;
        }
        sizes.count_bytes(plan);
        Ok(sizes)
    }

    fn count_sites(&mut self, plan: &PlanView<'_>, setup: &Setup<'_>) -> Result<(), TrainError> {
        self.tap.grad.ok_or(TrainError::NoGradient)?;
        self.backward = plan.step_count(Phase::Train).saturating_sub(plan.train_backward());
        let mut factors = 0usize;
        for_each_slot(plan, setup, self.ends, |slot, ends, step| {
            let (scale, shift) = (slot.length(Part::Scale), slot.length(Part::Shift));
            self.slots = self.slots.saturating_add(1);
            self.ends = ends;
            self.cut = self.cut.min(step);
            self.count_state(setup, &span::of_site(setup, &slot));
            factors = factors.saturating_add(slot.parameters(Part::Up));
            self.ones = self.ones.max(if scale == 0 { shift } else { 0 });
            self.zeros = self.zeros.max(if shift == 0 { scale } else { 0 });
        })?;
        if factors == 0 && setup.moves.up_ratio != 1.0 { Err(TrainError::NoFactors) } else { Ok(()) }
    }

    fn count_state(&mut self, setup: &Setup<'_>, groups: &[Span]) {
        for group in groups.iter().filter(|group| !group.range.is_empty()) {
            self.state = self.state.saturating_add(group.state.len());
            self.working = self.working.max(setup.optimizer.workspace_words(group.shape));
        }
    }

    fn count_bytes(&mut self, plan: &PlanView<'_>) {
        for tensor in prefix::tensors(plan, self.phase, self.cut, &self.tap) {
            self.cached = self.cached.saturating_add(1);
            self.cached_bytes = self.cached_bytes.saturating_add(prefix::bytes(plan, tensor).unwrap_or(0));
        }
        let inputs = plan.inputs().filter_map(|io| prefix::bytes(plan, io.tensor));
        self.patch_bytes = inputs.fold(0, usize::saturating_add);
    }

    /// The bytes of everything, as [`Carver`] takes them.
    pub(crate) fn memory(&self) -> TrainMemory {
        let f32s = |count: usize| bytes::align_up(count.saturating_mul(size_of::<f32>()));
        let f64s = |count: usize| bytes::align_up(count.saturating_mul(size_of::<f64>()));
        let parameters = f32s(self.ends.parameters);
        let statistics = if self.head == 0 { 0 } else { f32s(self.features).saturating_mul(2) };
        let working = f32s(self.features).saturating_add(f32s(self.logits)).saturating_mul(2);
        let sparse = [
            bytes::align_up(self.ends.indptr.saturating_mul(size_of::<u32>())),
            bytes::align_up(self.ends.indices.saturating_mul(size_of::<u16>())),
        ];
        let tables = [
            bytes::align_up(self.slots.saturating_mul(size_of::<Slot>())),
            bytes::align_up(self.backward),
            bytes::align_up(self.cached.saturating_mul(size_of::<u32>())),
        ];
        let sum = |parts: &[usize]| parts.iter().fold(0usize, |sum, part| sum.saturating_add(*part));
        TrainMemory {
            session: self.session.total().saturating_sub(self.session.packed),
            packed: self.session.packed,
            parameters,
            gradients: parameters,
            optimizer: f32s(self.state).saturating_add(f32s(self.working)),
            head: statistics.saturating_add(working).saturating_add(f32s(self.staged)),
            latent: sum(&[
                f32s(self.ends.computed).saturating_mul(2),
                f64s(self.ends.constants),
                f64s(self.ends.workspace),
            ]),
            constants: sum(&sparse).saturating_add(f32s(self.ones)).saturating_add(f32s(self.zeros)),
            tables: sum(&tables),
            cached_patch: self.cached_bytes,
            cached_clip: self.features.saturating_mul(size_of::<f32>()),
        }
    }
}

/// Calls `visit(slot, ends behind it, its forward step)` for every site that the method trains.
///
/// # Errors
/// The first site that cannot be trained.
pub(crate) fn for_each_slot(
    plan: &PlanView<'_>,
    setup: &Setup<'_>,
    mut ends: Ends,
    mut visit: impl FnMut(Slot, Ends, usize),
) -> Result<(), TrainError> {
    let (mut last, mut pool) = (None, Pool::default());
    for index in setup.sites {
        let desc = plan.site(*index as usize).ok_or(TrainError::NoSuchSite(*index))?;
        if last.is_some_and(|last| last >= *index) {
            return Err(TrainError::SiteOrder(*index));
        }
        last = Some(*index);
        let name = SiteName::new(desc.name);
        let layout = setup.method.layout(&desc).map_err(|reason| TrainError::Unfit { site: name, reason })?;
        let (slot, next) = ends.slot(*index, &desc, &layout, &mut pool).ok_or(TrainError::TooLarge)?;
        if next.parameters == ends.parameters && !slot.is_latent() {
            continue;
        }
        let place = plan.site_tensors(Phase::Train, *index as usize);
        let place = place.filter(|place| place.step as usize >= plan.train_cut());
        let place = place.filter(|_| FrozenSite::new(plan, *index as usize).is_some() && kept(plan, *index));
        let step = place.ok_or(TrainError::NotTrainable(name))?.step;
        visit(slot, next, step as usize);
        ends = next;
    }
    Ok(())
}

/// Whether the gradient of site `site` finds the input of its layer: one that the plan was not compiled to train keeps none.
fn kept(plan: &PlanView<'_>, site: u32) -> bool {
    let mut backward = plan.train_backward()..plan.step_count(Phase::Train);
    backward.any(|index| {
        let step = plan.step(Phase::Train, index).filter(|step| step.site == Some(site));
        let whole = |tensor: &u32| plan.tensor(*tensor).is_some_and(|t| t.operand.shape.elements() != 0);
        step.is_some_and(|step| step.inputs.iter().all(whole))
    })
}

/// Cuts memory into slices, each starting at an aligned byte.
#[derive(Debug)]
pub(crate) struct Carver<'m> {
    rest: &'m mut [u8],
}

impl<'m> Carver<'m> {
    /// Starts at the beginning of `memory`, which is aligned.
    pub(crate) fn new(memory: &'m mut [u8]) -> Self {
        Self { rest: memory }
    }

    /// The next `len` bytes.
    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'m mut [u8]> {
        let (taken, rest) = core::mem::take(&mut self.rest).split_at_mut_checked(bytes::align_up(len))?;
        self.rest = rest;
        taken.get_mut(..len)
    }

    /// The next `count` values, zeroed.
    pub(crate) fn take<T: Plain>(&mut self, count: usize) -> Option<&'m mut [T]> {
        let taken = self.bytes(count.checked_mul(size_of::<T>())?)?;
        taken.fill(0);
        bytes::cast_mut(taken)
    }
}
