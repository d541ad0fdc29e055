//! Softmax of rows.

use super::{Backward, Matrix, Rule, Shape, dot};
use crate::expression::Node;

/// The softmax of every row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Softmax;

impl Rule for Softmax {
    fn shape(&self, [x, _]: [Shape; 2]) -> Option<Shape> {
        Some(x)
    }

    fn forward(&self, [x, _]: [Matrix<'_>; 2], y: &mut [f64], _: &mut [f64]) {
        for (x, y) in x.rows().zip(y.chunks_exact_mut(x.shape.columns.max(1))) {
            let largest = x.iter().fold(f64::NEG_INFINITY, |largest, v| largest.max(*v));
            y.iter_mut().zip(x).for_each(|(y, x)| *y = libm::exp(x - largest));
            let sum: f64 = y.iter().sum();
            y.iter_mut().for_each(|y| *y /= sum);
        }
    }

    /// `dx = y ⊙ (dy − ⟨dy, y⟩)`.
    fn backward(&self, _: usize, Backward { dy, y, .. }: Backward<'_>, dx: &mut [f64]) {
        let columns = dy.shape.columns.max(1);
        for ((dy, y), dx) in dy.rows().zip(y.chunks_exact(columns)).zip(dx.chunks_exact_mut(columns)) {
            let mean = dot(dy, y);
            dx.iter_mut().zip(dy.iter().zip(y)).for_each(|(dx, (dy, y))| *dx += y * (dy - mean));
        }
    }
}

impl<'t> Node<'t> {
    /// The softmax of every row.
    pub(crate) fn softmax(self) -> Self {
        self.unary(Softmax)
    }
}
