//! Ranges: which reals the codes of a tensor stand for.

use super::histogram::Histogram;
use crate::quantize::asymmetric;

/// How the range of a tensor follows from the values it took.
///
/// Values beyond the range saturate; a narrower range has finer codes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum RangeMethod {
    /// From the smallest to the largest value.
    MinMax,
    /// What is left when the same share is cut off at both ends so that this many percent remain.
    Percentile(f64),
    /// The range whose codes differ least from the values in the mean square.
    MeanSquaredError,
}

impl RangeMethod {
    /// The range of a tensor with these values; holds zero.
    pub(super) fn range(self, histogram: &Histogram) -> [f32; 2] {
        match self {
            Self::MinMax => histogram.extremes(),
            Self::Percentile(percent) => percentile(histogram, percent),
            Self::MeanSquaredError => least_squares(histogram),
        }
    }
}

fn percentile(histogram: &Histogram, percent: f64) -> [f32; 2] {
    let [min, max] = histogram.extremes();
    let cut = (1.0 - percent / 100.0).clamp(0.0, 1.0) / 2.0;
    let (lo, hi) = (histogram.quantile(cut) as f32, histogram.quantile(1.0 - cut) as f32);
    // A bin may reach past the extremes, and all values may lie on one side of zero.
    [lo.clamp(min, 0.0), hi.clamp(0.0, max)]
}

/// Moves the ends inward in turn, each to the best of [`STEPS`] places, as long as that helps.
fn least_squares(histogram: &Histogram) -> [f32; 2] {
    let bins: Vec<(f64, u64)> = histogram.bins().collect();
    let full = histogram.extremes();
    let mut best = (full, squared_error(&bins, full));
    for _ in 0..ROUNDS_MAX {
        let before = best.1;
        for end in [1, 0] {
            for step in 1..STEPS {
                let mut range = best.0;
                range[end] = full[end] * step as f32 / STEPS as f32;
                let error = squared_error(&bins, range);
                if error < best.1 {
                    best = (range, error);
                }
            }
        }
        if best.1 >= before {
            break;
        }
    }
    best.0
}

/// Σ count·(value − its code)²; zeros are exact in every range.
fn squared_error(bins: &[(f64, u64)], [lo, hi]: [f32; 2]) -> f64 {
    let q = asymmetric(lo, hi);
    let (scale, zero_point) = (f64::from(q.scale), f64::from(q.zero_point));
    let error = |(value, count): &(f64, u64)| {
        let code = (value / scale).round_ties_even().clamp(-128.0 - zero_point, 127.0 - zero_point);
        let difference = value - code * scale;
        difference * difference * *count as f64
    };
    bins.iter().map(error).sum()
}

/// Places tried for one end of a range.
const STEPS: usize = 64;

/// Real tensors settle in two or three.
const ROUNDS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::super::observe::Statistic;
    use super::*;

    fn histogram(values: &[f32]) -> Histogram {
        let mut histogram = Histogram::new();
        histogram.add(values, 1);
        histogram
    }

    /// Sums of twelve uniforms: close to a normal distribution of deviation 1.
    fn bell(count: usize) -> Vec<f32> {
        let mut state = 7u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        (0..count).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect()
    }

    fn mean_squared_error(values: &[f32], [lo, hi]: [f32; 2]) -> f64 {
        let q = asymmetric(lo, hi);
        let square = |v: &f32| f64::from(v - q.dequantize(q.quantize(*v))).powi(2);
        values.iter().map(square).sum::<f64>() / values.len() as f64
    }

    #[test]
    fn min_max_is_exact_and_holds_zero() {
        assert_eq!(RangeMethod::MinMax.range(&histogram(&[0.3, 7.7, 2.0])), [0.0, 7.7]);
        assert_eq!(RangeMethod::MinMax.range(&histogram(&[-0.3, 7.7, 2.0])), [-0.3, 7.7]);
        assert_eq!(RangeMethod::MinMax.range(&histogram(&[-3.0, -1.0])), [-3.0, 0.0]);
    }

    #[test]
    fn a_percentile_cuts_outliers_off() {
        let mut values = bell(100_000);
        values.extend([80.0, -90.0]);
        let [lo, hi] = RangeMethod::Percentile(99.0).range(&histogram(&values));
        // The normal distribution has 0.5 % beyond 2.576 deviations.
        assert!((lo + 2.576).abs() < 0.05 && (hi - 2.576).abs() < 0.05, "{lo} {hi}");
        assert_eq!(RangeMethod::Percentile(100.0).range(&histogram(&[-1.0, 3.0])), [-1.0, 3.0]);
        assert_eq!(RangeMethod::Percentile(50.0).range(&histogram(&[1.0, 2.0, 3.0, 4.0]))[0], 0.0);
    }

    #[test]
    fn least_squares_beats_every_range_of_a_grid() {
        let mut values: Vec<f32> = bell(20_000).iter().map(|v| v * v.abs() + 0.5).collect();
        values.push(60.0);
        let found = RangeMethod::MeanSquaredError.range(&histogram(&values));
        let error = mean_squared_error(&values, found);
        for lo in 0..=20 {
            for hi in 0..=20 {
                let range = [-20.0 * lo as f32 / 20.0, 60.0 * hi as f32 / 20.0];
                let other = mean_squared_error(&values, range);
                assert!(error <= other * 1.02, "{found:?} {error}, {range:?} {other}");
            }
        }
        // The one outlier is cut, by less than it would cost to round all others more coarsely.
        assert!(found[1] < 60.0, "{found:?}");
    }

    #[test]
    fn nothing_but_zeros_has_an_empty_range() {
        for method in [RangeMethod::MinMax, RangeMethod::Percentile(99.9), RangeMethod::MeanSquaredError] {
            assert_eq!(method.range(&histogram(&[0.0; 5])), [0.0, 0.0]);
        }
    }
}
