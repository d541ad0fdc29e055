//! The frozen prefix of one patch, interruptible between any two steps.

use ingraft_exec::Silent;
use ingraft_kernel::Target;

use super::Trainer;
use super::engine::Stage;
use crate::{Clip, TrainError, prefix};

impl<T: Target> Trainer<'_, '_, T> {
    /// Runs the frozen prefix on one patch and writes the [`Self::cut_bytes`] that
    /// stand for it from now on.
    ///
    /// # Errors
    /// [`TrainError::Length`], [`TrainError::Clip`], [`TrainError::Busy`], [`TrainError::Exec`].
    pub fn run_prefix(&mut self, patch: &[u8], out: &mut [u8]) -> Result<(), TrainError> {
        self.idle()?;
        match self.advance_prefix(patch, out, usize::MAX)? {
            Some(()) => Ok(()),
            None => Err(TrainError::Busy),
        }
    }

    /// As [`Self::run_prefix`], for at most `budget` steps of the plan (at least one): `None` says that the patch is not
    /// done, and wants the next call with the same patch and room. The result does not depend on how the work was divided.
    ///
    /// # Errors
    /// As [`Self::run_prefix`]; the patch is then given up.
    pub fn advance_prefix(
        &mut self,
        patch: &[u8],
        out: &mut [u8],
        budget: usize,
    ) -> Result<Option<()>, TrainError> {
        let step = match self.stage {
            Stage::Idle => None,
            Stage::Prefix { step } => Some(step),
            _ => return Err(TrainError::Busy),
        };
        // Whatever ends here, ends between clips.
        self.stage = Stage::Idle;
        if out.len() != self.cached_bytes {
            return Err(TrainError::Length { needed: self.cached_bytes, given: out.len() });
        }
        if patch.len() != self.patch_bytes {
            return Err(TrainError::Clip { unit: self.patch_bytes, given: patch.len() });
        }
        let step = match step {
            Some(step) => step,
            None => self.load(&Clip::Inputs(patch), 0)?,
        };
        self.refresh()?;
        let end = self.cut.min(step.saturating_add(budget.max(1)));
        if budget == usize::MAX {
            self.session.run_range(step..end, &self.parameters)?;
        } else {
            self.session.run_steps(step..end, core::slice::from_ref(&self.parameters), &mut Silent)?;
        }
        if end < self.cut {
            self.stage = Stage::Prefix { step: end };
            return Ok(None);
        }
        self.keep(out).map(Some)
    }

    /// Writes what stands for the patch.
    fn keep(&mut self, out: &mut [u8]) -> Result<(), TrainError> {
        let mut rest = out;
        for tensor in self.cached {
            let len = prefix::bytes(self.session.plan(), *tensor).unwrap_or(0);
            let (room, tail) = core::mem::take(&mut rest).split_at_mut_checked(len).unwrap_or_default();
            self.session.read_tensor(*tensor, room).ok_or(TrainError::NoReadout)?;
            rest = tail;
        }
        Ok(())
    }
}
