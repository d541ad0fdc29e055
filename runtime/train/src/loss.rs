//! Losses: value and gradient with respect to the logits.

use ingraft_adapter::Link;

/// What a clip's logits should say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Truth<'a> {
    /// This class and no other.
    Class(usize),
    /// One value per logit: class probabilities, the presence of each label, or the numbers themselves.
    Values(&'a [f32]),
}

/// How far logits are from the truth.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Loss {
    /// Softmax cross-entropy over classes.
    CrossEntropy {
        /// Share of the truth spread evenly over all classes, in 0…1.
        smoothing: f32,
    },
    /// Sigmoid cross-entropy of each label, averaged over labels.
    BinaryCrossEntropy,
    /// Squared error, averaged over outputs.
    MeanSquaredError,
}

impl Loss {
    /// The loss of `logits`; its gradient is written to `grad`.
    ///
    /// `None` when `truth` names no class of these logits, has another number of
    /// values, or `grad` has another length.
    ///
    /// # Numerics
    /// Exponentials are taken of non-positive numbers only, so finite logits give
    /// a finite loss. f32 with `libm`: the same bits on every target.
    pub fn evaluate(self, logits: &[f32], truth: Truth<'_>, grad: &mut [f32]) -> Option<f32> {
        let fits = match truth {
            Truth::Class(class) => class < logits.len(),
            Truth::Values(values) => values.len() == logits.len(),
        };
        (fits && grad.len() == logits.len() && !logits.is_empty()).then_some(())?;
        Some(match self {
            Self::CrossEntropy { smoothing } => cross_entropy(logits, truth, smoothing, grad),
            Self::BinaryCrossEntropy => mean_of(logits, truth, grad, binary),
            Self::MeanSquaredError => mean_of(logits, truth, grad, squared),
        })
    }

    /// What turns the logits of a model trained so into scores.
    pub fn link(self) -> Link {
        match self {
            Self::CrossEntropy { .. } => Link::Softmax,
            Self::BinaryCrossEntropy => Link::Sigmoid,
            Self::MeanSquaredError => Link::Identity,
        }
    }
}

impl Truth<'_> {
    fn value(&self, index: usize) -> f32 {
        match self {
            Self::Class(class) => f32::from(u8::from(*class == index)),
            Self::Values(values) => values.get(index).copied().unwrap_or(0.0),
        }
    }
}

fn cross_entropy(logits: &[f32], truth: Truth<'_>, smoothing: f32, grad: &mut [f32]) -> f32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0f32;
    for (g, logit) in grad.iter_mut().zip(logits) {
        *g = libm::expf(logit - largest);
        sum += *g;
    }
    let log_sum = libm::logf(sum);
    let even = smoothing / logits.len() as f32;
    let wanted = |index: usize| (1.0 - smoothing) * truth.value(index) + even;
    let mass = (0..logits.len()).map(wanted).sum::<f32>();
    let mut loss = 0.0f32;
    for (index, (g, logit)) in grad.iter_mut().zip(logits).enumerate() {
        let q = wanted(index);
        loss += q * (log_sum - (logit - largest));
        *g = mass * (*g / sum) - q;
    }
    loss
}

/// Averages the loss of each output on its own.
fn mean_of(logits: &[f32], truth: Truth<'_>, grad: &mut [f32], of: impl Fn(f32, f32) -> (f32, f32)) -> f32 {
    let count = logits.len() as f32;
    let mut loss = 0.0f32;
    for (index, (g, logit)) in grad.iter_mut().zip(logits).enumerate() {
        let (value, slope) = of(*logit, truth.value(index));
        loss += value;
        *g = slope / count;
    }
    loss / count
}

/// −t·log σ(x) − (1−t)·log(1−σ(x)) = max(x, 0) − x·t + log(1 + e^−|x|).
fn binary(x: f32, t: f32) -> (f32, f32) {
    let tail = libm::expf(-x.abs());
    let value = x.max(0.0) - x * t + libm::log1pf(tail);
    let sigmoid = if x >= 0.0 { 1.0 / (1.0 + tail) } else { tail / (1.0 + tail) };
    (value, sigmoid - t)
}

fn squared(x: f32, t: f32) -> (f32, f32) {
    let error = x - t;
    (error * error, 2.0 * error)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOSSES: [Loss; 4] = [
        Loss::CrossEntropy { smoothing: 0.0 },
        Loss::CrossEntropy { smoothing: 0.1 },
        Loss::BinaryCrossEntropy,
        Loss::MeanSquaredError,
    ];

    #[test]
    fn gradients_match_finite_differences() {
        let logits = [0.3f32, -1.2, 2.5, 0.0];
        let values = [0.1f32, 0.6, 0.3, 0.0];
        for loss in LOSSES {
            for truth in [Truth::Class(1), Truth::Values(&values)] {
                let mut grad = [0.0f32; 4];
                loss.evaluate(&logits, truth, &mut grad).unwrap();
                for (i, slope) in grad.iter().enumerate() {
                    let at = |offset: f32| {
                        let mut moved = logits;
                        moved[i] += offset;
                        f64::from(loss.evaluate(&moved, truth, &mut [0.0; 4]).unwrap())
                    };
                    let difference = (at(0.01) - at(-0.01)) / 0.02;
                    assert!((f64::from(*slope) - difference).abs() < 1e-4, "{loss:?} {truth:?} {i}");
                }
            }
        }
    }

    #[test]
    fn extreme_logits_stay_finite() {
        for loss in LOSSES.iter().take(3) {
            let mut grad = [0.0f32; 3];
            let value = loss.evaluate(&[1e30, -1e30, 0.0], Truth::Class(1), &mut grad).unwrap();
            assert!(value.is_finite() && grad.iter().all(|g| g.is_finite()), "{loss:?}");
        }
    }

    #[test]
    fn refuses_a_truth_that_does_not_fit() {
        let loss = LOSSES[0];
        assert_eq!(loss.evaluate(&[0.0; 3], Truth::Class(3), &mut [0.0; 3]), None);
        assert_eq!(loss.evaluate(&[0.0; 3], Truth::Values(&[0.0; 2]), &mut [0.0; 3]), None);
        assert_eq!(loss.evaluate(&[0.0; 3], Truth::Class(0), &mut [0.0; 2]), None);
        assert_eq!(loss.evaluate(&[], Truth::Values(&[]), &mut []), None);
    }
}
