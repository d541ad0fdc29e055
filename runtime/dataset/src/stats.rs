//! Figures of merit, each with how far to trust it.

use std::collections::BTreeMap;

use crate::Rng;

pub use separation::Separation;
pub use tally::Tally;

mod separation;
mod tally;

/// Counts of true class against predicted class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    /// By (true, predicted); all predictions that are none of the classes are counted as class `classes`.
    counts: BTreeMap<(usize, usize), u64>,
}

impl Confusion {
    /// An empty table for `classes` classes.
    pub fn new(classes: usize) -> Self {
        Self { classes, counts: BTreeMap::new() }
    }

    /// Counts one item. Any `predicted` outside the table is an error of one kind; an
    /// item whose `truth` is outside is not counted.
    pub fn add(&mut self, truth: usize, predicted: usize) {
        if truth < self.classes {
            *self.counts.entry((truth, predicted.min(self.classes))).or_default() += 1;
        }
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// How often `truth` was taken for `predicted`, or for none of the classes when `predicted` is outside the table.
    pub fn count(&self, truth: usize, predicted: usize) -> u64 {
        self.counts.get(&(truth, predicted.min(self.classes))).copied().unwrap_or(0)
    }

    /// Every count by true class, then by predicted class; the last column is of predictions outside the table.
    pub fn rows(&self) -> Vec<Vec<u64>> {
        let row = |truth| (0..=self.classes).map(|predicted| self.count(truth, predicted)).collect();
        (0..self.classes).map(row).collect()
    }

    /// Number of items.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Number of items taken for what they are.
    pub fn correct(&self) -> u64 {
        (0..self.classes).map(|class| self.count(class, class)).sum()
    }

    /// Share of items taken for what they are; 0 for an empty table.
    pub fn accuracy(&self) -> f64 {
        ratio(self.correct(), self.total()).unwrap_or(0.0)
    }

    /// For each class the share of its items taken for it; `None` for a class without items.
    pub fn per_class(&self) -> Vec<Option<f64>> {
        let row = |class: usize| {
            self.counts.range((class, 0)..=(class, self.classes)).map(|(_, count)| count).sum()
        };
        (0..self.classes).map(|class| ratio(self.count(class, class), row(class))).collect()
    }
}

/// A two-sided 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Wilson's score interval for a share of `correct` in `total` independent items; `None` for no items.
pub fn wilson(correct: u64, total: u64) -> Option<Interval> {
    let p = ratio(correct.min(total), total)?;
    let n = total as f64;
    let z2 = Z_95 * Z_95;
    let center = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z_95 / (1.0 + z2 / n) * libm::sqrt(p * (1.0 - p) / n + z2 / (4.0 * n * n));
    Some(Interval { low: (center - half).max(0.0), high: (center + half).min(1.0) })
}

/// The mean of `values`; `None` for none.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The percentile bootstrap interval of the mean of `values` over `resamples` resamplings;
/// `None` for no values or no resamplings.
///
/// With one value per clip (the share of runs that got the clip right, over
/// seeds) this is the interval over clips of an accuracy averaged over seeds.
pub fn bootstrap(values: &[f64], resamples: usize, seed: u64) -> Option<Interval> {
    let mut rng = Rng::new(seed);
    let mut draw = || values.get(rng.below(values.len())).copied().unwrap_or(0.0);
    let mut means: Vec<f64> = (0..resamples)
        .map(|_| (0..values.len()).map(|_| draw()).sum::<f64>() / values.len() as f64)
        .collect();
    means.sort_unstable_by(f64::total_cmp);
    let last = means.len().checked_sub(1)?;
    let quantile = |q: f64| means.get((q * last as f64) as usize).copied().filter(|mean| !mean.is_nan());
    Some(Interval { low: quantile(0.025)?, high: quantile(0.975)? })
}

/// The area under the receiver operating characteristic: how likely a positive item scores
/// above a negative one, ties counting half; `None` without both kinds, with unequal
/// lengths or a score that is not a number.
pub fn auroc(scores: &[f32], is_positive: &[bool]) -> Option<f64> {
    if scores.len() != is_positive.len() || scores.iter().any(|score| score.is_nan()) {
        return None;
    }
    let mut items: Vec<(f32, bool)> = scores.iter().copied().zip(is_positive.iter().copied()).collect();
    items.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    // Twice the number of (negative, positive) pairs in order, counted in runs of equal scores.
    let (mut doubled, mut negatives) = (0u64, 0u64);
    for run in items.chunk_by(|a, b| a.0 == b.0) {
        let positives_here = run.iter().filter(|item| item.1).count() as u64;
        let negatives_here = run.len() as u64 - positives_here;
        doubled += positives_here * (2 * negatives + negatives_here);
        negatives += negatives_here;
    }
    let positives = items.len() as u64 - negatives;
    ratio(doubled, 2 * positives * negatives)
}

/// The mean [`auroc`] over the classes that have both kinds of items; `None` when none has.
///
/// # Shapes
/// `scores` (items, classes), row-major; `labels` the classes of each item.
pub fn mean_auroc(scores: &[f32], labels: &[Vec<usize>], classes: usize) -> Option<f64> {
    if Some(scores.len()) != labels.len().checked_mul(classes) {
        return None;
    }
    let of_class = |class: usize| {
        let column: Vec<f32> = scores.iter().skip(class).step_by(classes).copied().collect();
        let truth: Vec<bool> = labels.iter().map(|labels| labels.contains(&class)).collect();
        auroc(&column, &truth)
    };
    mean(&(0..classes).filter_map(of_class).collect::<Vec<_>>())
}

/// The position of the largest of `scores`, the first of equals; `None` for no scores.
pub fn argmax(scores: &[f32]) -> Option<usize> {
    let later_is_larger = |best: (usize, f32), next: (usize, f32)| if next.1 > best.1 { next } else { best };
    scores.iter().copied().enumerate().reduce(later_is_larger).map(|(at, _)| at)
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole != 0).then(|| part as f64 / whole as f64)
}

/// The 97.5 % quantile of the standard normal distribution.
const Z_95: f64 = 1.959_963_984_540_054;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confusion_counts_by_row() {
        let mut table = Confusion::new(3);
        for (truth, predicted) in [(0, 0), (0, 1), (1, 1), (1, 1), (0, 7), (7, 0)] {
            table.add(truth, predicted);
        }
        assert_eq!((table.count(0, 1), table.count(1, 0), table.count(0, 3)), (1, 0, 1));
        assert_eq!((table.correct(), table.total()), (3, 5));
        assert_eq!(table.accuracy(), 0.6);
        assert_eq!(table.per_class(), [Some(1.0 / 3.0), Some(1.0), None]);
        assert_eq!(Confusion::new(2).accuracy(), 0.0);
    }

    #[test]
    fn wilson_matches_scipy() {
        // scipy.stats.binomtest(k, n).proportion_ci(method="wilson"), SciPy 1.17.1
        let cases = [
            (0, 10, 0.0, 0.277_532_799_862_889_26),
            (57, 59, 0.884_564_292_498_892_5, 0.990_654_090_908_338_7),
            (50, 100, 0.403_831_530_365_995_6, 0.596_168_469_634_004_4),
        ];
        for (correct, total, low, high) in cases {
            let interval = wilson(correct, total).unwrap();
            assert!(
                (interval.low - low).abs() < 1e-12 && (interval.high - high).abs() < 1e-12,
                "{interval:?}"
            );
        }
        assert!(wilson(0, 0).is_none());
    }

    #[test]
    fn bootstrap_agrees_with_the_normal_approximation() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 4 != 0)).collect();
        let interval = bootstrap(&values, 4000, 1).unwrap();
        let half = Z_95 * (0.75f64 * 0.25 / 400.0).sqrt();
        assert!((interval.low - (0.75 - half)).abs() < 0.006, "{interval:?}");
        assert!((interval.high - (0.75 + half)).abs() < 0.006, "{interval:?}");
        assert_eq!(bootstrap(&values, 4000, 1), Some(interval));
        assert_eq!(bootstrap(&[1.0; 5], 100, 0), Some(Interval { low: 1.0, high: 1.0 }));
        assert!(bootstrap(&[], 100, 0).is_none() && bootstrap(&values, 0, 0).is_none());
    }

    #[test]
    fn auroc_counts_pairs() {
        let mut rng = Rng::new(9);
        let scores: Vec<f32> = (0..200).map(|_| rng.below(40) as f32 / 8.0 - 2.0).collect();
        let positive: Vec<bool> =
            scores.iter().map(|score| rng.unit() < 0.3 + 0.1 * f64::from(*score)).collect();
        let mut pairs = (0.0, 0.0);
        for (&a, _) in scores.iter().zip(&positive).filter(|(_, p)| **p) {
            for (&b, _) in scores.iter().zip(&positive).filter(|(_, p)| !**p) {
                pairs.0 += if a > b { 1.0 } else { f64::from(a == b) / 2.0 };
                pairs.1 += 1.0;
            }
        }
        assert!((auroc(&scores, &positive).unwrap() - pairs.0 / pairs.1).abs() < 1e-12);
        assert_eq!(auroc(&[0.0, -0.0], &[true, false]), Some(0.5));
        assert!(auroc(&[1.0, 2.0], &[true, true]).is_none());
        assert!(auroc(&[f32::NAN, 2.0], &[true, false]).is_none());
    }

    #[test]
    fn mean_auroc_leaves_out_what_has_one_kind() {
        let scores = [0.9, 0.1, 0.0, 0.2, 0.8, 0.0, 0.4, 0.7, 0.0];
        let labels = [vec![0], vec![0, 1], vec![1]];
        assert_eq!(mean_auroc(&scores, &labels, 3), Some((0.5 + 1.0) / 2.0));
        assert!(mean_auroc(&scores, &labels, 2).is_none());
    }

    #[test]
    fn argmax_takes_the_first_of_equals() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0, -1.0]), Some(1));
        assert_eq!(argmax(&[]), None);
    }
}
