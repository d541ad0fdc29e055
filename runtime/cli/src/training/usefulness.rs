//! Which sites are worth most within a budget of memory: `--sites useful`.
//!
//! A step of plain descent takes, to first order, the squared length of the gradient off the loss, times its rate. So a site's
//! usefulness is that of the mean gradient of its own parameters, where the method starts and with a head that has learned for
//! a few epochs, since a gradient passes it only then. Every site is measured alone, so that measuring keeps within the budget
//! too; sites are then taken one after the other, each time the one that is worth most for a byte that it adds to the trainer.

use indicatif::ProgressBar;
use ingraft_kernel::Host;
use ingraft_method::Head;
use ingraft_plan::PlanView;
use ingraft_train::{Readout, adapts};

use super::{Course, FoldedHead, Lessons, folded_head};
use crate::console::Console;
use crate::error::CliError;

impl Course<'_> {
    /// Those of this course's sites that are worth most in a trainer of at most `budget` bytes on `target`, ascending.
    ///
    /// # Errors
    /// [`CliError::TrainerMemory`] where there is not enough for any; [`CliError::Train`], and those of reading clips.
    pub(crate) fn useful(
        &self,
        plan: PlanView<'_>,
        target: &Host,
        lessons: &Lessons<'_>,
        budget: usize,
        console: &Console<'_>,
    ) -> Result<Vec<u32>, CliError> {
        let needed = |sites: &[u32]| Ok::<_, CliError>(self.of(sites).memory(&plan, target)?.total());
        let mut fitting = Vec::new();
        let mut least = usize::MAX;
        for &site in self.sites.iter().filter(|site| adapts(&plan, self.method, **site)) {
            let total = needed(&[site])?;
            least = least.min(total);
            if total <= budget {
                fitting.push(site);
            }
        }
        if fitting.is_empty() {
            return Err(CliError::TrainerMemory { needed: least, budget });
        }
        let head = self.head_alone(plan, target, lessons, console)?;
        let bar = console.bar(fitting.len(), "measuring");
        let mut worth = Vec::new();
        for &site in &fitting {
            worth.push((site, self.of(&[site]).slope(plan, target, lessons, head.as_ref())?));
            bar.inc(1);
        }
        bar.finish_and_clear();
        let mut held = match self.readout {
            Readout::Head { .. } => needed(&[])?,
            Readout::Logits => 0,
        };
        let mut chosen: Vec<u32> = Vec::new();
        while let Some((at, total)) = next(&worth, &chosen, budget, held, needed)? {
            chosen.push(worth.swap_remove(at).0);
            held = total;
        }
        chosen.sort_unstable();
        Ok(chosen)
    }

    /// The same course, at `sites`, with parameters that stay where the method starts, of the clips as they are.
    fn of<'s>(&'s self, sites: &'s [u32]) -> Course<'s> {
        Course { method: self.method, sites, views: 1, ..self.measuring() }
    }

    /// A head that has learned for a few epochs on the base's features; `None` where none is trained.
    pub(super) fn head_alone(
        &self,
        plan: PlanView<'_>,
        target: &Host,
        lessons: &Lessons<'_>,
        console: &Console<'_>,
    ) -> Result<Option<FoldedHead>, CliError> {
        if self.readout == Readout::Logits {
            return Ok(None);
        }
        let course = Course { method: &Head, sites: &[], ..self.measuring() };
        let bar = console.bar(lessons.labels.len(), "reading");
        course.observing(plan, target, lessons, &bar, |trainer, views, truths, learned| {
            for epoch in 0..course.epochs {
                course.epoch(trainer, views, truths, learned, epoch)?;
            }
            folded_head(trainer).map(Some)
        })
    }

    /// The squared length of the mean gradient of what the method has at this course's sites.
    fn slope(
        &self,
        plan: PlanView<'_>,
        target: &Host,
        lessons: &Lessons<'_>,
        head: Option<&FoldedHead>,
    ) -> Result<f64, CliError> {
        self.observing(plan, target, lessons, &ProgressBar::hidden(), |trainer, views, truths, learned| {
            if let Some((weight, bias)) = head {
                trainer.start_head(weight, bias)?;
            }
            for &clip in learned {
                trainer.accumulate(views.first(clip), truths.of(clip, 0))?;
            }
            let of_head = head.map_or(0, |(weight, bias)| weight.len() + bias.len());
            let own = trainer.gradients().iter().skip(of_head);
            let length: f64 = own.map(|gradient| f64::from(*gradient).powi(2)).sum();
            Ok(length / (learned.len() as f64).powi(2))
        })
    }
}

/// The place in `worth` of the site that is worth most for a byte that it adds to the trainer of `held` bytes of those `chosen`,
/// and what all then take; `None` where none fits or is worth anything.
fn next(
    worth: &[(u32, f64)],
    chosen: &[u32],
    budget: usize,
    held: usize,
    needed: impl Fn(&[u32]) -> Result<usize, CliError>,
) -> Result<Option<(usize, usize)>, CliError> {
    let mut best: Option<(f64, usize, usize)> = None;
    for (at, (site, slope)) in worth.iter().enumerate().filter(|(_, (_, slope))| *slope > 0.0) {
        let mut sites = chosen.to_vec();
        sites.push(*site);
        sites.sort_unstable();
        let total = needed(&sites)?;
        let value = slope / total.saturating_sub(held).max(1) as f64;
        if total <= budget && best.is_none_or(|(most, ..)| value > most) {
            best = Some((value, at, total));
        }
    }
    Ok(best.map(|(_, at, total)| (at, total)))
}

#[cfg(test)]
mod tests {
    use super::next;

    /// Sites of 10 bytes each but site 1, of 40, and 5 of what all have.
    fn needed(sites: &[u32]) -> Result<usize, crate::CliError> {
        Ok(5 + sites.iter().map(|site| if *site == 1 { 40 } else { 10 }).sum::<usize>())
    }

    #[test]
    fn what_is_worth_most_for_a_byte_comes_first_and_fits() {
        let worth = [(0, 1.0), (1, 3.0), (2, 2.0), (3, 0.0)];
        let next = |worth: &[(u32, f64)], chosen: &[u32], budget, held| {
            next(worth, chosen, budget, held, needed).unwrap()
        };
        assert_eq!(next(&worth, &[], 100, 5), Some((2, 15)));
        let rest = [(0, 1.0), (1, 3.0), (3, 0.0)];
        assert_eq!(next(&rest, &[2], 100, 15), Some((0, 25)));
        assert_eq!(next(&rest[1..], &[2, 0], 100, 25), Some((0, 65)));
        assert_eq!(next(&rest[1..], &[2, 0], 64, 25), None, "no room");
        assert_eq!(next(&rest[2..], &[2, 0, 1], 100, 65), None, "worth nothing");
    }
}
