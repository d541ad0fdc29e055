//! Elementwise sum.

use super::{Backward, Matrix, Rule, Shape};
use crate::expression::Node;
use crate::expression::word::hadamard::Spread;

/// `X + Y`; Y may be a column, a row or a single value, repeated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Add;

impl Rule for Add {
    fn shape(&self, [x, y]: [Shape; 2]) -> Option<Shape> {
        Spread::new(x, y).map(|_| x)
    }

    fn forward(&self, [a, b]: [Matrix<'_>; 2], y: &mut [f64], _: &mut [f64]) {
        let Some(spread) = Spread::new(a.shape, b.shape) else { return };
        y.iter_mut().zip(a.data).enumerate().for_each(|(i, (y, a))| *y = a + b.data[spread.at(i)]);
    }

    fn backward(&self, which: usize, pass: Backward<'_>, dx: &mut [f64]) {
        let Some(spread) = Spread::new(pass.x[0].shape, pass.x[1].shape) else { return };
        for (i, dy) in pass.dy.data.iter().enumerate() {
            dx[if which == 0 { i } else { spread.at(i) }] += dy;
        }
    }
}

impl<'t> core::ops::Add for Node<'t> {
    type Output = Self;

    /// Elementwise sum; the right side may be a column, a row or a single value.
    fn add(self, other: Self) -> Self {
        self.binary(Add, other)
    }
}

impl<'t> core::ops::Sub for Node<'t> {
    type Output = Self;

    /// Elementwise difference; the right side may be a column, a row or a single value.
    fn sub(self, other: Self) -> Self {
        self + other * -1.0
    }
}
