//! How well scores tell two populations apart.

/// How well scores tell members from others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Separation {
    /// Area under the ROC: the share of pairs in which the member scores higher, ties counted half.
    pub auc: f64,
    /// Standard deviation of that area.
    pub deviation: f64,
    /// Share of members that score above all but the allowed share of others.
    pub true_positive_rate: f64,
}

impl Separation {
    /// Of the scores of `members` and `others`, with at most `false_positive_rate` of the others called members; `None` unless
    /// there are two of each.
    ///
    /// # Numerics
    /// DeLong, DeLong, Clarke-Pearson 1988, by ranks (Sun, Xu 2014): O(n log n).
    pub fn new(members: &[f64], others: &[f64], false_positive_rate: f64) -> Option<Self> {
        if members.len() < 2 || others.len() < 2 {
            return None;
        }
        let (own, theirs) = (midranks(members), midranks(others));
        let all: Vec<f64> = members.iter().chain(others).copied().collect();
        let joint = midranks(&all);
        let (m, n) = (members.len() as f64, others.len() as f64);
        let above: Vec<f64> = joint.iter().zip(&own).map(|(all, own)| (all - own) / n).collect();
        let below: Vec<f64> =
            joint[members.len()..].iter().zip(&theirs).map(|(all, own)| 1.0 - (all - own) / m).collect();
        let auc = above.iter().sum::<f64>() / m;
        let deviation = (variance(&above) / m + variance(&below) / n).sqrt();
        let mut sorted = others.to_vec();
        sorted.sort_unstable_by(|a, b| b.total_cmp(a));
        let allowed = (false_positive_rate * n) as usize;
        let threshold = sorted.get(allowed).copied().unwrap_or(f64::NEG_INFINITY);
        let caught = members.iter().filter(|score| **score > threshold).count();
        Some(Self { auc, deviation, true_positive_rate: caught as f64 / m })
    }

    /// What max(AUC, 1 − AUC) is at most, with a confidence of 95 % (normal, 1.96 deviations).
    pub fn upper_bound(&self) -> f64 {
        (self.auc.max(1.0 - self.auc) + 1.96 * self.deviation).min(1.0)
    }
}

/// The rank of every value from 1, equal ones the mean of theirs.
fn midranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for tied in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let rank = first as f64 + (tied.len() as f64 + 1.0) / 2.0;
        tied.iter().for_each(|index| ranks[*index] = rank);
        first += tied.len();
    }
    ranks
}

fn variance(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() as f64 - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    /// The definition, pair by pair.
    fn by_pairs(members: &[f64], others: &[f64]) -> (f64, f64) {
        let wins = |a: f64, b: f64| {
            if a > b {
                1.0
            } else if a == b {
                0.5
            } else {
                0.0
            }
        };
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let above: Vec<f64> =
            members.iter().map(|a| mean(&others.iter().map(|b| wins(*a, *b)).collect::<Vec<_>>())).collect();
        let below: Vec<f64> =
            others.iter().map(|b| mean(&members.iter().map(|a| wins(*a, *b)).collect::<Vec<_>>())).collect();
        let var = variance(&above) / above.len() as f64 + variance(&below) / below.len() as f64;
        (mean(&above), var.sqrt())
    }

    #[test]
    fn ranks_say_what_pairs_say() {
        let mut rng = Rng::new(4);
        for trial in 0..40 {
            // Few different values, so that many are equal.
            let mut draw = |shift: f64| {
                let count = 2 + rng.below(30);
                (0..count).map(|_| (rng.uniform(0.0, 6.0) + shift).floor()).collect::<Vec<f64>>()
            };
            let (members, others) = (draw(f64::from(trial % 4)), draw(0.0));
            let found = Separation::new(&members, &others, 0.01).expect("two of each");
            let (auc, deviation) = by_pairs(&members, &others);
            assert!(
                (found.auc - auc).abs() < 1e-12 && (found.deviation - deviation).abs() < 1e-12,
                "{trial}"
            );
        }
        assert_eq!(Separation::new(&[1.0], &[0.0, 2.0], 0.01), None);
    }

    #[test]
    fn what_cannot_be_told_apart_is_near_one_half() {
        let mut rng = Rng::new(9);
        let mut bounds = 0;
        for _ in 0..50 {
            let mut draw = || (0..400).map(|_| rng.uniform(0.0, 1.0)).collect::<Vec<f64>>();
            let found = Separation::new(&draw(), &draw(), 0.01).expect("enough of each");
            assert!((found.auc - 0.5).abs() < 0.1 && found.true_positive_rate < 0.06, "{found:?}");
            bounds += usize::from(found.upper_bound() >= 0.5);
        }
        assert_eq!(bounds, 50);
        let apart = Separation::new(&[2.0, 3.0, 4.0], &[0.0, 1.0], 0.01).expect("enough of each");
        assert_eq!((apart.auc, apart.deviation, apart.true_positive_rate), (1.0, 0.0, 1.0));
        let reversed = Separation::new(&[0.0, 1.0], &[2.0, 3.0], 0.01).expect("enough of each");
        assert_eq!((reversed.auc, reversed.upper_bound()), (0.0, 1.0));
    }

    /// Of 100 others one may be called a member: the threshold is the second highest.
    #[test]
    fn one_in_a_hundred_is_allowed() {
        let others: Vec<f64> = (0..100).map(f64::from).collect();
        let found = Separation::new(&[98.5, 98.0, 97.0, 200.0], &others, 0.01).expect("enough of each");
        assert_eq!(found.true_positive_rate, 0.5);
    }
}
