//! Which elements are large.

use super::{Backward, Matrix, Rule, Shape};
use crate::expression::Node;

/// One where an element's size is above a quantile of the sizes of all, zero elsewhere; nothing flows back.
///
/// The share of elements below is a constant of one element. The quantile lies between two sizes where the share
/// falls between two (linear interpolation, as NumPy and PyTorch have it by default).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quantile;

impl Rule for Quantile {
    fn shape(&self, [x, share]: [Shape; 2]) -> Option<Shape> {
        (share.len() == 1).then_some(x)
    }

    fn memory(&self, [x, _]: [Shape; 2]) -> usize {
        x.len()
    }

    fn differentiable(&self) -> bool {
        false
    }

    fn forward(&self, [x, share]: [Matrix<'_>; 2], y: &mut [f64], sizes: &mut [f64]) {
        sizes.iter_mut().zip(x.data).for_each(|(size, x)| *size = libm::fabs(*x));
        sizes.sort_unstable_by(f64::total_cmp);
        let at = share.data.first().copied().unwrap_or(0.0).clamp(0.0, 1.0)
            * x.data.len().saturating_sub(1) as f64;
        let below = libm::floor(at);
        let size = |at: f64| sizes.get(at as usize).copied();
        let low = size(below).unwrap_or(0.0);
        let limit = low + (at - below) * (size(below + 1.0).unwrap_or(low) - low);
        y.iter_mut().zip(x.data).for_each(|(y, x)| *y = f64::from(u8::from(libm::fabs(*x) > limit)));
    }

    fn backward(&self, _: usize, _: Backward<'_>, _: &mut [f64]) {}
}

impl<'t> Node<'t> {
    /// One where an element's size is above the quantile `share` of all sizes, zero elsewhere.
    pub(crate) fn above_quantile(self, share: Self) -> Self {
        self.binary(Quantile, share)
    }
}
