//! The transpose, in blocks or whole.

use super::{Backward, Matrix, Rule, Shape};
use crate::expression::Node;

/// `Xᵀ`, or the transposes of equal blocks of rows: `[g·m, n]` is `[g·n, m]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transpose {
    blocks: usize,
}

impl Transpose {
    /// Calls `visit(position in X, position in the value)`.
    fn for_each(&self, x: Shape, mut visit: impl FnMut(usize, usize)) {
        let (m, n) = (x.rows / self.blocks.max(1), x.columns);
        for i in 0..x.len() {
            let (row, column) = (i / n.max(1), i % n.max(1));
            let (block, row) = (row / m.max(1), row % m.max(1));
            visit(i, (block * n + column) * m + row);
        }
    }
}

impl Rule for Transpose {
    fn shape(&self, [x, _]: [Shape; 2]) -> Option<Shape> {
        let rows = x.columns.checked_mul(self.blocks)?;
        (self.blocks != 0 && x.rows.is_multiple_of(self.blocks))
            .then(|| Shape::new(rows, x.rows / self.blocks))
    }

    fn forward(&self, [x, _]: [Matrix<'_>; 2], y: &mut [f64], _: &mut [f64]) {
        self.for_each(x.shape, |from, to| y[to] = x.data[from]);
    }

    fn backward(&self, _: usize, pass: Backward<'_>, dx: &mut [f64]) {
        self.for_each(pass.x[0].shape, |from, to| dx[from] += pass.dy.data[to]);
    }
}

impl<'t> Node<'t> {
    /// The transpose.
    pub(crate) fn transpose(self) -> Self {
        self.unary(Transpose { blocks: 1 })
    }

    /// The transposes of blocks that stand one below the other.
    pub(crate) fn block_transpose(self, blocks: usize) -> Self {
        self.unary(Transpose { blocks })
    }
}
