//! A batch whose clips are under way at once, where the target has lanes.

use ingraft_kernel::Target;
use ingraft_plan::Phase;

use super::Trainer;
use crate::{Clip, TrainError, Truth};

impl<T: Target> Trainer<'_, '_, T> {
    /// As [`Self::accumulate`] for one clip after the other, to the bit; calls `heard` with the loss of each, in order. On a
    /// target with lanes ([`Target::lanes`]) as many clips, or patches of one, are under way at once.
    ///
    /// # Errors
    /// As [`Self::accumulate`], for the batch as a whole: [`Self::discard`] it.
    pub fn accumulate_all(
        &mut self,
        batch: &[(Clip<'_>, Truth<'_>)],
        mut heard: impl FnMut(f32),
    ) -> Result<(), TrainError> {
        self.idle()?;
        let lanes = self.lanes();
        let mut rest = batch;
        while let Some(((clip, truth), others)) = rest.split_first() {
            let single = |clip: &Clip<'_>| {
                !matches!(clip, Clip::Features(_)) && self.patches(clip).is_ok_and(|patches| patches == 1)
            };
            if lanes == 1 || matches!(clip, Clip::Features(_)) {
                heard(self.accumulate(*clip, *truth)?);
                rest = others;
            } else if single(clip) {
                let count = rest.iter().take(lanes).take_while(|(clip, _)| single(clip)).count();
                let (now, behind) = rest.split_at_checked(count).unwrap_or((rest, &[]));
                let done = self.beside_each_other(now, &mut heard);
                self.joined(done)?;
                rest = behind;
            } else {
                let done = self.patch_beside_patch(clip, *truth, lanes);
                heard(self.joined(done)?);
                rest = others;
            }
        }
        Ok(())
    }

    /// Lanes that may be used: one where a site's gradient is of several steps, whose order lanes would change.
    fn lanes(&self) -> usize {
        if self.shares { 1 } else { self.session.lanes() }
    }

    /// Whether a trained site's gradient is of several steps.
    pub(super) fn shares_sites(&self) -> bool {
        let plan = self.session.plan();
        let site = |index| plan.step(Phase::Train, self.route.step(index)?.0)?.site;
        self.parameters.slots.iter().any(|slot| {
            (0..self.route.len()).filter(|index| site(*index) == Some(slot.site)).nth(1).is_some()
        })
    }

    /// Adds the lanes' gradients up, whatever became of the run.
    fn joined<R>(&mut self, done: Result<R, TrainError>) -> Result<R, TrainError> {
        let joined = self.session.join();
        let done = done?;
        joined?;
        Ok(done)
    }

    /// Clips of one patch, a lane each.
    fn beside_each_other(
        &mut self,
        batch: &[(Clip<'_>, Truth<'_>)],
        heard: &mut impl FnMut(f32),
    ) -> Result<(), TrainError> {
        self.refresh()?;
        for (lane, (clip, _)) in batch.iter().enumerate() {
            self.run_in(lane, clip, 0)?;
        }
        for (lane, (_, truth)) in batch.iter().enumerate() {
            self.session.select(lane)?;
            self.readings.pooled.fill(0.0);
            self.collect_features(1)?;
            self.read_loss(*truth)?;
            if !self.parameters.slots.is_empty() {
                self.seed(1, 0)?;
                self.run_backward(0, &mut { usize::MAX })?;
            }
            self.clips = self.clips.saturating_add(1);
            heard(self.loss);
        }
        Ok(())
    }

    /// Patches of one clip, a lane each, in the order in which one lane would take them; gives the loss.
    fn patch_beside_patch(
        &mut self,
        clip: &Clip<'_>,
        truth: Truth<'_>,
        lanes: usize,
    ) -> Result<f32, TrainError> {
        self.refresh()?;
        let patches = self.patches(clip)?;
        self.readings.pooled.fill(0.0);
        for first in (0..patches).step_by(lanes) {
            let now = first..patches.min(first.saturating_add(lanes));
            for (lane, patch) in now.clone().enumerate() {
                self.run_in(lane, clip, patch)?;
            }
            for lane in 0..now.len() {
                self.session.select(lane)?;
                self.collect_features(patches)?;
            }
        }
        self.session.select(0)?;
        self.read_loss(truth)?;
        if !self.parameters.slots.is_empty() {
            for last in (1..=patches).rev().step_by(lanes) {
                let now = last.saturating_sub(lanes)..last;
                for (lane, patch) in now.rev().enumerate() {
                    self.run_in(lane, clip, patch)?;
                    self.seed(patches, patch)?;
                    self.run_backward(0, &mut { usize::MAX })?;
                }
                self.session.join()?;
            }
        }
        self.clips = self.clips.saturating_add(1);
        Ok(self.loss)
    }

    /// Has patch `patch` of `clip` run forward in `lane`.
    fn run_in(&mut self, lane: usize, clip: &Clip<'_>, patch: usize) -> Result<(), TrainError> {
        self.session.select(lane)?;
        let step = self.load(clip, patch)?;
        self.run_forward(step, &mut { usize::MAX })?;
        Ok(())
    }
}
