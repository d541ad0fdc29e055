//! Normal variates from the runtime's one generator.

use ingraft_tensor::Rng;

/// A standard normal variate (Box-Muller).
///
/// # Numerics
/// `libm` only, so a seed gives the same numbers on every platform.
pub fn normal(rng: &mut Rng) -> f64 {
    let radius = libm::sqrt(-2.0 * libm::log(1.0 - rng.unit()));
    radius * libm::cos(core::f64::consts::TAU * rng.unit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_moments_of_their_distribution() {
        let mut rng = Rng::new(11);
        let n = 200_000;
        let draws: Vec<f64> = (0..n).map(|_| normal(&mut rng)).collect();
        let mean = draws.iter().sum::<f64>() / n as f64;
        let variance = draws.iter().map(|v| v * v).sum::<f64>() / n as f64;
        let within_one = draws.iter().filter(|v| v.abs() < 1.0).count() as f64 / n as f64;
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
        assert!((within_one - 0.6827).abs() < 0.005, "{within_one}");
    }
}
