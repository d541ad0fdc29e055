//! The distribution of a tensor's values, gathered run by run.

use super::observe::Statistic;

/// Counts of values in bins of equal width on both sides of zero, zeros and extremes apart.
///
/// The width is a power of two and doubles, two bins becoming one, when a value falls outside. So the counts do not
/// depend on the order of the values, and no value has to be seen twice.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    /// Below zero from the lowest, then above.
    counts: Vec<u64>,
    /// Binary logarithm of the width; `None` until a value other than zero comes.
    exponent: Option<i32>,
    zeros: u64,
    min: f32,
    max: f32,
    finite: bool,
}

impl Histogram {
    /// No values yet.
    pub(super) fn new() -> Self {
        Self { counts: vec![0; 2 * BINS], exponent: None, zeros: 0, min: 0.0, max: 0.0, finite: true }
    }

    /// The smallest and the largest value, and zero if it lies outside them.
    pub(super) fn extremes(&self) -> [f32; 2] {
        [self.min, self.max]
    }

    /// Whether every value was a finite number.
    pub(super) fn is_finite(&self) -> bool {
        self.finite
    }

    /// The middle and the count of every bin that is not empty, from the lowest; zeros are not among them.
    pub(super) fn bins(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let width = self.width();
        let middle = move |slot: usize| (slot as f64 - BINS as f64 + 0.5) * width;
        self.counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count != 0)
            .map(move |(i, count)| (middle(i), *count))
    }

    /// The value below which the share `p` of all values lies, to within a bin.
    pub(super) fn quantile(&self, p: f64) -> f64 {
        let total = self.counts.iter().sum::<u64>() + self.zeros;
        let (wanted, width) = (p.clamp(0.0, 1.0) * total as f64, self.width());
        let mut below = 0.0;
        for (slot, count) in self.counts.iter().enumerate() {
            if slot == BINS {
                below += self.zeros as f64;
                if below >= wanted {
                    return 0.0;
                }
            }
            let count = *count as f64;
            if count > 0.0 && below + count >= wanted {
                return (slot as f64 - BINS as f64 + (wanted - below) / count) * width;
            }
            below += count;
        }
        f64::from(self.max)
    }

    fn width(&self) -> f64 {
        f64::from(self.exponent.unwrap_or(0)).exp2()
    }

    /// Makes the bins reach past `magnitude`.
    fn reach(&mut self, magnitude: f32) {
        // The exponent of the next power of two, less that of the number of bins on one side.
        let needed = (magnitude.to_bits() >> 23) as i32 - 126 - BINS.ilog2() as i32;
        let mut exponent = *self.exponent.get_or_insert(needed);
        while exponent < needed {
            exponent += 1;
            let mut merged = vec![0; 2 * BINS];
            for (slot, count) in self.counts.iter().enumerate() {
                merged[(slot + BINS) / 2] += count;
            }
            self.counts = merged;
        }
        self.exponent = Some(exponent);
    }
}

impl Statistic for Histogram {
    fn add(&mut self, values: &[f32], _: usize) {
        let finite = || values.iter().copied().filter(|v| v.is_finite());
        self.finite &= finite().count() == values.len();
        (self.min, self.max) = finite().fold((self.min, self.max), |(lo, hi), v| (lo.min(v), hi.max(v)));
        let magnitude = finite().fold(0.0f32, |m, v| m.max(v.abs()));
        if magnitude > 0.0 {
            self.reach(magnitude);
        }
        let bins_per_unit = 1.0 / self.width();
        for value in finite() {
            if value == 0.0 {
                self.zeros += 1;
            } else {
                let slot = (f64::from(value) * bins_per_unit).floor() as i64 + BINS as i64;
                self.counts[slot.clamp(0, 2 * BINS as i64 - 1) as usize] += 1;
            }
        }
    }
}

/// Bins on either side of zero: at the least 2048 for the larger side, eight for each of its codes.
const BINS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_do_not_depend_on_the_order() {
        let values: Vec<f32> = (0..4000).map(|i| ((i * 7919) % 4001) as f32 * 0.37 - 500.0).collect();
        let (mut whole, mut parts) = (Histogram::new(), Histogram::new());
        whole.add(&values, 1);
        let mut ascending = values.clone();
        ascending.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
        ascending.chunks(37).for_each(|part| parts.add(part, 1));
        assert_eq!(whole.exponent, parts.exponent);
        assert_eq!(whole.counts, parts.counts);
        assert_eq!(whole.extremes(), parts.extremes());
    }

    #[test]
    fn bins_hold_their_values() {
        for value in [1.0f32, -1.0, 0.9999, 1024.0, -3.7e-30, f32::MAX, 1e-42] {
            let mut histogram = Histogram::new();
            histogram.add(&[value], 1);
            let (middle, count) = histogram.bins().next().unwrap();
            assert_eq!(count, 1);
            assert!((middle - f64::from(value)).abs() <= histogram.width() / 2.0, "{value}: {middle}");
            let used = f64::from(value.abs()) / (BINS as f64 * histogram.width());
            assert!(used < 1.0 && (used >= 0.5 || value.is_subnormal()), "{value}: {used}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        let mut values: Vec<f32> = (0..10_000).map(|i| ((i * 6007) % 10_007) as f32 / 1000.0 - 2.0).collect();
        values.extend([0.0; 500]);
        let mut histogram = Histogram::new();
        histogram.add(&values, 1);
        values.sort_by(f32::total_cmp);
        for p in [0.001, 0.1, 0.2, 0.21, 0.5, 0.9, 0.999] {
            let want = f64::from(values[(p * values.len() as f64) as usize]);
            assert!((histogram.quantile(p) - want).abs() < 3.0 * histogram.width(), "{p}");
        }
    }

    #[test]
    fn what_is_not_finite_is_noticed_and_left_out() {
        let mut histogram = Histogram::new();
        histogram.add(&[1.0, f32::NAN, f32::INFINITY, -2.0], 1);
        assert!(!histogram.is_finite());
        assert_eq!(histogram.extremes(), [-2.0, 1.0]);
        assert_eq!(histogram.bins().map(|(_, count)| count).sum::<u64>(), 2);
    }
}
