//! Integer arithmetic that never panics, generic over the width.

use ingraft_tensor::bytes::Element;

/// A signed integer element: overflow wraps, division by zero gives zero.
pub(crate) trait Integer: Element + Ord + Default {
    const ONE: Self;
    const MIN: Self;
    const MAX: Self;

    fn add(self, rhs: Self) -> Self;
    fn sub(self, rhs: Self) -> Self;
    fn mul(self, rhs: Self) -> Self;
    /// Quotient truncated toward zero.
    fn div(self, rhs: Self) -> Self;
    /// Remainder with the sign of `self`.
    fn rem(self, rhs: Self) -> Self;
    /// Power truncated toward zero, so 0 for most negative exponents.
    fn pow(self, exponent: Self) -> Self;
    /// `count` as an element, saturating.
    fn from_count(count: usize) -> Self;

    /// Remainder with the sign of `rhs`.
    fn floor_rem(self, rhs: Self) -> Self {
        let rem = self.rem(rhs);
        let zero = Self::default();
        if rem != zero && (rem < zero) != (rhs < zero) { rem.add(rhs) } else { rem }
    }
}

macro_rules! integers {
    ($($ty:ty),*) => {$(
        impl Integer for $ty {
            const ONE: Self = 1;
            const MIN: Self = <$ty>::MIN;
            const MAX: Self = <$ty>::MAX;

            fn add(self, rhs: Self) -> Self {
                self.wrapping_add(rhs)
            }

            fn sub(self, rhs: Self) -> Self {
                self.wrapping_sub(rhs)
            }

            fn mul(self, rhs: Self) -> Self {
                self.wrapping_mul(rhs)
            }

            fn div(self, rhs: Self) -> Self {
                if rhs == -1 { self.wrapping_neg() } else { self.checked_div(rhs).unwrap_or(0) }
            }

            fn rem(self, rhs: Self) -> Self {
                self.checked_rem(rhs).unwrap_or(0)
            }

            fn pow(self, exponent: Self) -> Self {
                match (self, u32::try_from(exponent)) {
                    (_, Ok(exponent)) => self.wrapping_pow(exponent),
                    (1, _) => 1,
                    (-1, _) => if exponent & 1 == 0 { 1 } else { -1 },
                    _ => 0,
                }
            }

            fn from_count(count: usize) -> Self {
                Self::try_from(count).unwrap_or(<$ty>::MAX)
            }
        }
    )*};
}

integers!(i32, i64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_do_not_panic() {
        assert_eq!(i32::MIN.div(-1), i32::MIN);
        assert_eq!(7.div(0), 0);
        assert_eq!((-7).div(2), -3);
        assert_eq!(i64::MIN.rem(-1), 0);
        assert_eq!(7.rem(0), 0);
        assert_eq!(((-7).rem(3), (-7).floor_rem(3), 7.floor_rem(-3), 6.floor_rem(-3)), (-1, 2, -2, 0));
        assert_eq!((2.pow(10), 2.pow(-1), (-1).pow(-3), 1.pow(-9), 0.pow(0)), (1024, 0, -1, 1, 1));
    }
}
