//! Which values of a row are its largest.

use super::{Backward, Matrix, Rule, Shape};
use crate::expression::Node;

/// 0 where one of the `kept` largest values of a row of X stands, of equal ones the first, and −∞ elsewhere: what
/// leaves of a softmax only those. No gradient passes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Largest {
    pub(super) kept: usize,
}

impl Rule for Largest {
    fn shape(&self, [x, _]: [Shape; 2]) -> Option<Shape> {
        Some(x)
    }

    fn differentiable(&self) -> bool {
        false
    }

    fn forward(&self, [x, _]: [Matrix<'_>; 2], y: &mut [f64], _: &mut [f64]) {
        for (x, y) in x.rows().zip(y.chunks_exact_mut(x.shape.columns.max(1))) {
            for (i, (y, v)) in y.iter_mut().zip(x).enumerate() {
                let ahead = |(j, other): &(usize, &f64)| *other > v || (*other == v && *j < i);
                let kept = x.iter().enumerate().filter(ahead).count() < self.kept;
                *y = if kept { 0.0 } else { f64::NEG_INFINITY };
            }
        }
    }

    fn backward(&self, _: usize, _: Backward<'_>, _: &mut [f64]) {}
}

impl<'t> Node<'t> {
    /// 0 at the `kept` largest values of every row, −∞ at the others.
    pub(crate) fn largest(self, kept: usize) -> Self {
        self.unary(Largest { kept })
    }
}
