//! Measuring what training clips say of the weights, for methods that choose by it.

use indicatif::ProgressBar;
use ingraft_kernel::Host;
use ingraft_method::{Full, Saliency, Score};
use ingraft_plan::PlanView;
use ingraft_train::{LearningRate, TrainMemory, Trainer};

use super::truths::Truths;
use super::views::Views;
use super::{Course, Lessons};
use crate::aligned::AlignedBytes;
use crate::console::Console;
use crate::error::CliError;

impl Course<'_> {
    /// The course that measures for this one: every weight is let through, none moves.
    pub(super) fn measuring(&self) -> Self {
        Course {
            method: &Full,
            adapter: LearningRate { rate: 0.0, weight_decay: 0.0 },
            epochs: self.epochs.min(HEAD_EPOCHS),
            checkpoint: None,
            from: None,
            ..*self
        }
    }

    /// The memory that [`Self::measure`] needs on `target`, to the byte.
    pub(crate) fn measuring_memory(
        &self,
        plan: &PlanView<'_>,
        target: &Host,
    ) -> Result<TrainMemory, CliError> {
        self.measuring().memory(plan, target)
    }

    /// What the clips say of this course's sites, for `score`, with the weights that sites had before rounding: the head learns
    /// for a few epochs, since a gradient passes it only then; after that every clip is one batch.
    ///
    /// # Errors
    /// [`CliError::Measure`], [`CliError::Train`], and those of reading clips.
    pub(crate) fn measure(
        &self,
        plan: PlanView<'_>,
        target: &Host,
        lessons: &Lessons<'_>,
        (score, floats): (Score, &[(u32, Vec<f64>)]),
        console: &Console<'_>,
    ) -> Result<Saliency, CliError> {
        let mut saliency = Saliency::new(&plan, self.sites, score);
        for (site, weight) in floats.iter().filter(|(site, _)| self.sites.contains(site)) {
            // One that has no rounding has no error of it.
            saliency.unrounded(&plan, *site, weight);
        }
        if score.passes() == 0 {
            return Ok(saliency);
        }
        // An attribution is of one answer's probability.
        let smoothing = if matches!(score, Score::Attribution(_)) { 0.0 } else { self.smoothing };
        let course = Course { smoothing, ..self.measuring() };
        let head = course.head_alone(plan, target, lessons, console)?;
        let bar = console.bar(lessons.labels.len(), "reading");
        course.observing(plan, target, lessons, &bar, |trainer, views, truths, learned| {
            if let Some((weight, bias)) = &head {
                trainer.start_head(weight, bias)?;
            }
            let bar = console.bar(score.passes() * learned.len(), "measuring");
            for pass in 0..score.passes() {
                if pass > 0 {
                    saliency.again();
                }
                for &clip in learned {
                    // The sites of the trainer are those of the saliency.
                    saliency.measure(trainer, views.first(clip), truths.of(clip, 0))?;
                    bar.inc(1);
                }
            }
            bar.finish_and_clear();
            Ok(())
        })?;
        Ok(saliency)
    }

    /// Hands over a trainer of this course that has read the clips, as `bar` shows, and whose head sees features of mean 0 and
    /// deviation 1, with what it learns from.
    ///
    /// # Errors
    /// [`CliError::Train`], those of reading clips, and those of `then`.
    pub(super) fn observing<R>(
        &self,
        plan: PlanView<'_>,
        target: &Host,
        lessons: &Lessons<'_>,
        bar: &ProgressBar,
        then: impl FnOnce(&mut Trainer<'_, '_, Host>, &Views, &mut Truths<'_>, &[usize]) -> Result<R, CliError>,
    ) -> Result<R, CliError> {
        let (learned, _) = self.sides(lessons)?;
        let setup = self.setup(learned.len());
        let mut arena = AlignedBytes::zeroed(Trainer::memory(&plan, target, &setup)?.total());
        let mut trainer = Trainer::bind(plan, target, setup, arena.as_mut_slice())?;
        if let Some(frozen) = self.on.and_then(|on| on.terms.as_ref()) {
            trainer.freeze(frozen)?;
        }
        let views = Views::compute(&mut trainer, self, (lessons, &learned), bar)?;
        bar.finish_and_clear();
        for &clip in &learned {
            views.of(clip).try_for_each(|view| trainer.observe(view))?;
        }
        trainer.standardize();
        let mut truths = Truths::new(self, lessons.labels, &views, &mut trainer)?;
        then(&mut trainer, &views, &mut truths, &learned)
    }
}

/// Epochs of the head before gradients are measured.
const HEAD_EPOCHS: u32 = 10;
