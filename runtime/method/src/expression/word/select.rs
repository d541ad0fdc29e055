//! Rows in another order.

use super::{Backward, Matrix, Rule, Shape, axpy};
use crate::expression::Node;

/// The rows of X that a constant matrix names, in its order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Select;

impl Rule for Select {
    fn shape(&self, [x, rows]: [Shape; 2]) -> Option<Shape> {
        Some(Shape::new(rows.len(), x.columns))
    }

    fn forward(&self, [x, rows]: [Matrix<'_>; 2], y: &mut [f64], _: &mut [f64]) {
        let columns = x.shape.columns.max(1);
        for (y, row) in y.chunks_exact_mut(columns).zip(rows.data) {
            axpy(1.0, x.row(*row as usize), y);
        }
    }

    fn backward(&self, which: usize, Backward { x, dy, .. }: Backward<'_>, dx: &mut [f64]) {
        if which != 0 {
            return;
        }
        let columns = dy.shape.columns.max(1);
        for (dy, row) in dy.rows().zip(x[1].data) {
            let first = *row as usize * columns;
            axpy(1.0, dy, &mut dx[first..first + columns]);
        }
    }
}

impl<'t> Node<'t> {
    /// The rows that `rows` names, in its order.
    pub(crate) fn rows_at(self, rows: Self) -> Self {
        self.binary(Select, rows)
    }
}
