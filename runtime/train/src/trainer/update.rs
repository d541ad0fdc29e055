//! The optimizer step over all groups of parameters.

use core::ops::Range;

use ingraft_plan::PlanView;

use super::{LatentMemory, Stage, Trainer};
use crate::method::{Method, Part};
use crate::optim::{Group, Rate};
use crate::parameters::{Parameters, Slot};
use crate::{FrozenSite, LatentSites, LearningRate, Revision, Setup, TrainError};

/// One contiguous group: where it lies and how it moves.
#[derive(Clone, Debug, PartialEq)]
struct Span {
    range: Range<usize>,
    rate: LearningRate,
    scale: f32,
}

impl<'a, 'm> Trainer<'a, 'm> {
    /// Moves the parameters against the mean gradient of the clips accumulated
    /// since the last step; gives the length of that gradient before clipping.
    ///
    /// # Numerics
    /// The length is that of the gradient of the unscaled parameters
    /// ([`crate::Optimizer`]), summed in f64 in eight interleaved partial sums per part.
    ///
    /// # Errors
    /// [`TrainError::Busy`], [`TrainError::NoGradients`], or
    /// [`TrainError::Diverged`], which discards the gradients and moves nothing.
    pub fn step(&mut self) -> Result<f32, TrainError> {
        self.idle()?;
        if self.clips == 0 {
            return Err(TrainError::NoGradients);
        }
        self.pull_back();
        let mean = 1.0 / self.clips as f32;
        let norm = self.norm() * mean;
        if !norm.is_finite() {
            self.discard();
            return Err(TrainError::Diverged);
        }
        let clip = self.setup.clip_norm.filter(|limit| norm > *limit).map_or(1.0, |limit| limit / norm);
        let factor = self.setup.schedule.factor(self.steps);
        self.steps = self.steps.saturating_add(1);
        for span in self.spans() {
            let rate = Rate {
                learning_rate: span.rate.rate * factor,
                weight_decay: span.rate.weight_decay,
                scale: span.scale,
                gradient: mean * clip,
                step: self.steps,
            };
            let [first, second] = &mut self.state;
            let group = Group {
                parameters: self.parameters.values.get_mut(span.range.clone()).unwrap_or_default(),
                gradients: self.gradients.get(span.range.clone()).unwrap_or(&[]),
                state: [
                    first.get_mut(span.range.clone()).unwrap_or_default(),
                    second.get_mut(span.range).unwrap_or_default(),
                ],
            };
            self.setup.optimizer.update(&rate, group);
        }
        self.constrain();
        self.revise(self.setup.adapter.rate * factor, mean * clip);
        self.compute();
        self.discard();
        Ok(norm)
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
        self.setup.method.revise(&mut sites, &Revision { step: self.steps, learning_rate, gradient });
    }

    /// Forgets the accumulated gradients, and the clip in progress if there is one.
    pub fn discard(&mut self) {
        self.gradients.fill(0.0);
        self.latent.gradients.fill(0.0);
        self.clips = 0;
        self.stage = Stage::Idle;
    }

    fn constrain(&mut self) {
        let Parameters { values, indptr, indices, slots, .. } = &mut self.parameters;
        for slot in slots.iter().filter(|slot| !slot.is_latent()) {
            if let Some(site) = FrozenSite::new(self.session.plan(), slot.site as usize) {
                self.setup.method.constrain(&site, &mut slot.values(values, indptr, indices));
            }
        }
    }

    /// Computes the terms of latent sites from the present parameters.
    pub(super) fn compute(&mut self) {
        compute(self.session.plan(), self.setup.method, &mut self.parameters, &mut self.latent);
    }

    /// Moves the gradients of computed terms on to the latent parameters they are computed from.
    pub(super) fn pull_back(&mut self) {
        let Parameters { values, slots, .. } = &mut self.parameters;
        let LatentMemory { gradients, constants, workspace } = &mut self.latent;
        for slot in slots.iter().filter(|slot| slot.is_latent()) {
            if let Some(site) = FrozenSite::new(self.session.plan(), slot.site as usize) {
                let mut latent = slot.latent(values, constants, workspace);
                let mut into = slot.latent_gradients(self.gradients);
                self.setup.method.pull_back(&site, &mut latent, &slot.grads(gradients), &mut into);
            }
        }
        gradients.fill(0.0);
    }

    /// Length of the summed gradient of the unscaled parameters.
    fn norm(&self) -> f32 {
        let squares = self.spans().map(|span| {
            let (runs, rest) = self.gradients.get(span.range).unwrap_or(&[]).as_chunks::<8>();
            let square = |g: &f32| f64::from(g * span.scale) * f64::from(g * span.scale);
            let mut sums = [0.0f64; 8];
            for run in runs {
                sums.iter_mut().zip(run).for_each(|(sum, g)| *sum += square(g));
            }
            sums.into_iter().chain(rest.iter().map(square)).sum::<f64>()
        });
        libm::sqrt(squares.sum::<f64>()) as f32
    }

    /// The groups, in the order of the parameter vector. They borrow the tables, not the trainer.
    fn spans(&self) -> impl Iterator<Item = Span> + use<'a, 'm> {
        let (setup, slots): (Setup<'a>, &'m [Slot]) = (self.setup, self.parameters.slots);
        let weights = self.head_len.saturating_sub(self.readings.logits.len());
        let head = [
            Span { range: 0..weights, rate: setup.head, scale: 1.0 },
            Span { range: weights..self.head_len, rate: without_decay(setup.head), scale: 1.0 },
        ];
        let mut first = self.head_len;
        let terms = slots.iter().flat_map(|slot| Part::ALL.map(|part| (part, slot.parameters(part))));
        let terms = terms.map(move |(part, len)| {
            let range = first..first.saturating_add(len);
            first = range.end;
            let moves = setup.method.rate(part);
            let rate = if moves.decays { setup.adapter } else { without_decay(setup.adapter) };
            Span { range, rate, scale: moves.scale }
        });
        head.into_iter().chain(terms).filter(|span| !span.range.is_empty())
    }
}

/// Computes the terms of latent sites.
pub(super) fn compute(
    plan: &PlanView<'_>,
    method: &dyn Method,
    parameters: &mut Parameters<'_>,
    memory: &mut LatentMemory<'_>,
) {
    let Parameters { values, computed, indptr, indices, slots, .. } = parameters;
    for slot in slots.iter().filter(|slot| slot.is_latent()) {
        if let Some(site) = FrozenSite::new(plan, slot.site as usize) {
            let mut latent = slot.latent(values, memory.constants, memory.workspace);
            method.compute(&site, &mut latent, &mut slot.values(computed, indptr, indices));
        }
    }
}

fn without_decay(rate: LearningRate) -> LearningRate {
    LearningRate { weight_decay: 0.0, ..rate }
}
