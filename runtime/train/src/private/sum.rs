//! The sum over units, each no longer than a bound.

use super::noise::{Entropy, NoEntropy, gaussian};

/// The gradients of units, added up so that none of them matters more than `bound`.
///
/// # Numerics
/// f64 over f32 gradients: one unit more or less moves the sum by at most `bound`, but for a relative 10⁻¹².
#[derive(Debug)]
pub struct PrivateSum<'m> {
    sum: &'m mut [f64],
    bound: f64,
}

/// Length of what [`PrivateSum::add`] would add of `gradient`: its own, at most `bound`; 0 where it is not finite.
pub fn bounded_norm(gradient: &[f32], bound: f64) -> f64 {
    norm(gradient).map_or(0.0, |norm| norm.min(bound))
}

fn norm(gradient: &[f32]) -> Option<f64> {
    let squares: f64 = gradient.iter().map(|g| f64::from(*g) * f64::from(*g)).sum();
    Some(libm::sqrt(squares)).filter(|norm| norm.is_finite())
}

impl<'m> PrivateSum<'m> {
    /// An empty sum in `memory`, one value per trained parameter, for units no longer than `bound`.
    pub fn new(memory: &'m mut [f64], bound: f64) -> Self {
        memory.fill(0.0);
        Self { sum: memory, bound }
    }

    /// Adds the gradient of one unit: all of its clips, patches and versions. One that is not finite, or of another
    /// length, adds nothing: to stop there would tell that it was.
    pub fn add(&mut self, gradient: &[f32]) {
        let Some(norm) = norm(gradient).filter(|_| gradient.len() == self.sum.len()) else { return };
        let factor = if norm > self.bound { self.bound / norm } else { 1.0 };
        self.sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += factor * f64::from(*g));
    }

    /// Writes (sum + N(0, (`noise`·bound)²)) / `expected` to `out` and begins anew. `expected` is the number of units a step
    /// takes on average: how many it took is not to be told.
    ///
    /// # Errors
    /// [`NoEntropy`]; `out` is then zero and the sum is kept.
    pub fn release(
        &mut self,
        noise: f64,
        expected: f64,
        entropy: &mut (impl Entropy + ?Sized),
        out: &mut [f32],
    ) -> Result<(), NoEntropy> {
        let deviation = noise * self.bound;
        for (to, sum) in out.iter_mut().zip(self.sum.iter()) {
            let Ok(drawn) = gaussian(entropy) else {
                out.fill(0.0);
                return Err(NoEntropy);
            };
            *to = ((sum + deviation * drawn) / expected) as f32;
        }
        self.sum.fill(0.0);
        Ok(())
    }
}
