//! Product with a fixed number.

use super::{Backward, Matrix, Rule, Shape, axpy};
use crate::expression::Node;

/// `c·X` for a fixed c.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale(f64);

impl Rule for Scale {
    fn shape(&self, [x, _]: [Shape; 2]) -> Option<Shape> {
        Some(x)
    }

    fn forward(&self, [x, _]: [Matrix<'_>; 2], y: &mut [f64], _: &mut [f64]) {
        axpy(self.0, x.data, y);
    }

    fn backward(&self, _: usize, pass: Backward<'_>, dx: &mut [f64]) {
        axpy(self.0, pass.dy.data, dx);
    }
}

impl<'t> core::ops::Mul<f64> for Node<'t> {
    type Output = Self;

    fn mul(self, factor: f64) -> Self {
        self.unary(Scale(factor))
    }
}
