//! Values from chosen places.

use super::{Backward, Matrix, Rule, Shape};
use crate::expression::Node;

/// The elements of X at the positions that a constant matrix names, in its shape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gather;

impl Rule for Gather {
    fn shape(&self, [_, positions]: [Shape; 2]) -> Option<Shape> {
        Some(positions)
    }

    fn forward(&self, [x, positions]: [Matrix<'_>; 2], y: &mut [f64], _: &mut [f64]) {
        for (y, from) in y.iter_mut().zip(positions.data) {
            *y = x.data.get(*from as usize).copied().unwrap_or(0.0);
        }
    }

    fn backward(&self, which: usize, Backward { x, dy, .. }: Backward<'_>, dx: &mut [f64]) {
        if which != 0 {
            return;
        }
        for (dy, from) in dy.data.iter().zip(x[1].data) {
            if let Some(dx) = dx.get_mut(*from as usize) {
                *dx += dy;
            }
        }
    }
}

impl<'t> Node<'t> {
    /// The elements at `positions`, in its shape.
    pub(crate) fn gather(self, positions: Self) -> Self {
        self.binary(Gather, positions)
    }
}
