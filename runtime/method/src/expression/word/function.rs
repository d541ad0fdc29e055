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
    /// x within limits; what is beyond them has no gradient.
    Clamp(f64, f64),
    /// The cosine.
    Cosine,
    /// The sine.
    Sine,
    /// The nearest whole number, half to even; no gradient passes.
    Round,
}

impl Rule for Function {
    fn shape(&self, [x, _]: [Shape; 2]) -> Option<Shape> {
        Some(x)
    }

    fn differentiable(&self) -> bool {
        !matches!(self, Self::Round)
    }

    fn forward(&self, [x, _]: [Matrix<'_>; 2], y: &mut [f64], _: &mut [f64]) {
        let value = |x: f64| match self {
            Self::Reciprocal if x == 0.0 => 0.0,
            Self::Reciprocal => 1.0 / x,
            Self::SquareRoot => libm::sqrt(x.max(0.0)),
            Self::Sigmoid => 1.0 / (1.0 + libm::exp(-x)),
            Self::AtLeast(limit) => x.max(*limit),
            Self::Clamp(low, high) => x.max(*low).min(*high),
            Self::Cosine => libm::cos(x),
            Self::Sine => libm::sin(x),
            Self::Round => libm::rint(x),
        };
        y.iter_mut().zip(x.data).for_each(|(y, x)| *y = value(*x));
    }

    fn backward(&self, _: usize, pass: Backward<'_>, dx: &mut [f64]) {
        let slope = |x: f64, y: f64| match self {
            Self::Reciprocal => -y * y,
            Self::SquareRoot if y == 0.0 => 0.0,
            Self::SquareRoot => 0.5 / y,
            Self::Sigmoid => y * (1.0 - y),
            Self::AtLeast(limit) => f64::from(u8::from(y > *limit)),
            Self::Clamp(low, high) => f64::from(u8::from(*low <= x && x <= *high)),
            Self::Cosine => -libm::sin(x),
            Self::Sine => libm::cos(x),
            Self::Round => 0.0,
        };
        let slopes =
            pass.x[0].data.iter().zip(pass.y).zip(pass.dy.data).map(|((x, y), dy)| slope(*x, *y) * dy);
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

    /// Every element, or the nearer of the limits where it is beyond them.
    pub(crate) fn clamp(self, low: f64, high: f64) -> Self {
        self.unary(Function::Clamp(low, high))
    }

    /// The cosine of every element.
    pub(crate) fn cosine(self) -> Self {
        self.unary(Function::Cosine)
    }

    /// The sine of every element.
    pub(crate) fn sine(self) -> Self {
        self.unary(Function::Sine)
    }

    /// The nearest whole numbers; the gradient passes as if they were the elements themselves (Bengio, Léonard &
    /// Courville, 2013).
    pub(crate) fn straight_through_round(self) -> Self {
        self + (self.unary(Function::Round) - self).detach()
    }

    /// The same value, whose gradient counts `factor` times.
    pub(crate) fn scale_gradient(self, factor: f64) -> Self {
        self * factor + (self * (1.0 - factor)).detach()
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
