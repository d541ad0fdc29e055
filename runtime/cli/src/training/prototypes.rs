//! A head that starts at the nearest class mean.

use ingraft_kernel::Target;
use ingraft_train::Trainer;

use super::truths::Truths;
use super::views::Views;
use super::{Course, Lessons};
use crate::CliError;

impl Course<'_> {
    /// Starts the head at the means of the classes of the clips `learned`, and as sure as makes their mean loss least:
    /// logits are in proportion to the scale, so one pass over the clips finds it among powers of two.
    ///
    /// # Errors
    /// [`CliError::Train`].
    pub(super) fn start_at_prototypes<T: Target>(
        &self,
        trainer: &mut Trainer<'_, '_, T>,
        (lessons, learned): (&Lessons<'_>, &[usize]),
        views: &Views,
        truths: &mut Truths<'_>,
    ) -> Result<(), CliError> {
        let observe = |trainer: &mut Trainer<'_, '_, T>| -> Result<(), CliError> {
            for &clip in learned {
                for &label in lessons.labels.get(clip).into_iter().flatten() {
                    views.unmixed(clip).try_for_each(|view| trainer.observe_class(view, label))?;
                }
            }
            Ok(())
        };
        observe(trainer)?;
        let unit = 1.0 / trainer.feature_count().max(1) as f32;
        trainer.start_at_prototypes(unit)?;
        let scales = SCALES.map(|power| f64::from(power).exp2() as f32);
        let mut losses = scales.map(|_| 0.0f64);
        let mut scaled = vec![0.0; trainer.logit_count()];
        let mut slopes = scaled.clone();
        for &clip in learned {
            let logits = trainer.logits(views.first(clip))?;
            for (scale, loss) in scales.iter().zip(&mut losses) {
                scaled.iter_mut().zip(logits).for_each(|(to, from)| *to = from * scale);
                let value = self.loss().evaluate(&scaled, truths.of(clip, 0), &mut slopes);
                *loss += f64::from(value.unwrap_or(f32::INFINITY));
            }
        }
        let best = scales.iter().zip(&losses).min_by(|a, b| a.1.total_cmp(b.1));
        observe(trainer)?;
        trainer.start_at_prototypes(unit * best.map_or(1.0, |(scale, _)| *scale))?;
        Ok(())
    }
}

/// Scales tried, as powers of two over the number of features.
const SCALES: [i8; 12] = [-4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7];
