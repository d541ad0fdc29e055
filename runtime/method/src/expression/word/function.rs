//! Functions of single elements.

use super::{Backward, Matrix, Rule, Shape};
use crate::expression::Node;

/// A function of every element.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Function {
    /// 1/x; 0 where x is 0, so that a direction that is not there has no length.
    Reciprocal,
    /// √x of what is not negative, with no gradient at 0.
    SquareRoot,
    /// 1/(1 + e⁻ˣ).
    Sigmoid,
    /// The larger of x and a limit, which has no gradient.
    AtLeast(f64),
}

impl Rule for Function {
    fn shape(&self, [x, _]: [Shape; 2]) -> Option<Shape> {
        Some(x)
    }

    fn forward(&self, [x, _]: [Matrix<'_>; 2], y: &mut [f64], _: &mut [f64]) {
        let value = |x: f64| match self {
            Self::Reciprocal if x == 0.0 => 0.0,
            Self::Reciprocal => 1.0 / x,
            Self::SquareRoot => libm::sqrt(x.max(0.0)),
            Self::Sigmoid => 1.0 / (1.0 + libm::exp(-x)),
            Self::AtLeast(limit) => x.max(*limit),
        };
        y.iter_mut().zip(x.data).for_each(|(y, x)| *y = value(*x));
    }

    fn backward(&self, _: usize, pass: Backward<'_>, dx: &mut [f64]) {
        let slope = |y: f64| match self {
            Self::Reciprocal => -y * y,
            Self::SquareRoot if y == 0.0 => 0.0,
            Self::SquareRoot => 0.5 / y,
            Self::Sigmoid => y * (1.0 - y),
            Self::AtLeast(limit) => f64::from(u8::from(y > *limit)),
        };
        let slopes = pass.y.iter().zip(pass.dy.data).map(|(y, dy)| slope(*y) * dy);
        dx.iter_mut().zip(slopes).for_each(|(dx, slope)| *dx += slope);
    }
}

impl<'t> Node<'t> {
    /// One over every element; 0 for 0.
    pub(crate) fn reciprocal(self) -> Self {
        self.unary(Function::Reciprocal)
    }

    /// Every element, or `limit` where that is larger.
    pub(crate) fn at_least(self, limit: f64) -> Self {
        self.unary(Function::AtLeast(limit))
    }

    /// The square root of every element.
    pub(crate) fn square_root(self) -> Self {
        self.unary(Function::SquareRoot)
    }

    /// The logistic function of every element.
    pub(crate) fn sigmoid(self) -> Self {
        self.unary(Function::Sigmoid)
    }
}
