//! Matrices above and beside each other.

use super::{Backward, Matrix, Rule, Shape, axpy};
use crate::expression::Node;

/// X above Y.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stack;

impl Rule for Stack {
    fn shape(&self, [x, y]: [Shape; 2]) -> Option<Shape> {
        let rows = x.rows.checked_add(y.rows)?;
        (x.columns == y.columns).then(|| Shape::new(rows, x.columns))
    }

    fn forward(&self, [a, b]: [Matrix<'_>; 2], y: &mut [f64], _: &mut [f64]) {
        let (top, bottom) = y.split_at_mut(a.data.len());
        top.copy_from_slice(a.data);
        bottom.copy_from_slice(b.data);
    }

    fn backward(&self, which: usize, Backward { x, dy, .. }: Backward<'_>, dx: &mut [f64]) {
        let (top, bottom) = dy.data.split_at(x[0].data.len());
        axpy(1.0, if which == 0 { top } else { bottom }, dx);
    }
}

impl<'t> Node<'t> {
    /// This matrix above `other`.
    pub(crate) fn above(self, other: Self) -> Self {
        self.binary(Stack, other)
    }

    /// This matrix left of `other`.
    pub(crate) fn beside(self, other: Self) -> Self {
        self.transpose().above(other.transpose()).transpose()
    }
}
