//! The optimizer step over all groups of parameters.

use ingraft_kernel::Target;
use ingraft_kernel::descent::{SQUARES, sum_of_squares};
use ingraft_plan::PlanView;

use super::span::{self, PIECE, Span};
use super::{LatentMemory, Stage, Trainer};
use crate::method::Method;
use crate::optim::{Group, soft_threshold};
use crate::parameters::{Parameters, Slot};
use crate::twofold::Twofold;
use crate::{FrozenSite, LatentSites, Revision, Setup, TrainError};

/// Where the update of the parameters stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Update {
    at: At,
    /// Squares of the gradients so far.
    pub(super) squares: Twofold,
    norm: f32,
    /// What summed gradients are multiplied with: averaging and clipping.
    pub(super) gradient: f32,
}

/// The next piece of an update.
#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    /// Gradients of the terms of this latent site go back to its parameters.
    PullBack(usize),
    /// The gradients of group `span` from `from` on are squared.
    Measure { span: usize, from: usize },
    /// The parameters of group `span` from `from` on move.
    Move { span: usize, from: usize },
    /// The terms of this site are brought back to what can be deployed.
    Constrain(usize),
    /// The method revises its latent sites.
    Revise,
    /// The terms of this latent site are computed.
    Compute(usize),
    /// The gradients from this one on are forgotten.
    Forget(usize),
}

impl At {
    /// Number of this kind of piece, below [`Update::KINDS`].
    fn kind(self) -> usize {
        match self {
            Self::PullBack(_) => 0,
            Self::Measure { .. } => 1,
            Self::Move { .. } => 2,
            Self::Constrain(_) => 3,
            Self::Revise => 4,
            Self::Compute(_) => 5,
            Self::Forget(_) => 6,
        }
    }
}

impl Update {
    /// Kinds of pieces.
    pub(super) const KINDS: usize = 7;

    const START: Self = Self { at: At::PullBack(0), squares: Twofold::ZERO, norm: 0.0, gradient: 0.0 };

    /// The kind of the next piece.
    pub(super) fn kind(&self) -> usize {
        self.at.kind()
    }
}

impl<'a, 'm, T: Target> Trainer<'a, 'm, T> {
    /// Moves the parameters against the mean gradient of the clips accumulated
    /// since the last step; gives the length of that gradient before clipping.
    ///
    /// # Numerics
    /// The length is that of the gradient of the unscaled parameters
    /// ([`crate::Optimizer`]): [`sum_of_squares`] of each run of a part, added in twice the digits of f32. Gradients beyond
    /// 1.8e19 are diverged.
    ///
    /// # Errors
    /// [`TrainError::Busy`], [`TrainError::NoGradients`], or
    /// [`TrainError::Diverged`], which discards the gradients and moves nothing.
    pub fn step(&mut self) -> Result<f32, TrainError> {
        self.idle()?;
        self.advance_step(usize::MAX)?.ok_or(TrainError::Busy)
    }

    /// As [`Self::step`], for at most `budget` pieces (at least one): a piece is 4096 parameters, or one site.
    /// `None` says that the step is not done, and wants the next call. The result does not depend on how the work
    /// was divided.
    ///
    /// Until it is done, the parameters are those of no step; [`Self::discard`] would leave them so.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn advance_step(&mut self, budget: usize) -> Result<Option<f32>, TrainError> {
        let mut update = match self.stage {
            Stage::Idle if self.clips == 0 => return Err(TrainError::NoGradients),
            Stage::Idle if self.moves_apart() => {
                self.give_back()?;
                Update { at: At::Measure { span: 0, from: 0 }, ..Update::START }
            }
            Stage::Idle => {
                self.settle()?;
                self.stale = true;
                Update::START
            }
            Stage::Update(update) => update,
            _ => return Err(TrainError::Busy),
        };
        for _ in 0..budget.max(1) {
            match self.piece(&mut update)? {
                Some(at) => update.at = at,
                None => {
                    self.steps = self.steps.saturating_add(1);
                    (self.clips, self.stage) = (0, Stage::Idle);
                    return Ok(Some(update.norm));
                }
            }
        }
        self.stage = Stage::Update(update);
        Ok(None)
    }

    /// Does one piece; gives the next, or `None` when that was the last.
    fn piece(&mut self, update: &mut Update) -> Result<Option<At>, TrainError> {
        let sites = self.parameters.slots.len();
        let after = |slot: usize, same: fn(usize) -> At, then: At| match slot.saturating_add(1) {
            next if next < sites => same(next),
            _ => then,
        };
        Ok(Some(match update.at {
            At::PullBack(slot) => {
                self.pull_back(slot);
                after(slot, At::PullBack, At::Measure { span: 0, from: 0 })
            }
            At::Measure { span, from } => self.measure(update, span, from)?,
            At::Move { span, from } => self.move_piece(update, span, from)?,
            At::Constrain(slot) => {
                self.constrain(slot);
                after(slot, At::Constrain, At::Revise)
            }
            At::Revise => {
                let rate = self.setup.adapter.rate * self.setup.schedule.factor(self.steps);
                self.revise(rate, update.gradient);
                At::Compute(0)
            }
            At::Compute(slot) => {
                self.compute(slot);
                after(slot, At::Compute, At::Forget(0))
            }
            At::Forget(from) => return Ok(self.forget(from)),
        }))
    }

    /// Squares a piece of the gradients; behind the last, decides how far to move.
    fn measure(&mut self, update: &mut Update, span: usize, from: usize) -> Result<At, TrainError> {
        let group = self.spans().nth(span);
        if self.is_apart(group.as_ref()) {
            self.measure_apart(update)?;
        } else if let Some(group) = group {
            let (piece, next) = group.piece(from);
            for run in self.gradients.get(piece).unwrap_or(&[]).chunks(SQUARES) {
                update.squares = update.squares.add(sum_of_squares(run, group.scale));
            }
            return Ok(match next {
                Some(from) => At::Measure { span, from },
                None => At::Measure { span: span.saturating_add(1), from: 0 },
            });
        }
        let mean = 1.0 / self.clips as f32;
        update.norm = libm::sqrtf(update.squares.value()) * mean;
        if !update.norm.is_finite() {
            self.discard();
            return Err(TrainError::Diverged);
        }
        let limit = self.setup.clip_norm.filter(|limit| update.norm > *limit);
        update.gradient = mean * limit.map_or(1.0, |limit| limit / update.norm);
        Ok(At::Move { span: 0, from: 0 })
    }

    /// Moves a piece of the parameters.
    fn move_piece(&mut self, update: &Update, span: usize, from: usize) -> Result<At, TrainError> {
        let Some(group) = self.spans().nth(span) else { return Ok(At::Constrain(0)) };
        if self.is_apart(Some(&group)) {
            self.move_apart(update)?;
            return Ok(At::Forget(0));
        }
        let divisible = self.setup.optimizer.is_divisible();
        let (piece, next) = if divisible { group.piece(from) } else { (group.range.clone(), None) };
        let rate = group.rate(&self.setup, self.steps, update.gradient);
        let parameters = self.parameters.values.get_mut(piece.clone()).unwrap_or_default();
        let moved = Group {
            parameters,
            gradients: self.gradients.get(piece.clone()).unwrap_or(&[]),
            state: self.state.get_mut(group.state).unwrap_or_default(),
            workspace: self.workspace,
            shape: group.shape,
            first: from,
        };
        match self.session.target().descent().zip(self.setup.optimizer.moves(&rate)) {
            Some((descend, moves)) => descend(&moves, moved.held()),
            None => self.setup.optimizer.update(&rate, moved),
        }
        if group.shrinks {
            let reach = rate.threshold(&self.setup.moves);
            soft_threshold(self.parameters.values.get_mut(piece).unwrap_or_default(), reach);
        }
        Ok(match next {
            Some(from) => At::Move { span, from },
            None => At::Move { span: span.saturating_add(1), from: 0 },
        })
    }

    /// Forgets a piece of the gradients; `None` behind the last.
    fn forget(&mut self, from: usize) -> Option<At> {
        let to = from.saturating_add(PIECE);
        let all = self.gradients.len().max(self.latent.gradients.len());
        let count = if self.moves_apart() { self.head_len } else { all };
        for gradients in [&mut *self.gradients, &mut *self.latent.gradients] {
            let end = to.min(gradients.len());
            gradients.get_mut(from..end).unwrap_or_default().fill(0.0);
        }
        (to < count).then_some(At::Forget(to))
    }

    fn revise(&mut self, learning_rate: f32, gradient: f32) {
        let Parameters { values, slots, .. } = &mut self.parameters;
        let mut sites = LatentSites {
            plan: self.session.plan(),
            slots,
            values,
            gradients: self.gradients,
            constants: self.latent.constants,
            workspace: self.latent.workspace,
        };
        self.setup
            .method
            .revise(&mut sites, &Revision { step: self.steps.saturating_add(1), learning_rate, gradient });
    }

    /// Forgets the accumulated gradients, and the clip or step in progress if there is one. What a step has moved
    /// stays so: [`Self::restore`] or [`Self::resume`] then.
    pub fn discard(&mut self) {
        // What a failed device owes is forgotten with the rest.
        let _ = self.settle();
        self.apart.iter_mut().for_each(|apart| apart.held = false);
        self.gradients.fill(0.0);
        self.latent.gradients.fill(0.0);
        self.clips = 0;
        self.stage = Stage::Idle;
    }

    /// Puts `gradients`, in the order of [`crate::Parameters::values`], in place of those accumulated, as of one clip: what
    /// [`Self::step`] moves against then. For gradients that were clipped, given noise or averaged elsewhere.
    ///
    /// # Errors
    /// [`TrainError::Length`], [`TrainError::Busy`]; the gradients accumulated are kept.
    pub fn set_gradients(&mut self, gradients: &[f32]) -> Result<(), TrainError> {
        self.idle()?;
        let (needed, given) = (self.gradients.len(), gradients.len());
        if needed != given {
            return Err(TrainError::Length { needed, given });
        }
        self.settle()?;
        super::copy(self.gradients, gradients)?;
        self.latent.gradients.fill(0.0);
        self.apart.iter_mut().for_each(|apart| apart.held = true);
        self.clips = 1;
        Ok(())
    }

    fn constrain(&mut self, slot: usize) {
        let Parameters { values, indptr, indices, slots, .. } = &mut self.parameters;
        let Some(slot) = slots.get(slot).filter(|slot| !slot.is_latent()) else { return };
        if let Some(site) = FrozenSite::new(self.session.plan(), slot.site as usize) {
            self.setup.method.constrain(&site, &mut slot.values(values, indptr, indices));
        }
    }

    /// Computes the terms of site `slot` from the present parameters, where it is latent.
    pub(super) fn compute(&mut self, slot: usize) {
        let slots = self.parameters.slots.get(slot..).and_then(|rest| rest.get(..1)).unwrap_or(&[]);
        compute(self.session.plan(), self.setup.method, slots, &mut self.parameters, &mut self.latent);
    }

    /// Computes the terms of all latent sites.
    pub(super) fn compute_all(&mut self) {
        let slots = self.parameters.slots;
        compute(self.session.plan(), self.setup.method, slots, &mut self.parameters, &mut self.latent);
    }

    /// Moves the gradients of the terms of site `slot`, where they are computed, on to its parameters.
    pub(super) fn pull_back(&mut self, slot: usize) {
        let Parameters { values, slots, .. } = &mut self.parameters;
        let LatentMemory { gradients, constants, workspace } = &mut self.latent;
        let Some(slot) = slots.get(slot).filter(|slot| slot.is_latent()) else { return };
        if let Some(site) = FrozenSite::new(self.session.plan(), slot.site as usize) {
            let mut latent = slot.latent(values, constants, workspace);
            let mut into = slot.latent_gradients(self.gradients);
            self.setup.method.pull_back(&site, &mut latent, &slot.grads(gradients), &mut into);
            slot.forget(gradients);
        }
    }

    /// The groups, in the order of the parameter vector. They borrow the tables, not the trainer.
    pub(super) fn spans(&self) -> impl Iterator<Item = Span> + use<'a, 'm, T> {
        let (setup, slots): (Setup<'a>, &'m [Slot]) = (self.setup, self.parameters.slots);
        let head = span::of_head(&setup, self.head_len, self.readings.logits.len());
        let sites = slots.iter().flat_map(move |slot| span::of_site(&setup, slot));
        let mut ends = (0, 0);
        head.into_iter()
            .chain(sites)
            .map(move |span| span.behind(&mut ends))
            .filter(|span| !span.range.is_empty())
    }
}

/// Computes the terms of the latent sites in `slots`.
pub(super) fn compute(
    plan: &PlanView<'_>,
    method: &dyn Method,
    slots: &[Slot],
    parameters: &mut Parameters<'_>,
    memory: &mut LatentMemory<'_>,
) {
    let Parameters { values, computed, indptr, indices, .. } = parameters;
    for slot in slots.iter().filter(|slot| slot.is_latent()) {
        if let Some(site) = FrozenSite::new(plan, slot.site as usize) {
            let mut latent = slot.latent(values, memory.constants, memory.workspace);
            method.compute(&site, &mut latent, &mut slot.values(computed, indptr, indices));
        }
    }
}
