//! Elementwise product.

use super::{Backward, Matrix, Rule, Shape};
use crate::expression::Node;

/// `X ⊙ Y`; Y may be a column (`diag(y)·X`), a row (`X·diag(y)`) or a single value, repeated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hadamard;

impl Rule for Hadamard {
    fn shape(&self, [x, y]: [Shape; 2]) -> Option<Shape> {
        Spread::new(x, y).map(|_| x)
    }

    fn forward(&self, [a, b]: [Matrix<'_>; 2], y: &mut [f64], _: &mut [f64]) {
        let Some(spread) = Spread::new(a.shape, b.shape) else { return };
        y.iter_mut().zip(a.data).enumerate().for_each(|(i, (y, a))| *y = a * b.data[spread.at(i)]);
    }

    fn backward(&self, which: usize, Backward { x: [a, b], dy, .. }: Backward<'_>, dx: &mut [f64]) {
        let Some(spread) = Spread::new(a.shape, b.shape) else { return };
        for (i, (dy, a)) in dy.data.iter().zip(a.data).enumerate() {
            match which {
                0 => dx[i] += dy * b.data[spread.at(i)],
                _ => dx[spread.at(i)] += dy * a,
            }
        }
    }
}

/// How a smaller operand is repeated over a larger one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spread {
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl Spread {
    /// `small` over `large`; `None` when it is neither equal, nor a column, a row or a single value of it.
    pub(super) fn new(large: Shape, small: Shape) -> Option<Self> {
        let stride = |large: usize, small: usize, stride: usize| match small {
            1 => Some(0),
            _ if small == large => Some(stride),
            _ => None,
        };
        Some(Self {
            columns: large.columns.max(1),
            row_stride: stride(large.rows, small.rows, small.columns)?,
            column_stride: stride(large.columns, small.columns, 1)?,
        })
    }

    /// Where the element for position `i` of the larger operand stands.
    pub(super) fn at(&self, i: usize) -> usize {
        i / self.columns * self.row_stride + i % self.columns * self.column_stride
    }
}

impl<'t> Node<'t> {
    /// Elementwise product; `other` may be a column, a row or a single value.
    pub(crate) fn times(self, other: Self) -> Self {
        self.binary(Hadamard, other)
    }
}
