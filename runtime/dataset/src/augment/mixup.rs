//! Two recordings with two labels in one.

use crate::Rng;
use crate::rng::normal;

/// `share` of `samples` and the rest of `other`, from a random place of it on, repeated where it is short: what the
/// labels of both should then be mixed as (Zhang et al., "mixup", ICLR 2018). An empty `other` changes nothing.
pub fn mixup(samples: &[f32], other: &[f32], share: f32, seed: u64) -> Vec<f32> {
    if other.is_empty() {
        return samples.to_vec();
    }
    let start = Rng::new(seed).below(other.len());
    let stretch = other.iter().cycle().skip(start);
    samples.iter().zip(stretch).map(|(own, other)| own * share + other * (1.0 - share)).collect()
}

/// The share of a recording in its mixture: the larger of λ and 1 − λ, where λ is drawn from Beta(`alpha`, `alpha`).
///
/// Either of two recordings may be the one that is mixed into, so the mixtures are those of λ itself; but a version of a
/// clip stays more that clip's than its partner's, and so balanced with it.
///
/// # Numerics
/// In ½…1, where 1 − share is exact: shares of two sum to one. Two gamma variates (Marsaglia & Tsang, "A simple method
/// for generating gamma variables", 2000), compared by their logarithms, since those of a small `alpha` underflow.
pub fn mixup_share(alpha: f64, seed: u64) -> f32 {
    let mut rng = Rng::new(seed);
    let (own, other) = (log_gamma_variate(alpha, &mut rng), log_gamma_variate(alpha, &mut rng));
    let share = 1.0 / (1.0 + libm::exp(-(own - other).abs()));
    (share as f32).clamp(0.5, 1.0)
}

/// The logarithm of a variate of Gamma(`shape`, 1): that of `shape` + 1, and the power of a uniform one that takes it back.
fn log_gamma_variate(shape: f64, rng: &mut Rng) -> f64 {
    let d = shape + 1.0 - 1.0 / 3.0;
    let c = 1.0 / libm::sqrt(9.0 * d);
    let lowered = libm::log(1.0 - rng.unit()) / shape;
    // 19 of 20 draws are accepted, whatever the shape: a thousand refused in a row do not happen.
    for _ in 0..1000 {
        let x = normal(rng);
        let root = 1.0 + c * x;
        let v = root * root * root;
        let u = 1.0 - rng.unit();
        if v > 0.0 && libm::log(u) < 0.5 * x * x + d - d * v + d * libm::log(v) {
            return libm::log(d * v) + lowered;
        }
    }
    libm::log(d) + lowered
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Moments of the larger of λ and 1 − λ: of (λ − ½)² it is the variance of Beta(α, α), 1 ÷ (4·(2α + 1)).
    #[test]
    fn shares_have_the_moments_of_their_distribution() {
        for alpha in [0.1, 0.4, 1.0, 5.0] {
            let shares: Vec<f64> = (0..40_000).map(|seed| f64::from(mixup_share(alpha, seed))).collect();
            assert!(shares.iter().all(|share| (0.5..=1.0).contains(share)), "{alpha}");
            let square = shares.iter().map(|share| (share - 0.5) * (share - 0.5)).sum::<f64>() / 4e4;
            let wanted = 0.25 / (2.0 * alpha + 1.0);
            assert!((square - wanted).abs() < 0.02 * wanted, "{alpha}: {square}, not {wanted}");
        }
        // Beta(1, 1) is uniform, and the larger part then uniform in ½…1.
        let below = (0..40_000).filter(|&seed| mixup_share(1.0, seed) < 0.6).count();
        assert!(below.abs_diff(8000) < 300, "{below}");
        // Next to nothing, and next to all.
        assert_eq!(mixup_share(1e-12, 3), 1.0);
        assert!(mixup_share(1e9, 3) < 0.5001);
    }

    #[test]
    fn mixtures_are_of_both_in_their_shares() {
        let (own, other) = ([1.0f32; 7], [3.0f32, 5.0, 7.0]);
        let mixed = mixup(&own, &other, 0.75, 9);
        let rest: Vec<f32> = mixed.iter().map(|sample| (sample - 0.75) * 4.0).collect();
        let start = other.iter().position(|sample| *sample == rest[0]).unwrap();
        assert!(rest.iter().enumerate().all(|(at, sample)| *sample == other[(start + at) % 3]), "{rest:?}");
        assert_eq!(mixup(&own, &other, 1.0, 9), own);
        assert_eq!(mixup(&own, &[], 0.5, 9), own);
        assert!((0..50).any(|seed| mixup(&own, &other, 0.75, seed) != mixed));
    }
}
