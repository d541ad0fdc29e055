//! A corner of a matrix.

use super::{Backward, Matrix, Rule, Shape, axpy};
use crate::expression::Node;

/// The first rows and columns of X.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crop(Shape);

impl Rule for Crop {
    fn shape(&self, [x, _]: [Shape; 2]) -> Option<Shape> {
        (self.0.rows <= x.rows && self.0.columns <= x.columns).then_some(self.0)
    }

    fn forward(&self, [x, _]: [Matrix<'_>; 2], y: &mut [f64], _: &mut [f64]) {
        for (y, x) in y.chunks_exact_mut(self.0.columns.max(1)).zip(x.rows()) {
            axpy(1.0, x, y);
        }
    }

    fn backward(&self, _: usize, pass: Backward<'_>, dx: &mut [f64]) {
        for (dx, dy) in dx.chunks_exact_mut(pass.x[0].shape.columns.max(1)).zip(pass.dy.rows()) {
            axpy(1.0, dy, dx);
        }
    }
}

impl<'t> Node<'t> {
    /// The first `rows` rows and `columns` columns.
    pub(crate) fn crop(self, rows: usize, columns: usize) -> Self {
        self.unary(Crop(Shape::new(rows, columns)))
    }
}
