//! What steps of the sampled Gaussian mechanism give away, in Rényi differential privacy.

/// Steps of the sampled Gaussian mechanism: a sum over units of vectors no longer than the bound, each unit taken with
/// probability `rate`, with Gaussian noise of deviation `noise` times the bound.
///
/// # Numerics
/// f64. Each order is an upper bound of what is given away, so the smallest of them is one too.
///
/// Source: Mironov, Talwar, Zhang 2019, "Rényi Differential Privacy of the Sampled Gaussian Mechanism", section 3.3
/// (integer orders); Mironov 2017, "Rényi Differential Privacy", for the mechanism that takes every unit; Canonne, Kamath,
/// Steinke 2020, "The Discrete Gaussian for Differential Privacy", proposition 12, for the conversion to (ε, δ).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampledGaussian {
    /// Probability of each unit to be in a step, 0 to 1.
    pub rate: f64,
    /// Deviation of the noise in units of the bound, above 0.
    pub noise: f64,
    /// Number of steps.
    pub steps: u32,
}

/// Orders where units are sampled: all integers up to the first, then powers of two up to the second.
const DENSE: u32 = 64;
const LARGEST: u32 = 1024;
/// Least and largest noise that is looked for.
const NOISE: [f64; 2] = [1e-2, 1e6];

impl SampledGaussian {
    /// The ε of (ε, δ)-differential privacy for this `delta`; infinite where nothing can be said.
    pub fn epsilon(&self, delta: f64) -> f64 {
        let sound = self.noise > 0.0 && (0.0..=1.0).contains(&self.rate) && delta > 0.0 && delta < 1.0;
        if !sound {
            return f64::INFINITY;
        }
        if self.rate >= 1.0 {
            // Every real order counts: 2^(1/16) apart, from 1 + 2⁻⁸ on.
            let orders = (0..=288u32).map(|step| 1.0 + libm::exp2(f64::from(step) / 16.0 - 8.0));
            return self.least(orders, delta);
        }
        let sparse = (1u32..).map(|power| DENSE.saturating_mul(1 << power.min(8)));
        let sparse = sparse.take_while(|order| *order <= LARGEST);
        self.least((2..=DENSE).chain(sparse).map(f64::from), delta)
    }

    /// The least noise, to a relative 10⁻⁶ and never below it, under which `steps` steps at `rate` spend at most `epsilon` for
    /// `delta`; `None` where none does.
    pub fn noise_for(rate: f64, steps: u32, epsilon: f64, delta: f64) -> Option<f64> {
        let spends = |noise: f64| Self { rate, noise, steps }.epsilon(delta);
        let [mut low, mut high] = NOISE;
        if spends(low) <= epsilon {
            return Some(low);
        }
        (spends(high) <= epsilon).then_some(())?;
        // The noise wanted lies between: ε falls as noise grows.
        while high / low > 1.0 + 1e-6 {
            let middle = libm::sqrt(low * high);
            if spends(middle) <= epsilon { high = middle } else { low = middle }
        }
        Some(high)
    }

    fn least(&self, orders: impl Iterator<Item = f64>, delta: f64) -> f64 {
        let spent = orders.map(|order| {
            let renyi = f64::from(self.steps) * self.renyi(order);
            let converted = libm::log1p(-1.0 / order) - (libm::log(delta) + libm::log(order)) / (order - 1.0);
            renyi + converted
        });
        // NaN of an overflow says nothing.
        spent.filter(|epsilon| !epsilon.is_nan()).fold(f64::INFINITY, f64::min).max(0.0)
    }

    /// Rényi divergence of one step at `order`, an integer unless every unit is taken.
    fn renyi(&self, order: f64) -> f64 {
        let exponent = 0.5 / (self.noise * self.noise);
        if self.rate >= 1.0 {
            return order * exponent;
        }
        if self.rate <= 0.0 {
            return 0.0;
        }
        // log Σ_k C(α,k) (1−q)^(α−k) q^k exp(k(k−1)/2σ²), kept as the largest term and the sum over it.
        let (taken, left) = (libm::log(self.rate), libm::log1p(-self.rate));
        let (mut choose, mut largest, mut sum) = (0.0, f64::NEG_INFINITY, 0.0);
        let mut k = 0.0;
        while k <= order {
            let term = choose + k * taken + (order - k) * left + k * (k - 1.0) * exponent;
            if term > largest {
                sum = sum * libm::exp(largest - term) + 1.0;
                largest = term;
            } else {
                sum += libm::exp(term - largest);
            }
            choose += libm::log((order - k) / (k + 1.0));
            k += 1.0;
        }
        (largest + libm::log(sum)) / (order - 1.0)
    }
}
