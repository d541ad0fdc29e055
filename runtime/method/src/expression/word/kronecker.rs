//! Kronecker product.

use super::{Backward, Matrix, Rule, Shape};
use crate::expression::Node;

/// `X ⊗ Y`: block (i, j) of the value is `x_ij·Y`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kronecker;

/// Calls `visit(position in X, position in Y, position in the value)`.
fn for_each([x, y]: [Shape; 2], mut visit: impl FnMut(usize, usize, usize)) {
    let columns = x.columns * y.columns;
    for i in 0..x.len() {
        let corner = i / x.columns * y.rows * columns + i % x.columns * y.columns;
        for j in 0..y.len() {
            visit(i, j, corner + j / y.columns * columns + j % y.columns);
        }
    }
}

impl Rule for Kronecker {
    fn shape(&self, [x, y]: [Shape; 2]) -> Option<Shape> {
        Some(Shape::new(x.rows.checked_mul(y.rows)?, x.columns.checked_mul(y.columns)?))
    }

    fn forward(&self, [a, b]: [Matrix<'_>; 2], y: &mut [f64], _: &mut [f64]) {
        for_each([a.shape, b.shape], |i, j, to| y[to] = a.data[i] * b.data[j]);
    }

    fn backward(&self, which: usize, Backward { x: [a, b], dy, .. }: Backward<'_>, dx: &mut [f64]) {
        for_each([a.shape, b.shape], |i, j, to| match which {
            0 => dx[i] += dy.data[to] * b.data[j],
            _ => dx[j] += dy.data[to] * a.data[i],
        });
    }
}

impl<'t> Node<'t> {
    /// The Kronecker product.
    pub(crate) fn kronecker(self, right: Self) -> Self {
        self.binary(Kronecker, right)
    }
}
