//! What every version of every clip should say.

use clap::ValueEnum;
use ingraft_train::{Loss, Trainer, Truth};

use super::views::Views;
use super::{Course, Lessons};
use crate::CliError;

/// What is trained for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Objective {
    /// One class of all.
    CrossEntropy,
    /// Every label on its own.
    Bce,
    /// Scores of 1 for a clip's labels, of 0 for others.
    Mse,
    /// The class, and what the model said before training.
    Distill,
}

impl Objective {
    /// Whether a clip may have several labels, or none.
    pub(crate) fn takes_several(self) -> bool {
        matches!(self, Self::Bce | Self::Mse)
    }
}

/// Truths by clip and version.
#[derive(Debug)]
pub(super) struct Truths<'l> {
    labels: &'l [Vec<usize>],
    /// The presence of every label, clip by clip; empty where only one is present.
    marks: Vec<f32>,
    /// Logits of the model before training, by clip and version; empty without a teacher.
    taught: Vec<Vec<Vec<f32>>>,
    logits: usize,
}

impl<'l> Truths<'l> {
    /// The truths that `course` trains for, with `trainer` as it is before training.
    ///
    /// # Errors
    /// [`CliError::Train`].
    pub(super) fn new(
        course: &Course<'_>,
        lessons: &Lessons<'l>,
        views: &Views,
        trainer: &mut Trainer<'_, '_>,
    ) -> Result<Self, CliError> {
        let logits = trainer.logit_count();
        let mut truths = Self { labels: lessons.labels, marks: Vec::new(), taught: Vec::new(), logits };
        if course.objective.takes_several() {
            truths.marks.resize(lessons.labels.len().saturating_mul(logits), 0.0);
            for (marks, labels) in truths.marks.chunks_exact_mut(logits.max(1)).zip(lessons.labels) {
                for &label in labels {
                    marks.get_mut(label).into_iter().for_each(|mark| *mark = 1.0);
                }
            }
        }
        if course.objective == Objective::Distill {
            for clip in 0..lessons.labels.len() {
                let said = views.of(clip).map(|view| trainer.logits(view).map(<[f32]>::to_vec));
                truths.taught.push(said.collect::<Result<_, _>>()?);
            }
        }
        Ok(truths)
    }

    /// The labels of every clip.
    pub(super) fn labels(&self) -> &'l [Vec<usize>] {
        self.labels
    }

    /// What version `view` of clip `clip` should say.
    pub(super) fn of(&self, clip: usize, view: usize) -> Truth<'_> {
        let class = self.labels.get(clip).and_then(|labels| labels.first()).copied().unwrap_or(usize::MAX);
        if let Some(teacher) = self.taught.get(clip).and_then(|views| views.get(view)) {
            return Truth::Taught { class, teacher };
        }
        if self.marks.is_empty() {
            return Truth::Class(class);
        }
        let start = clip.saturating_mul(self.logits);
        Truth::Values(self.marks.get(start..start.saturating_add(self.logits)).unwrap_or(&[]))
    }
}

impl Course<'_> {
    /// The loss of the objective.
    pub(super) fn loss(&self) -> Loss {
        match self.objective {
            Objective::CrossEntropy => Loss::CrossEntropy { smoothing: self.smoothing },
            Objective::Bce => Loss::BinaryCrossEntropy,
            Objective::Mse => Loss::MeanSquaredError,
            Objective::Distill => {
                Loss::Distillation { temperature: self.temperature, share: self.teacher_share }
            }
        }
    }
}
