//! Matrix product, in blocks or whole.

use super::{Backward, Matrix, Rule, Shape, axpy, dot};
use crate::expression::Node;

/// `X·Y`, or the products of equal blocks of rows: `[g·m, k]` by `[g·k, n]` is `[g·m, n]`.
///
/// With blocks, diag(X₁…X_g) times Y stacked by rows, without the zeros.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MatMul {
    blocks: usize,
}

impl MatMul {
    /// For each row of X, the row of Y that its first element multiplies.
    fn first(&self, x: [Matrix<'_>; 2], row: usize) -> usize {
        let per_block = (x[0].shape.rows / self.blocks.max(1)).max(1);
        row / per_block * x[0].shape.columns
    }
}

impl Rule for MatMul {
    fn shape(&self, [x, y]: [Shape; 2]) -> Option<Shape> {
        let whole = self.blocks != 0 && x.rows.is_multiple_of(self.blocks);
        (whole && x.columns.checked_mul(self.blocks)? == y.rows).then(|| Shape::new(x.rows, y.columns))
    }

    fn forward(&self, x: [Matrix<'_>; 2], y: &mut [f64], _: &mut [f64]) {
        for (row, (left, y)) in x[0].rows().zip(y.chunks_exact_mut(x[1].shape.columns.max(1))).enumerate() {
            let first = self.first(x, row);
            left.iter().enumerate().for_each(|(k, value)| axpy(*value, x[1].row(first + k), y));
        }
    }

    fn backward(&self, which: usize, Backward { x, dy, .. }: Backward<'_>, dx: &mut [f64]) {
        let columns = x[which].shape.columns.max(1);
        for (row, (left, dy)) in x[0].rows().zip(dy.rows()).enumerate() {
            let first = self.first(x, row);
            for (k, value) in left.iter().enumerate() {
                match which {
                    0 => dx[row * columns + k] += dot(dy, x[1].row(first + k)),
                    _ => axpy(*value, dy, &mut dx[(first + k) * columns..(first + k + 1) * columns]),
                }
            }
        }
    }
}

impl<'t> Node<'t> {
    /// The matrix product.
    pub(crate) fn matmul(self, right: Self) -> Self {
        self.binary(MatMul { blocks: 1 }, right)
    }

    /// diag(X₁…X_g)·Y, where the square or other equal blocks X₁…X_g stand one below the other in `self`.
    pub(crate) fn block_matmul(self, blocks: usize, right: Self) -> Self {
        self.binary(MatMul { blocks }, right)
    }
}
