//! What every version of every clip should say.

use clap::ValueEnum;
use ingraft_kernel::Target;
use ingraft_train::{Loss, Trainer, Truth};

use super::views::Views;
use super::{Course, Mixed};
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
    views: &'l Views,
    /// Whether every label is told on its own.
    several: bool,
    /// Logits of the model before training, by clip and version; empty without a teacher.
    taught: Vec<Vec<Vec<f32>>>,
    /// The values of the truth told last, one per logit.
    values: Vec<f32>,
    /// Those of the batch told last, empty where a truth needs none.
    blended: Vec<Vec<f32>>,
}

impl<'l> Truths<'l> {
    /// The truths that `course` trains for, with `trainer` as it is before training.
    ///
    /// # Errors
    /// [`CliError::Train`].
    pub(super) fn new<T: Target>(
        course: &Course<'_>,
        labels: &'l [Vec<usize>],
        views: &'l Views,
        trainer: &mut Trainer<'_, '_, T>,
    ) -> Result<Self, CliError> {
        let mut taught = Vec::new();
        if course.objective == Objective::Distill {
            for clip in 0..labels.len() {
                let said = views.of(clip).map(|view| trainer.logits(view).map(<[f32]>::to_vec));
                taught.push(said.collect::<Result<_, _>>()?);
            }
        }
        let (several, values) = (course.objective.takes_several(), vec![0.0; trainer.logit_count()]);
        Ok(Self { labels, views, several, taught, values, blended: Vec::new() })
    }

    /// The labels of every clip.
    pub(super) fn labels(&self) -> &'l [Vec<usize>] {
        self.labels
    }

    /// What version `view` of clip `clip` should say: where it is mixed, the labels of both, each with its clip's share.
    pub(super) fn of(&mut self, clip: usize, view: usize) -> Truth<'_> {
        if self.told(clip, view).is_none() {
            blend(self.labels, clip, self.views.mixed(clip, view), &mut self.values);
        }
        self.told(clip, view).unwrap_or(Truth::Values(&self.values))
    }

    /// The same for a version each of several clips.
    pub(super) fn of_batch(&mut self, drawn: &[(usize, usize)]) -> Vec<Truth<'_>> {
        self.blended.clear();
        for (clip, view) in drawn {
            let own =
                if let Truth::Values(values) = self.of(*clip, *view) { values.to_vec() } else { Vec::new() };
            self.blended.push(own);
        }
        let each = drawn.iter().zip(&self.blended);
        each.map(|((clip, view), own)| self.told(*clip, *view).unwrap_or(Truth::Values(own))).collect()
    }

    /// What needs no values of its own: `None` for several or mixed labels.
    fn told(&self, clip: usize, view: usize) -> Option<Truth<'_>> {
        let class = self.labels.get(clip).and_then(|labels| labels.first()).copied().unwrap_or(usize::MAX);
        if let Some(teacher) = self.taught.get(clip).and_then(|views| views.get(view)) {
            return Some(Truth::Taught { class, teacher });
        }
        (!self.several && self.views.mixed(clip, view).is_none()).then_some(Truth::Class(class))
    }
}

/// Writes the presence of every label: of clip `clip` alone, or of both clips of a mixture by their shares.
fn blend(labels: &[Vec<usize>], clip: usize, mixed: Option<Mixed>, values: &mut [f32]) {
    values.fill(0.0);
    let own = mixed.map_or(1.0, |mixed| mixed.own);
    let partner = mixed.map(|mixed| (mixed.partner, 1.0 - own));
    for (clip, share) in core::iter::once((clip, own)).chain(partner) {
        for &label in labels.get(clip).into_iter().flatten() {
            values.get_mut(label).into_iter().for_each(|value| *value += share);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_labels_of_a_mixture_are_those_of_both_by_their_shares() {
        // Of one class each; of the second clip's two labels; of none.
        let labels = [vec![0], vec![2], vec![0], vec![1, 2], vec![]];
        let mut values = [9.0; 3];
        for step in 0..=64 {
            let own = 0.5 + step as f32 / 128.0 + f32::EPSILON * step as f32;
            let own = own.min(1.0);
            let mut mix = |clip, partner| {
                blend(&labels, clip, Some(Mixed { partner, own }), &mut values);
                values
            };
            assert_eq!(mix(0, 1), [own, 0.0, 1.0 - own]);
            assert_eq!(mix(0, 1).iter().sum::<f32>(), 1.0);
            assert_eq!(mix(0, 2), [1.0, 0.0, 0.0]);
            assert_eq!(mix(3, 1), [0.0, own, 1.0]);
            assert_eq!(mix(4, 3), [0.0, 1.0 - own, 1.0 - own]);
        }
        blend(&labels, 3, None, &mut values);
        assert_eq!(values, [0.0, 1.0, 1.0]);
    }
}
