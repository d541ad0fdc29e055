//! The inverse Haar wavelet transform.

use super::{Backward, Matrix, Rule, Shape};
use crate::expression::Node;

/// One level of the inverse two-dimensional Haar wavelet transform.
///
/// X has the approximation top left, and three details: top right changes sign along
/// rows, bottom left along columns, bottom right along both. Orthonormal, so that
/// the gradient goes back through the forward transform.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Haar;

/// Calls `visit(positions of the four coefficients, positions of the four values)`.
fn for_each(x: Shape, mut visit: impl FnMut([usize; 4], [usize; 4])) {
    let (rows, columns) = (x.rows / 2, x.columns / 2);
    let corner = |row: usize, column: usize, down: usize, right: usize| {
        let top_left = row * x.columns + column;
        [top_left, top_left + right, top_left + down * x.columns, top_left + down * x.columns + right]
    };
    for row in 0..rows {
        for column in 0..columns {
            visit(corner(row, column, rows, columns), corner(2 * row, 2 * column, 1, 1));
        }
    }
}

/// The four values of the coefficients approximation, row, column and both, or the other way round:
/// the matrix of signs is symmetric, and its own inverse with the factor ½.
fn butterfly([a, h, v, d]: [f64; 4]) -> [f64; 4] {
    [a + h + v + d, a + h - v - d, a - h + v - d, a - h - v + d].map(|sum| sum / 2.0)
}

impl Rule for Haar {
    fn shape(&self, [x, _]: [Shape; 2]) -> Option<Shape> {
        (x.rows.is_multiple_of(2) && x.columns.is_multiple_of(2)).then_some(x)
    }

    fn forward(&self, [x, _]: [Matrix<'_>; 2], y: &mut [f64], _: &mut [f64]) {
        for_each(x.shape, |from, to| {
            let values = butterfly(from.map(|at| x.data[at]));
            to.into_iter().zip(values).for_each(|(to, value)| y[to] = value);
        });
    }

    fn backward(&self, _: usize, pass: Backward<'_>, dx: &mut [f64]) {
        for_each(pass.x[0].shape, |to, from| {
            let values = butterfly(from.map(|at| pass.dy.data[at]));
            to.into_iter().zip(values).for_each(|(to, value)| dx[to] += value);
        });
    }
}

impl<'t> Node<'t> {
    /// The matrix whose Haar wavelet coefficients, in four quadrants, these are.
    pub(crate) fn inverse_haar(self) -> Self {
        self.unary(Haar)
    }
}
