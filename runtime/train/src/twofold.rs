//! Sums that keep twice the digits of f32: cores that train have no instruction for f64.

/// A sum and what was rounded off it (Ogita, Rump & Oishi, "Accurate sum and dot product", 2005).
///
/// # Numerics
/// As if summed in twice the digits and rounded once, for values below 2¹¹⁴; sums of products too.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Twofold {
    sum: f32,
    lost: f32,
}

impl Twofold {
    /// Of nothing.
    pub(crate) const ZERO: Self = Self { sum: 0.0, lost: 0.0 };

    /// With `value` added.
    pub(crate) fn add(self, value: f32) -> Self {
        let sum = self.sum + value;
        let taken = sum - self.sum;
        Self { sum, lost: self.lost + ((self.sum - (sum - taken)) + (value - taken)) }
    }

    /// With `a · b` added.
    pub(crate) fn add_product(self, a: f32, b: f32) -> Self {
        let product = a * b;
        let ([a, a_low], [b, b_low]) = (halves(a), halves(b));
        let rounded = ((a * b - product) + a * b_low + a_low * b) + a_low * b_low;
        let Self { sum, lost } = self.add(product);
        Self { sum, lost: lost + rounded }
    }

    /// The sum, rounded.
    pub(crate) fn value(self) -> f32 {
        self.sum + self.lost
    }
}

/// `value` as two of half its digits, whose products are exact (Dekker, 1971).
fn halves(value: f32) -> [f32; 2] {
    let spread = 4097.0 * value;
    let high = spread - (spread - value);
    [high, value - high]
}

#[cfg(test)]
mod tests {
    use ingraft_tensor::Rng;

    use super::Twofold;

    /// Sums that cancel: their condition number is up to 10⁶.
    #[test]
    fn sums_of_products_are_those_of_f64() {
        let mut rng = Rng::new(3);
        for round in 0..200 {
            let pairs: [(f32, f32); 64] = core::array::from_fn(|_| {
                let scale = libm::exp2(rng.uniform(-20.0, 20.0));
                ((rng.uniform(-1.0, 1.0) * scale) as f32, rng.uniform(-1.0, 1.0) as f32)
            });
            let exact: f64 = pairs.iter().map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let start = -(exact as f32);
            let sum = pairs.iter().fold(Twofold::ZERO.add(start), |sum, (a, b)| sum.add_product(*a, *b));
            let wanted = exact + f64::from(start);
            let size: f64 = pairs.iter().map(|(a, b)| (f64::from(*a) * f64::from(*b)).abs()).sum();
            let error = (f64::from(sum.value()) - wanted).abs();
            assert!(error <= 1e-12 * size + 1e-7 * wanted.abs(), "{round}: {error} of {size}");
        }
    }

    #[test]
    fn what_is_rounded_off_comes_back() {
        let many = (0..1 << 12).fold(Twofold::ZERO.add(1e8), |sum, _| sum.add(1.0));
        assert_eq!(many.value(), 1e8 + 4096.0);
        assert_eq!(Twofold::ZERO.add(f32::INFINITY).sum, f32::INFINITY);
    }
}
