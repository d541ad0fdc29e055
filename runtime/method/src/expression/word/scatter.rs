//! Values at chosen places.

use super::{Backward, Matrix, Rule, Shape};
use crate::expression::Node;

/// A matrix of zeros with the elements of X added at the positions that a constant matrix names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scatter(Shape);

impl Rule for Scatter {
    fn shape(&self, [x, positions]: [Shape; 2]) -> Option<Shape> {
        (x.len() == positions.len()).then_some(self.0)
    }

    fn forward(&self, [x, positions]: [Matrix<'_>; 2], y: &mut [f64], _: &mut [f64]) {
        for (x, to) in x.data.iter().zip(positions.data) {
            if let Some(y) = y.get_mut(*to as usize) {
                *y += x;
            }
        }
    }

    fn backward(&self, which: usize, Backward { x, dy, .. }: Backward<'_>, dx: &mut [f64]) {
        if which != 0 {
            return;
        }
        for (dx, to) in dx.iter_mut().zip(x[1].data) {
            *dx += dy.data.get(*to as usize).copied().unwrap_or(0.0);
        }
    }
}

impl<'t> Node<'t> {
    /// The elements at `positions` of a matrix of `rows` by `columns`, zero elsewhere; equal positions add.
    pub(crate) fn scatter(self, positions: Self, rows: usize, columns: usize) -> Self {
        self.binary(Scatter(Shape::new(rows, columns)), positions)
    }
}
