//! A value without a gradient.

use super::{Backward, Matrix, Rule, Shape};
use crate::expression::Node;

/// X, taken as a constant on the way back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Detach;

impl Rule for Detach {
    fn shape(&self, [x, _]: [Shape; 2]) -> Option<Shape> {
        Some(x)
    }

    fn differentiable(&self) -> bool {
        false
    }

    fn forward(&self, [x, _]: [Matrix<'_>; 2], y: &mut [f64], _: &mut [f64]) {
        y.copy_from_slice(x.data);
    }

    fn backward(&self, _: usize, _: Backward<'_>, _: &mut [f64]) {}
}

impl<'t> Node<'t> {
    /// The same value, through which no gradient passes.
    pub(crate) fn detach(self) -> Self {
        self.unary(Detach)
    }
}
