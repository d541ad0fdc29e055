//! Another shape.

use super::{Backward, Matrix, Rule, Shape, axpy};
use crate::expression::Node;

/// The same values in the same order, in rows of another length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reshape(Shape);

impl Rule for Reshape {
    fn shape(&self, [x, _]: [Shape; 2]) -> Option<Shape> {
        (x.len() == self.0.len()).then_some(self.0)
    }

    fn forward(&self, [x, _]: [Matrix<'_>; 2], y: &mut [f64], _: &mut [f64]) {
        y.copy_from_slice(x.data);
    }

    fn backward(&self, _: usize, pass: Backward<'_>, dx: &mut [f64]) {
        axpy(1.0, pass.dy.data, dx);
    }
}

impl<'t> Node<'t> {
    /// The same values in `rows` rows of `columns`.
    pub(crate) fn reshape(self, rows: usize, columns: usize) -> Self {
        self.unary(Reshape(Shape::new(rows, columns)))
    }
}
