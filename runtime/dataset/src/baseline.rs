//! The baseline that every adapter must beat: multinomial logistic regression on fixed features.
//!
//! ```text
//! minimize  1/n · Σ_i −log softmax(W·z_i + b)[y_i]  +  l2/(2n) · ‖W‖²,   z = (x − mean) / std
//! ```
//!
//! The same minimum as scikit-learn's `StandardScaler` followed by
//! `LogisticRegression(C = 1/l2)`: the bias is not penalized, a feature that never
//! changes keeps a divisor of 1.

pub use error::FitError;

mod error;
mod lbfgs;

/// How to fit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FitOptions {
    /// Strength of the penalty, 1/C.
    pub l2: f64,
    /// Largest gradient entry at which the fit is done.
    pub tolerance: f64,
    /// Most L-BFGS iterations.
    pub max_iterations: usize,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self { l2: 1.0, tolerance: 1e-8, max_iterations: 1000 }
    }
}

/// A fitted classifier.
#[derive(Clone, Debug, PartialEq)]
pub struct LogisticRegression {
    dims: usize,
    classes: usize,
    mean: Vec<f64>,
    /// 1/std of each feature.
    inverse_std: Vec<f64>,
    /// (classes, dims) weights on standardized features, then (classes) biases.
    parameters: Vec<f64>,
}

impl LogisticRegression {
    /// Fits to `features` and their `labels`.
    ///
    /// # Shapes
    /// `features` (labels.len(), dims), row-major.
    ///
    /// # Numerics
    /// f64 throughout, in a fixed order and with `libm`: the same bits on every platform.
    ///
    /// # Errors
    /// [`FitError`] for shapes that disagree, labels that are no class, values that are not
    /// finite, a penalty that is not positive.
    pub fn fit(
        features: &[f32],
        dims: usize,
        labels: &[usize],
        classes: usize,
        options: &FitOptions,
    ) -> Result<Self, FitError> {
        if labels.is_empty() || dims == 0 || labels.len().checked_mul(dims) != Some(features.len()) {
            return Err(FitError::Shape { features: features.len(), dims, labels: labels.len() });
        }
        if let Some(&label) = labels.iter().find(|&&label| label >= classes) {
            return Err(FitError::Label { label, classes });
        }
        if let Some(at) = features.iter().position(|value| !value.is_finite()) {
            return Err(FitError::NotFinite { row: at / dims, column: at % dims });
        }
        if !(options.l2 > 0.0 && options.l2.is_finite()) {
            return Err(FitError::Penalty(options.l2));
        }
        let parameters = classes.checked_mul(dims + 1).filter(|&count| count <= MAX_PARAMETERS);
        let parameters = vec![0.0; parameters.ok_or(FitError::TooManyClasses(classes))?];
        let (mean, inverse_std) = moments(features, dims);
        let mut fitted = Self { dims, classes, mean, inverse_std, parameters: Vec::new() };
        let rows: Vec<f64> = features.chunks_exact(dims).flat_map(|row| fitted.standardize(row)).collect();
        let problem = Problem { rows: &rows, dims, labels, classes, l2: options.l2 };
        let objective = |at: &[f64], gradient: &mut [f64]| problem.evaluate(at, gradient);
        fitted.parameters = lbfgs::minimize(parameters, objective, options.tolerance, options.max_iterations);
        Ok(fitted)
    }

    /// Class probabilities of one row of features; a missing feature counts as its mean.
    pub fn probabilities(&self, features: &[f32]) -> Vec<f64> {
        let row = self.standardize(features);
        let mut scores = vec![0.0; self.classes];
        logits(&row, &self.parameters, self.dims, &mut scores);
        softmax(&mut scores);
        scores
    }

    /// The likeliest class of one row of features, the first of equals.
    pub fn predict(&self, features: &[f32]) -> usize {
        let probabilities = self.probabilities(features);
        let best =
            probabilities.iter().enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
        best.map_or(0, |(class, _)| class)
    }

    /// Weights and biases that act on features as they are, standardization folded in.
    ///
    /// # Shapes
    /// (classes, dims) and (classes).
    pub fn folded(&self) -> (Vec<f64>, Vec<f64>) {
        let (weights, biases) = self.parameters.split_at(self.classes * self.dims);
        let unscale =
            |row: &[f64]| -> Vec<f64> { row.iter().zip(&self.inverse_std).map(|(w, s)| w * s).collect() };
        let folded: Vec<f64> = weights.chunks_exact(self.dims).flat_map(unscale).collect();
        let shift = |row: &[f64]| row.iter().zip(&self.mean).map(|(w, m)| w * m).sum::<f64>();
        let biases =
            biases.iter().zip(folded.chunks_exact(self.dims)).map(|(b, row)| b - shift(row)).collect();
        (folded, biases)
    }

    /// The same classifier with other parameters on its standardized features: weights (classes, dims) and
    /// biases (classes). `None` for other lengths.
    pub fn with_parameters(&self, weights: &[f32], biases: &[f32]) -> Option<Self> {
        let fits = weights.len() == self.classes * self.dims && biases.len() == self.classes;
        let parameters = weights.iter().chain(biases).map(|&value| f64::from(value)).collect();
        fits.then(|| Self { parameters, ..self.clone() })
    }

    /// The value, with penalty `l2`, of what [`Self::fit`] minimizes: how good any parameters are as a fit.
    ///
    /// # Errors
    /// [`FitError`] for shapes that disagree and labels that are no class.
    pub fn objective(&self, features: &[f32], labels: &[usize], l2: f64) -> Result<f64, FitError> {
        if labels.is_empty() || labels.len().checked_mul(self.dims) != Some(features.len()) {
            return Err(FitError::Shape { features: features.len(), dims: self.dims, labels: labels.len() });
        }
        if let Some(&label) = labels.iter().find(|&&label| label >= self.classes) {
            return Err(FitError::Label { label, classes: self.classes });
        }
        let rows: Vec<f64> = features.chunks_exact(self.dims).flat_map(|row| self.standardize(row)).collect();
        let problem = Problem { rows: &rows, dims: self.dims, labels, classes: self.classes, l2 };
        Ok(problem.evaluate(&self.parameters, &mut vec![0.0; self.parameters.len()]))
    }

    fn standardize(&self, row: &[f32]) -> Vec<f64> {
        let moments = self.mean.iter().zip(&self.inverse_std).enumerate();
        moments
            .map(|(at, (mean, scale))| row.get(at).map_or(0.0, |&v| (f64::from(v) - mean) * scale))
            .collect()
    }
}

/// Mean and 1/std of each column.
fn moments(features: &[f32], dims: usize) -> (Vec<f64>, Vec<f64>) {
    let rows = (features.len() / dims) as f64;
    let mut mean = vec![0.0; dims];
    for row in features.chunks_exact(dims) {
        mean.iter_mut().zip(row).for_each(|(mean, &value)| *mean += f64::from(value) / rows);
    }
    let mut variance = vec![0.0; dims];
    for row in features.chunks_exact(dims) {
        for ((variance, mean), &value) in variance.iter_mut().zip(&mean).zip(row) {
            *variance += (f64::from(value) - mean) * (f64::from(value) - mean) / rows;
        }
    }
    // A column of one value has a variance of rounding errors alone.
    let is_constant = |variance: f64, mean: f64| variance <= rows * f64::EPSILON * f64::EPSILON * mean * mean;
    let invert = |(&variance, &mean): (&f64, &f64)| {
        if is_constant(variance, mean) { 1.0 } else { 1.0 / libm::sqrt(variance) }
    };
    let inverse_std = variance.iter().zip(&mean).map(invert).collect();
    (mean, inverse_std)
}

/// The objective over standardized rows.
struct Problem<'a> {
    rows: &'a [f64],
    dims: usize,
    labels: &'a [usize],
    classes: usize,
    l2: f64,
}

impl Problem<'_> {
    /// The loss at `parameters`; its gradient is written to `gradient`.
    fn evaluate(&self, parameters: &[f64], gradient: &mut [f64]) -> f64 {
        let share = 1.0 / self.labels.len() as f64;
        let weights = self.classes * self.dims;
        gradient.fill(0.0);
        let (slopes, bias_slopes) = gradient.split_at_mut(weights);
        let mut loss = 0.0;
        let mut scores = vec![0.0; self.classes];
        for (row, &label) in self.rows.chunks_exact(self.dims).zip(self.labels) {
            logits(row, parameters, self.dims, &mut scores);
            loss -= share * softmax(&mut scores).log_of(label);
            let outputs = scores.iter().zip(slopes.chunks_exact_mut(self.dims)).zip(bias_slopes.iter_mut());
            for (class, ((&probability, slope), bias_slope)) in outputs.enumerate() {
                let error = share * (probability - f64::from(u8::from(class == label)));
                slope.iter_mut().zip(row).for_each(|(slope, &value)| *slope += error * value);
                *bias_slope += error;
            }
        }
        let penalty = self.l2 * share;
        for (slope, &weight) in slopes.iter_mut().zip(parameters) {
            *slope += penalty * weight;
            loss += 0.5 * penalty * weight * weight;
        }
        loss
    }
}

/// `scores[c] = weights[c]·row + bias[c]`.
fn logits(row: &[f64], parameters: &[f64], dims: usize, scores: &mut [f64]) {
    let (weights, biases) = parameters.split_at((scores.len() * dims).min(parameters.len()));
    for ((score, weights), bias) in scores.iter_mut().zip(weights.chunks_exact(dims)).zip(biases) {
        *score = lbfgs::dot(weights, row) + bias;
    }
}

/// What is needed to take the logarithm of a probability that may have underflowed.
struct LogSoftmax {
    logits: Vec<f64>,
    log_sum: f64,
}

impl LogSoftmax {
    fn log_of(&self, class: usize) -> f64 {
        self.logits.get(class).map_or(0.0, |logit| logit - self.log_sum)
    }
}

/// Turns `scores` into probabilities.
fn softmax(scores: &mut [f64]) -> LogSoftmax {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let logits = scores.to_vec();
    scores.iter_mut().for_each(|score| *score = libm::exp(*score - largest));
    let sum: f64 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= sum);
    LogSoftmax { logits, log_sum: largest + libm::log(sum) }
}

const MAX_PARAMETERS: usize = 1 << 28;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::rng::normal;

    fn blobs(rows: usize, dims: usize, classes: usize, seed: u64) -> (Vec<f32>, Vec<usize>) {
        let mut rng = Rng::new(seed);
        let labels: Vec<usize> = (0..rows).map(|row| row % classes).collect();
        let value =
            |label: usize, at: usize, noise: f64| (3.0 * f64::from(u8::from(at == label)) + noise) as f32;
        let features = labels.iter().flat_map(|&l| (0..dims).map(move |at| (l, at)));
        let features = features.map(|(label, at)| value(label, at, normal(&mut rng))).collect();
        (features, labels)
    }

    #[test]
    fn gradient_matches_finite_differences() {
        let (features, labels) = blobs(20, 5, 3, 1);
        let rows: Vec<f64> = features.iter().map(|&v| f64::from(v)).collect();
        let problem = Problem { rows: &rows, dims: 5, labels: &labels, classes: 3, l2: 0.7 };
        let mut rng = Rng::new(2);
        let at: Vec<f64> = (0..18).map(|_| normal(&mut rng)).collect();
        let mut gradient = vec![0.0; 18];
        problem.evaluate(&at, &mut gradient);
        for (index, slope) in gradient.iter().enumerate() {
            let mut moved = at.clone();
            let mut value = |offset: f64| {
                moved[index] = at[index] + offset;
                problem.evaluate(&moved, &mut [0.0; 18])
            };
            let difference = (value(1e-5) - value(-1e-5)) / 2e-5;
            assert!((slope - difference).abs() < 1e-8, "{index}: {slope} {difference}");
        }
    }

    #[test]
    fn separates_what_can_be_separated() {
        let (features, labels) = blobs(150, 8, 3, 3);
        let (unseen, truth) = blobs(300, 8, 3, 4);
        let fitted = LogisticRegression::fit(&features, 8, &labels, 3, &FitOptions::default()).unwrap();
        assert_eq!(
            fitted,
            LogisticRegression::fit(&features, 8, &labels, 3, &FitOptions::default()).unwrap()
        );
        let correct =
            unseen.chunks_exact(8).zip(&truth).filter(|(row, label)| fitted.predict(row) == **label).count();
        assert!(correct > 270, "{correct} of 300");

        let (weights, biases) = fitted.folded();
        for row in unseen.chunks_exact(8) {
            let score = |class: usize| {
                let products = weights[class * 8..][..8].iter().zip(row).map(|(w, &v)| w * f64::from(v));
                biases[class] + products.sum::<f64>()
            };
            let odds = libm::log(fitted.probabilities(row)[2] / fitted.probabilities(row)[0]);
            assert!((score(2) - score(0) - odds).abs() < 1e-9);
        }
    }

    #[test]
    fn nothing_is_below_the_minimum() {
        let (features, labels) = blobs(60, 5, 3, 5);
        let fitted = LogisticRegression::fit(&features, 5, &labels, 3, &FitOptions::default()).unwrap();
        let value = |model: &LogisticRegression| model.objective(&features, &labels, 1.0).unwrap();
        let minimum = value(&fitted);
        let mut rng = Rng::new(6);
        for size in [1e-3, 1e-1] {
            let moved: Vec<f32> =
                fitted.parameters.iter().map(|v| (v + size * normal(&mut rng)) as f32).collect();
            let (weights, biases) = moved.split_at(15);
            assert!(value(&fitted.with_parameters(weights, biases).unwrap()) > minimum);
        }
        let nothing = fitted.with_parameters(&[0.0; 15], &[0.0; 3]).unwrap();
        assert!((value(&nothing) - libm::log(3.0)).abs() < 1e-12);
        assert_eq!(fitted.with_parameters(&[0.0; 14], &[0.0; 3]), None);
        let refused = fitted.objective(&features, &labels[1..], 1.0);
        assert_eq!(refused, Err(FitError::Shape { features: 300, dims: 5, labels: 59 }));
        let refused = fitted.objective(&[0.0; 5], &[3], 1.0);
        assert_eq!(refused, Err(FitError::Label { label: 3, classes: 3 }));
    }

    #[test]
    fn constant_features_and_missing_classes_do_no_harm() {
        let features: Vec<f32> = (0..40).flat_map(|row| [0.1, (row % 4 / 2) as f32]).collect();
        let labels: Vec<usize> = (0..40).map(|row| row % 4 / 2 * 2).collect();
        let fitted = LogisticRegression::fit(&features, 2, &labels, 4, &FitOptions::default()).unwrap();
        assert_eq!((fitted.predict(&[0.1, 0.0]), fitted.predict(&[0.1, 1.0])), (0, 2));
        assert!((fitted.probabilities(&[0.1, 0.0]).iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn refuses_what_cannot_be_fitted() {
        let options = FitOptions::default();
        let fit = |features: &[f32], dims, labels: &[usize]| {
            LogisticRegression::fit(features, dims, labels, 2, &options).map(|_| ())
        };
        assert_eq!(fit(&[1.0; 3], 2, &[0]), Err(FitError::Shape { features: 3, dims: 2, labels: 1 }));
        assert_eq!(fit(&[], 0, &[]), Err(FitError::Shape { features: 0, dims: 0, labels: 0 }));
        assert_eq!(fit(&[1.0; 2], 1, &[0, 2]), Err(FitError::Label { label: 2, classes: 2 }));
        assert_eq!(fit(&[1.0, f32::NAN], 2, &[0]), Err(FitError::NotFinite { row: 0, column: 1 }));
        let refused = LogisticRegression::fit(&[1.0], 1, &[0], usize::MAX, &options).map(|_| ());
        assert_eq!(refused, Err(FitError::TooManyClasses(usize::MAX)));
        let options = FitOptions { l2: 0.0, ..FitOptions::default() };
        let refused = LogisticRegression::fit(&[1.0], 1, &[0], 2, &options).map(|_| ());
        assert_eq!(refused, Err(FitError::Penalty(0.0)));
    }
}
