//! The linear head in training: standardized features, then a matrix.
//!
//! Features are centered and divided by their standard deviation over the
//! training clips, so that one learning rate suits all of them. The statistics
//! are fixed before training starts and folded into the weights on export: the
//! deployed head reads raw features.

use crate::memory::Carver;
use crate::twofold::Twofold;

/// Feature statistics of a head. Its weights are part of the parameter vector.
#[derive(Debug)]
pub(crate) struct Standardization<'m> {
    pub(crate) mean: &'m mut [f32],
    /// 1/std; while observing, the sum of squared deviations.
    pub(crate) inverse_std: &'m mut [f32],
    pub(crate) observed: u32,
}

/// A head as trained.
#[derive(Clone, Copy, Debug)]
pub struct TrainedHead<'t> {
    /// Site whose output it reads; [`ingraft_kernel::NO_SITE`] for the input of the last linear layer.
    pub site: u32,
    /// Axes averaged ([`ingraft_kernel::head`]).
    pub pool: u32,
    /// `[classes, features]`, on standardized features.
    pub weight: &'t [f32],
    /// `[classes]`.
    pub bias: &'t [f32],
    /// `[features]`.
    pub mean: &'t [f32],
    /// `[features]`, 1/std.
    pub inverse_std: &'t [f32],
}

impl TrainedHead<'_> {
    /// Number of features.
    pub fn features(&self) -> usize {
        self.mean.len()
    }

    /// Writes the weight and bias that act on features as they are:
    /// W' = W·diag(1/std), b' = b − W'·mean.
    ///
    /// `None` unless `weight` is `[classes, features]` and `bias` `[classes]`.
    ///
    /// # Numerics
    /// The bias is summed in twice the digits of f32, of the products with W' as written: means can be large against their
    /// deviations.
    pub fn fold(&self, weight: &mut [f32], bias: &mut [f32]) -> Option<()> {
        (weight.len() == self.weight.len() && bias.len() == self.bias.len()).then_some(())?;
        let features = self.features().max(1);
        let rows = rows_mut(weight, features).zip(rows(self.weight, features));
        for ((folded, trained), (to, from)) in rows.zip(bias.iter_mut().zip(self.bias)) {
            let mut sum = Twofold::ZERO.add(*from);
            let columns = folded.iter_mut().zip(trained);
            for ((f, w), (mean, inverse_std)) in columns.zip(self.mean.iter().zip(self.inverse_std)) {
                *f = w * inverse_std;
                sum = sum.add_product(-*f, *mean);
            }
            *to = sum.value();
        }
        Some(())
    }
}

impl<'m> Standardization<'m> {
    /// Nothing observed yet: `features` features pass as they are.
    pub(crate) fn carve(carver: &mut Carver<'m>, features: usize) -> Option<Self> {
        let mean = carver.take(features)?;
        let inverse_std: &mut [f32] = carver.take(features)?;
        inverse_std.fill(1.0);
        Some(Self { mean, inverse_std, observed: 0 })
    }

    /// Takes one clip's features into the statistics (Welford 1962).
    pub(crate) fn observe(&mut self, features: &[f32]) {
        if self.observed == 0 {
            self.mean.fill(0.0);
            self.inverse_std.fill(0.0);
        }
        self.observed = self.observed.saturating_add(1);
        let count = self.observed as f32;
        let moments = self.mean.iter_mut().zip(self.inverse_std.iter_mut());
        for ((mean, squares), value) in moments.zip(features) {
            let before = value - *mean;
            *mean += before / count;
            *squares += before * (value - *mean);
        }
    }

    /// Turns the sums into 1/std. A feature that never changes keeps a divisor of 1, as one does whose changes are nothing but
    /// rounding beside those of the largest.
    pub(crate) fn finish(&mut self) {
        let count = self.observed.max(1) as f32;
        let largest = self.inverse_std.iter().fold(0.0f32, |largest, squares| largest.max(*squares / count));
        let noise = f32::EPSILON * f32::EPSILON * largest;
        for (mean, squares) in self.mean.iter().zip(self.inverse_std.iter_mut()) {
            // What is left of a constant feature is rounding of its mean.
            let rounding = f32::EPSILON * *mean;
            let variance = *squares / count;
            let constant = self.observed == 0 || variance <= noise || variance <= rounding * rounding * count;
            *squares = if constant { 1.0 } else { 1.0 / libm::sqrtf(variance) };
        }
        self.observed = 0;
    }

    /// States mean and 1/std of every feature, observing none.
    pub(crate) fn set(&mut self, mean: f32, inverse_std: f32) {
        self.mean.fill(mean);
        self.inverse_std.fill(inverse_std);
        self.observed = 0;
    }

    /// The standardized value of each feature with its index.
    fn standardize(&self, features: &[f32]) -> impl Iterator<Item = f32> {
        let moments = self.mean.iter().zip(self.inverse_std.iter());
        features.iter().zip(moments).map(|(value, (mean, inverse_std))| (value - mean) * inverse_std)
    }

    /// Adds the standardized features to `sum`.
    pub(crate) fn add(&self, features: &[f32], sum: &mut [f32]) {
        sum.iter_mut().zip(self.standardize(features)).for_each(|(sum, z)| *sum += z);
    }

    /// `logits = W·z + b`.
    pub(crate) fn forward(&self, weight: &[f32], bias: &[f32], features: &[f32], logits: &mut [f32]) {
        let rows = rows(weight, features.len().max(1));
        for ((logit, bias), row) in logits.iter_mut().zip(bias).zip(rows) {
            let products = row.iter().zip(self.standardize(features)).map(|(w, z)| w * z);
            *logit = bias + products.sum::<f32>();
        }
    }

    /// Adds the head's gradients to `head_grad` and, when `feature_grad` is not
    /// empty, writes that of the features: `Wᵀ·dlogits ⊙ 1/std`.
    pub(crate) fn backward(
        &self,
        weight: &[f32],
        logit_grad: &[f32],
        features: &[f32],
        head_grad: &mut [f32],
        feature_grad: &mut [f32],
    ) {
        let (weight_grad, bias_grad) = head_grad.split_at_mut_checked(weight.len()).unwrap_or_default();
        let width = features.len().max(1);
        for ((row, bias), d) in rows_mut(weight_grad, width).zip(bias_grad).zip(logit_grad) {
            row.iter_mut().zip(self.standardize(features)).for_each(|(g, z)| *g += d * z);
            *bias += d;
        }
        feature_grad.fill(0.0);
        for (row, d) in rows(weight, width).zip(logit_grad) {
            feature_grad.iter_mut().zip(row).for_each(|(g, w)| *g += d * w);
        }
        feature_grad.iter_mut().zip(self.inverse_std.iter()).for_each(|(g, s)| *g *= s);
    }
}

/// The rows of a matrix `width` wide. A zip of `chunks_exact` would divide by its
/// width, and panic for all that the compiler knows.
fn rows(matrix: &[f32], width: usize) -> impl Iterator<Item = &[f32]> {
    let mut rest = matrix;
    core::iter::from_fn(move || {
        let (row, tail) = rest.split_at_checked(width)?;
        rest = tail;
        Some(row)
    })
}

/// As [`rows`], to write.
fn rows_mut(matrix: &mut [f32], width: usize) -> impl Iterator<Item = &mut [f32]> {
    let mut rest = matrix;
    core::iter::from_fn(move || {
        let (row, tail) = core::mem::take(&mut rest).split_at_mut_checked(width)?;
        rest = tail;
        Some(row)
    })
}

#[cfg(test)]
mod tests {
    use super::Standardization;

    /// A feature of ones and twos, one that never changes, one that is rounding beside the first, and a small one that is not.
    #[test]
    fn rounding_is_not_taken_for_a_feature() {
        let (mut mean, mut inverse_std) = ([0.0; 4], [1.0; 4]);
        let mut statistics = Standardization { mean: &mut mean, inverse_std: &mut inverse_std, observed: 0 };
        for clip in 0..100 {
            let odd = (clip % 2) as f32;
            statistics.observe(&[1.0 + odd, 3.3, -2e-8 * odd, 1e-5 * odd]);
        }
        statistics.finish();
        assert!((inverse_std[0] - 2.0).abs() < 1e-5, "{inverse_std:?}");
        assert_eq!([inverse_std[1], inverse_std[2]], [1.0, 1.0]);
        assert!((inverse_std[3] * 1e-5 - 2.0).abs() < 1e-4, "{inverse_std:?}");
    }
}
