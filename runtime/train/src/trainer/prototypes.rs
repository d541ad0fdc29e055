//! A head that starts at the nearest class mean.

use ingraft_exec::Silent;
use ingraft_kernel::Target;

use super::{Stage, Trainer};
use crate::twofold::Twofold;
use crate::{Clip, Readout, TrainError};

impl<T: Target> Trainer<'_, '_, T> {
    /// Takes a training clip into the mean of its class; behind [`Self::standardize`], and before any clip is trained on.
    /// [`Self::start_at_prototypes`] ends it, and [`Self::discard`] gives it up: until then all else is refused.
    ///
    /// The sums stand where the head's gradients will: it takes no memory of its own.
    ///
    /// # Errors
    /// As [`Self::features`], [`TrainError::NoHead`], and [`TrainError::Truth`] for a class that the head does not have.
    pub fn observe_class(&mut self, clip: Clip<'_>, class: usize) -> Result<(), TrainError> {
        let Readout::Head { .. } = self.setup.readout else { return Err(TrainError::NoHead) };
        let logits = self.readings.logits.len();
        if class >= logits {
            return Err(TrainError::Truth { logits });
        }
        if self.clips != 0 {
            return Err(TrainError::Busy);
        }
        let going_on = matches!(self.stage, Stage::Prototypes);
        if going_on {
            self.stage = Stage::Idle;
        }
        let forward = self.forward(clip, &mut Silent);
        if going_on || forward.is_ok() {
            self.stage = Stage::Prototypes;
        }
        forward?;
        let width = self.readings.pooled.len();
        let sums = self.gradients.get_mut(..self.head_len).unwrap_or_default();
        let (sums, counts) = sums.split_at_mut_checked(width.saturating_mul(logits)).unwrap_or_default();
        let start = class.saturating_mul(width);
        let sum = sums.get_mut(start..start.saturating_add(width)).unwrap_or_default();
        self.statistics.add(self.readings.pooled, sum);
        counts.get_mut(class).into_iter().for_each(|count| *count += 1.0);
        Ok(())
    }

    /// Starts the head at the nearest class mean (Mensink et al., 2013; prototypical networks, Snell et al., 2017): with z
    /// the standardized features and μ the mean of a class, its logit is scale·(μ·z − ½|μ|²), which is −½·scale·|z − μ|²
    /// but for what all classes share. `scale` decides nothing but how sure the start is. A class of which there was no
    /// clip is as far from z = 0 as the furthest.
    ///
    /// # Errors
    /// [`TrainError::Busy`] unless [`Self::observe_class`] came before.
    pub fn start_at_prototypes(&mut self, scale: f32) -> Result<(), TrainError> {
        if !matches!(self.stage, Stage::Prototypes) {
            return Err(TrainError::Busy);
        }
        let (width, classes) = (self.readings.pooled.len(), self.readings.logits.len());
        let split = width.saturating_mul(classes);
        let sums = self.gradients.get(..self.head_len).unwrap_or_default();
        let (sums, counts) = sums.split_at_checked(split).unwrap_or_default();
        let head = self.parameters.values.get_mut(..self.head_len).unwrap_or_default();
        let (weights, biases) = head.split_at_mut_checked(split).unwrap_or_default();
        weights.fill(0.0);
        let mut furthest = 0.0f32;
        for (class, (bias, count)) in biases.iter_mut().zip(counts).enumerate() {
            if *count == 0.0 {
                continue;
            }
            let start = class.saturating_mul(width);
            let range = start..start.saturating_add(width);
            let mut square = Twofold::ZERO;
            let row = weights.get_mut(range.clone()).unwrap_or_default();
            for (weight, sum) in row.iter_mut().zip(sums.get(range).unwrap_or_default()) {
                let mean = sum / count;
                square = square.add_product(mean, mean);
                *weight = scale * mean;
            }
            *bias = -0.5 * scale * square.value();
            furthest = furthest.min(*bias);
        }
        let missing = biases.iter_mut().zip(counts).filter(|(_, count)| **count == 0.0);
        missing.for_each(|(bias, _)| *bias = furthest);
        self.discard();
        Ok(())
    }
}
