//! Lengths of rows and columns.

use super::{Backward, Matrix, Rule, Shape};
use crate::expression::Node;

/// Euclidean length of every row, as a column, or of every column, as a row.
///
/// Where a length is zero so is its gradient.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Norm {
    /// `[m, n]` to `[m, 1]`.
    Rows,
    /// `[m, n]` to `[1, n]`.
    Columns,
}

impl Norm {
    /// The result that element `i` of X counts in.
    fn group(self, x: Shape, i: usize) -> usize {
        match self {
            Self::Rows => i / x.columns.max(1),
            Self::Columns => i % x.columns.max(1),
        }
    }
}

impl Rule for Norm {
    fn shape(&self, [x, _]: [Shape; 2]) -> Option<Shape> {
        Some(match self {
            Self::Rows => Shape::new(x.rows, 1),
            Self::Columns => Shape::new(1, x.columns),
        })
    }

    fn forward(&self, [x, _]: [Matrix<'_>; 2], y: &mut [f64], _: &mut [f64]) {
        x.data.iter().enumerate().for_each(|(i, v)| y[self.group(x.shape, i)] += v * v);
        y.iter_mut().for_each(|y| *y = libm::sqrt(*y));
    }

    fn backward(&self, _: usize, Backward { x: [x, _], dy, y, .. }: Backward<'_>, dx: &mut [f64]) {
        for (i, (dx, v)) in dx.iter_mut().zip(x.data).enumerate() {
            let group = self.group(x.shape, i);
            *dx += if y[group] > 0.0 { dy.data[group] * v / y[group] } else { 0.0 };
        }
    }
}

impl<'t> Node<'t> {
    /// The length of every row, a column.
    pub(crate) fn row_norms(self) -> Self {
        self.unary(Norm::Rows)
    }

    /// The length of every column, a row.
    pub(crate) fn column_norms(self) -> Self {
        self.unary(Norm::Columns)
    }
}
