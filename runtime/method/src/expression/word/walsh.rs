//! The Walsh-Hadamard transform.

use super::{Backward, Matrix, Rule, Shape};
use crate::expression::Node;

/// `X·H` for the Hadamard matrix H of ±1 in Sylvester's order; X has a power of two of columns.
///
/// H is symmetric, so the gradient goes back through the same transform.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walsh;

/// Transforms one row in place, by sums and differences of halves.
fn transform(row: &mut [f64]) {
    let mut half = 1;
    while half < row.len() {
        for pair in row.chunks_exact_mut(2 * half) {
            let (left, right) = pair.split_at_mut(half);
            left.iter_mut().zip(right).for_each(|(a, b)| (*a, *b) = (*a + *b, *a - *b));
        }
        half *= 2;
    }
}

impl Rule for Walsh {
    fn shape(&self, [x, _]: [Shape; 2]) -> Option<Shape> {
        x.columns.is_power_of_two().then_some(x)
    }

    /// One row.
    fn memory(&self, [x, _]: [Shape; 2]) -> usize {
        x.columns
    }

    fn forward(&self, [x, _]: [Matrix<'_>; 2], y: &mut [f64], _: &mut [f64]) {
        y.copy_from_slice(x.data);
        y.chunks_exact_mut(x.shape.columns).for_each(transform);
    }

    fn backward(&self, _: usize, Backward { dy, memory, .. }: Backward<'_>, dx: &mut [f64]) {
        for (dy, dx) in dy.rows().zip(dx.chunks_exact_mut(dy.shape.columns)) {
            memory.copy_from_slice(dy);
            transform(memory);
            dx.iter_mut().zip(&*memory).for_each(|(dx, value)| *dx += value);
        }
    }
}

impl<'t> Node<'t> {
    /// The Walsh-Hadamard transform of every row, without a factor.
    pub(crate) fn walsh_hadamard(self) -> Self {
        self.unary(Walsh)
    }
}
