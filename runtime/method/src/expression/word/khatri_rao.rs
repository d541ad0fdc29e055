//! Row-wise Kronecker product.

use super::{Backward, Matrix, Rule, Shape};
use crate::expression::Node;

/// The row-wise Kronecker product: row i of the value is `X_i ⊗ Y_i`, `[m, p]` and `[m, q]` to `[m, p·q]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KhatriRao;

/// Calls `visit(position in X, position in Y, position in the value)`.
fn for_each([x, y]: [Shape; 2], mut visit: impl FnMut(usize, usize, usize)) {
    for row in 0..x.rows {
        for i in 0..x.columns {
            for j in 0..y.columns {
                visit(row * x.columns + i, row * y.columns + j, (row * x.columns + i) * y.columns + j);
            }
        }
    }
}

impl Rule for KhatriRao {
    fn shape(&self, [x, y]: [Shape; 2]) -> Option<Shape> {
        let columns = x.columns.checked_mul(y.columns)?;
        (x.rows == y.rows).then(|| Shape::new(x.rows, columns))
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
    /// The Kronecker product of every row with the same row of `right`.
    pub(crate) fn khatri_rao(self, right: Self) -> Self {
        self.binary(KhatriRao, right)
    }
}
