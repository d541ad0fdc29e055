//! The baseline on the same splits: logistic regression on mean features.

use ingraft_dataset::Split;
use ingraft_dataset::baseline::{FitOptions, LogisticRegression};

use crate::Failure;
use crate::course::Weights;
use crate::lessons::Lessons;

/// The baseline fitted to every version of the training clips of one split.
#[derive(Debug)]
pub(crate) struct Baseline {
    fitted: LogisticRegression,
    /// What it was fitted to.
    rows: Vec<f32>,
    labels: Vec<usize>,
    /// The value that it minimizes, at its minimum.
    minimum: f64,
}

impl Baseline {
    /// Fits to the versions of the clips `learned`.
    pub(crate) fn fit(lessons: &Lessons, learned: &[usize], classes: usize) -> Result<Self, Failure> {
        let (mut rows, mut labels) = (Vec::new(), Vec::new());
        for &clip in learned {
            for view in 0..lessons.view_count(clip) {
                rows.extend_from_slice(lessons.features(clip, view));
                labels.push(lessons.labels[clip]);
            }
        }
        let dims = rows.len() / labels.len().max(1);
        // A gradient of 1e-5 is far below what changes a prediction, and L-BFGS needs a third of the iterations.
        let options = FitOptions { tolerance: 1e-5, max_iterations: 300, ..FitOptions::default() };
        let fitted = LogisticRegression::fit(&rows, dims, &labels, classes, &options)?;
        let minimum = fitted.objective(&rows, &labels, options.l2)?;
        Ok(Self { fitted, rows, labels, minimum })
    }

    /// For each of the clips `judged`, whether it is got right.
    pub(crate) fn hits(&self, lessons: &Lessons, judged: &[usize]) -> Vec<bool> {
        let hit = |&clip: &usize| self.fitted.predict(lessons.features(clip, 0)) == lessons.labels[clip];
        judged.iter().map(hit).collect()
    }

    /// What `head` has made of the value that the baseline minimizes.
    fn value(&self, head: &Weights) -> Result<f64, Failure> {
        let other = self.fitted.with_parameters(&head.weight, &head.bias);
        let other = other.ok_or("the head has another shape")?;
        Ok(other.objective(&self.rows, &self.labels, FitOptions::default().l2)?)
    }
}

/// Heads beside the minima they should have reached: a criterion that sees training clips only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heights {
    minimum: f64,
    head: f64,
    most: f64,
}

impl Heights {
    /// Over heads and the baselines of the same clips.
    pub(crate) fn measure<'h>(
        pairs: impl Iterator<Item = (&'h Baseline, &'h Weights)>,
    ) -> Result<Self, Failure> {
        let (mut minimum, mut head, mut most, mut count) = (0.0, 0.0, f64::NEG_INFINITY, 0.0);
        for (baseline, weights) in pairs {
            let value = baseline.value(weights)?;
            minimum += baseline.minimum;
            head += value;
            most = f64::max(most, value / baseline.minimum - 1.0);
            count += 1.0;
        }
        Ok(Self { minimum: minimum / count, head: head / count, most })
    }
}

impl core::fmt::Display for Heights {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { minimum, head, most } = self;
        write!(f, "baseline {minimum:.6}, head {head:.6}, at most {:.3} % above", 100.0 * most)
    }
}

/// Fits to the training clips of `split`; for each test clip, whether it is got right.
pub(crate) fn hits(lessons: &Lessons, split: &Split, classes: usize) -> Result<Vec<bool>, Failure> {
    Ok(Baseline::fit(lessons, &split.train, classes)?.hits(lessons, &split.test))
}
