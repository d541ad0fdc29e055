//! Which run comes next, and what runs of a fold share.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::training::Kept;

/// The runs that wait. The longest are taken first, whatever their fold, so that the last ones to end are short; but only
/// of so many folds at a time as runs are made side by side, since the clips of each are kept.
pub(super) struct Queue {
    /// Fold and method of each, in order.
    waiting: Vec<(usize, usize)>,
    /// Folds to choose from at a time.
    folds: usize,
    /// The longest run of each method so far, in seconds.
    longest: BTreeMap<usize, f64>,
    /// What is read of the folds that runs still wait for.
    kept: BTreeMap<usize, Arc<Kept>>,
}

/// A run to make.
pub(super) struct Taken {
    pub(super) fold: usize,
    /// The method's number.
    pub(super) arm: usize,
    /// What is read of the fold, for all its runs.
    pub(super) kept: Arc<Kept>,
}

impl Queue {
    /// Every method on every fold, `jobs` at a time.
    pub(super) fn new(folds: usize, arms: usize, jobs: u16) -> Self {
        let waiting = (0..folds).flat_map(|fold| (0..arms).map(move |arm| (fold, arm))).collect();
        Self { waiting, folds: jobs.into(), longest: BTreeMap::new(), kept: BTreeMap::new() }
    }

    /// The next run: of the method that took longest so far; before all, of one that never ended.
    pub(super) fn take(&mut self) -> Option<Taken> {
        let seconds = |run: &(usize, usize)| self.longest.get(&run.1).copied().unwrap_or(f64::INFINITY);
        let choice = self.waiting.chunk_by(|a, b| a.0 == b.0).take(self.folds).flatten().enumerate();
        // Of equals the first: the choice is in order, and only more is better.
        let (at, _) =
            choice.fold(
                (0, -1.0),
                |(best, most), (at, run)| {
                    if seconds(run) > most { (at, seconds(run)) } else { (best, most) }
                },
            );
        if self.waiting.is_empty() {
            return None;
        }
        let (fold, arm) = self.waiting.remove(at);
        let kept = Arc::clone(self.kept.entry(fold).or_default());
        if self.waiting.iter().all(|run| run.0 != fold) {
            self.kept.remove(&fold);
        }
        Some(Taken { fold, arm, kept })
    }

    /// Learns what a run of method `arm` took.
    pub(super) fn took(&mut self, arm: usize, seconds: f64) {
        let longest = self.longest.entry(arm).or_default();
        *longest = longest.max(seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(queue: &mut Queue) -> Vec<(usize, usize)> {
        core::iter::from_fn(|| queue.take()).map(|run| (run.fold, run.arm)).collect()
    }

    #[test]
    fn what_took_longest_is_taken_first() {
        let mut queue = Queue::new(4, 3, 2);
        let first: Vec<Taken> = (0..3).filter_map(|_| queue.take()).collect();
        assert_eq!(first.iter().map(|run| (run.fold, run.arm)).collect::<Vec<_>>(), [(0, 0), (0, 1), (0, 2)]);
        queue.took(0, 1.0);
        queue.took(2, 5.0);
        // The second has not ended; the last fold is out of reach until another is empty.
        let rest = [(1, 1), (2, 1), (1, 2), (2, 2), (1, 0), (3, 1), (3, 2), (2, 0), (3, 0)];
        assert_eq!(all(&mut queue), rest);
    }

    #[test]
    fn one_at_a_time_goes_fold_by_fold() {
        let mut queue = Queue::new(2, 2, 1);
        queue.took(0, 1.0);
        queue.took(1, 2.0);
        assert_eq!(all(&mut queue), [(0, 1), (0, 0), (1, 1), (1, 0)]);
    }

    #[test]
    fn runs_of_a_fold_share_its_clips_which_end_with_them() {
        let mut queue = Queue::new(2, 2, 1);
        let runs: Vec<Taken> = core::iter::from_fn(|| queue.take()).collect();
        assert!(Arc::ptr_eq(&runs[0].kept, &runs[1].kept) && !Arc::ptr_eq(&runs[0].kept, &runs[2].kept));
        assert_eq!(Arc::strong_count(&runs[0].kept), 2);
    }
}
