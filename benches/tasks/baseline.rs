//! The baseline on the same splits: logistic regression on mean features.

use ingraft_dataset::Split;
use ingraft_dataset::baseline::{FitOptions, LogisticRegression};

use crate::Failure;
use crate::lessons::Lessons;

/// Fits to every version of the training clips; for each test clip, whether it is got right.
pub(crate) fn hits(lessons: &Lessons, split: &Split, classes: usize) -> Result<Vec<bool>, Failure> {
    let (mut rows, mut labels) = (Vec::new(), Vec::new());
    for &clip in &split.train {
        for view in 0..lessons.view_count(clip) {
            rows.extend_from_slice(lessons.features(clip, view));
            labels.push(lessons.labels[clip]);
        }
    }
    let dims = rows.len() / labels.len().max(1);
    // A gradient of 1e-5 is far below what changes a prediction, and L-BFGS needs a third of the iterations.
    let options = FitOptions { tolerance: 1e-5, max_iterations: 300, ..FitOptions::default() };
    let fitted = LogisticRegression::fit(&rows, dims, &labels, classes, &options)?;
    Ok(split
        .test
        .iter()
        .map(|&clip| fitted.predict(lessons.features(clip, 0)) == lessons.labels[clip])
        .collect())
}
