//! Training that says little of any one clip: DP-SGD over units.
//!
//! Nothing here looks at the clips but the gradients: no statistics of features, no choice of the best epoch, no ranges.

use indicatif::ProgressBar;
use ingraft_adapter::{Privacy, PrivacyUnit};
use ingraft_dataset::Rng;
use ingraft_kernel::Target;
use ingraft_plan::{Phase, PlanView};
use ingraft_train::private::{Entropy, NoEntropy, PrivateSum, SampledGaussian, uniform};
use ingraft_train::{Readout, Trainer};

use super::truths::Truths;
use super::views::Views;
use super::{Course, PRIVATE_EPOCHS, PRIVATE_RATE, Run};
use crate::CliError;
use crate::entropy::OsEntropy;

/// How a private run goes.
#[derive(Clone, Debug)]
pub(crate) struct Private {
    /// The clips of each unit.
    pub(crate) units: Vec<Vec<usize>>,
    /// Steps, rate, noise and bound of this run.
    pub(crate) run: Privacy,
    /// What the adapter says: with the runs before this one.
    pub(crate) mark: Privacy,
}

impl Private {
    /// A run over `units` of this kind that spends at most `epsilon` for `delta`, in `steps` steps of each unit with
    /// probability `rate` and gradients of at most `bound`; `None` where no noise does.
    pub(crate) fn new(
        units: Vec<Vec<usize>>,
        unit: PrivacyUnit,
        (epsilon, delta): (f64, f64),
        (rate, steps): (f64, u32),
        bound: f64,
    ) -> Option<Self> {
        let noise = SampledGaussian::noise_for(rate, steps, epsilon, delta)?;
        let epsilon = SampledGaussian { rate, noise, steps }.epsilon(delta);
        let count = units.len() as u32;
        let run = Privacy { epsilon, delta, unit, units: count, steps, rate, noise, bound, runs: 1 };
        Some(Self { units, run, mark: run })
    }

    /// The largest δ for so many units: one by their square.
    pub(crate) fn largest_delta(units: usize) -> f64 {
        let units = units as f64;
        1.0 / (units * units).max(2.0)
    }

    /// Counts what an earlier run on what may be the same clips gave away: it adds up (basic composition).
    pub(crate) fn after(mut self, before: &Privacy) -> Self {
        self.mark.epsilon += before.epsilon;
        self.mark.delta += before.delta;
        self.mark.runs = self.mark.runs.saturating_add(before.runs);
        self
    }
}

/// The probability of each of so many units to be in a step, and the steps, where so many are expected in one and every unit is
/// seen so often; with defaults for both.
pub(crate) fn private_steps(batch: Option<u32>, epochs: Option<u32>, units: usize) -> (f64, u32) {
    let rate = batch.map_or(PRIVATE_RATE, |batch| f64::from(batch) / units.max(1) as f64).min(1.0);
    let epochs = epochs.unwrap_or(PRIVATE_EPOCHS).max(1);
    (rate, (f64::from(epochs) / rate).ceil().min(f64::from(u32::MAX)) as u32)
}

/// The root mean square that features of clips are taken to have: a thirty-sixth of what the base's codes reach; 1 without codes.
pub(crate) fn stated_size(plan: &PlanView<'_>, readout: Readout) -> f32 {
    let Readout::Head { site, .. } = readout else { return 1.0 };
    let source = plan.head_source(Phase::Infer, site).and_then(|(tensor, _)| plan.tensor(tensor));
    source.and_then(|tensor| tensor.qparams).map_or(1.0, |codes| codes.scale * 255.0 / 36.0)
}

/// The deviation of features that is stated in place of a measured one: such that a clip's `features` are about
/// [`LENGTH`] long behind it.
pub(crate) fn stated_deviation(plan: &PlanView<'_>, readout: Readout, features: usize) -> f32 {
    stated_size(plan, readout) * (features as f32).sqrt() / LENGTH
}

/// About the length of a clip's features that steps on gradients of length 1 want.
const LENGTH: f32 = 5.3;

impl Course<'_> {
    /// Runs the steps of `private`; the parameters are those of the last.
    pub(super) fn private_steps<T: Target>(
        &self,
        trainer: &mut Trainer<'_, '_, T>,
        views: &Views,
        truths: &mut Truths<'_>,
        private: &Private,
        bar: &ProgressBar,
    ) -> Result<Run, CliError> {
        let mut entropy = OsEntropy::new();
        let mut rng = Rng::new(self.seed);
        let Privacy { steps, rate, noise, bound, .. } = private.run;
        let mut memory = vec![0.0; trainer.parameters().values().len()];
        let mut gradients = vec![0.0; memory.len()];
        let mut sum = PrivateSum::new(&mut memory, bound);
        let expected = rate * private.units.len() as f64;
        let mut losses = Vec::new();
        for _ in 0..steps {
            let (mut loss, mut clips) = (0.0, 0u32);
            for unit in taken(&private.units, rate, &mut entropy).map_err(random)? {
                for &clip in unit {
                    let view = views.draw(clip, &mut rng);
                    loss += trainer.accumulate(views.get(clip, view), truths.of(clip, view))?;
                    clips += 1;
                }
                sum.add(trainer.gradients());
                trainer.discard();
            }
            sum.release(noise, expected, &mut entropy, &mut gradients).map_err(random)?;
            trainer.set_gradients(&gradients)?;
            trainer.step()?;
            losses.push(loss / clips.max(1) as f32);
            bar.inc(1);
        }
        let loss = losses.last().copied().unwrap_or(f32::NAN);
        Ok(Run { loss, epochs: (f64::from(steps) * rate).round() as u32, losses })
    }
}

/// The units of one step: each with probability `rate`, whatever the others.
fn taken<'u>(
    units: &'u [Vec<usize>],
    rate: f64,
    entropy: &mut impl Entropy,
) -> Result<Vec<&'u Vec<usize>>, NoEntropy> {
    let mut taken = Vec::new();
    for unit in units {
        if uniform(entropy)? < rate {
            taken.push(unit);
        }
    }
    Ok(taken)
}

fn random(none: NoEntropy) -> CliError {
    CliError::Random(none.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every unit on its own, and all of them where the rate is 1.
    #[test]
    fn units_are_taken_independently() {
        let units: Vec<Vec<usize>> = (0..40).map(|unit| vec![unit]).collect();
        let mut entropy = OsEntropy::new();
        let mut counts = [0u32; 40];
        let mut sizes = Vec::new();
        for _ in 0..2000 {
            let drawn = taken(&units, 0.25, &mut entropy).expect("the system has a generator");
            drawn.iter().for_each(|unit| counts[unit[0]] += 1);
            sizes.push(drawn.len() as f64);
        }
        // 500 each, give or take 19; 10 a step with a variance of 7.5.
        assert!(counts.iter().all(|count| count.abs_diff(500) < 120), "{counts:?}");
        let mean = sizes.iter().sum::<f64>() / 2000.0;
        let variance = sizes.iter().map(|size| (size - mean).powi(2)).sum::<f64>() / 2000.0;
        assert!((mean - 10.0).abs() < 0.5 && (variance - 7.5).abs() < 2.0, "{mean} {variance}");
        assert_eq!(taken(&units, 1.0, &mut entropy).expect("it does").len(), 40);
    }
}
