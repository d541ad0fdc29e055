//! Dimensions in another order.

use super::{Backward, Matrix, Rule, Shape};
use crate::expression::Node;

/// The values of X seen as an array of four dimensions, these in another order, then as rows of some length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Permute {
    dimensions: [u32; 4],
    order: [u8; 4],
    columns: u32,
}

impl Permute {
    /// Calls `visit(position in X, position in the value)`.
    fn for_each(&self, mut visit: impl FnMut(usize, usize)) {
        let [a, b, c, d] = self.dimensions.map(|n| n as usize);
        let strides = [b * c * d, c * d, d, 1];
        let pick = |of: [usize; 4]| self.order.map(|from| of.get(usize::from(from)).copied().unwrap_or(0));
        let ([a, b, c, d], strides) = (pick([a, b, c, d]), pick(strides));
        let mut to = 0;
        for i in 0..a {
            for j in 0..b {
                for k in 0..c {
                    for l in 0..d {
                        visit(i * strides[0] + j * strides[1] + k * strides[2] + l * strides[3], to);
                        to += 1;
                    }
                }
            }
        }
    }
}

impl Rule for Permute {
    fn shape(&self, [x, _]: [Shape; 2]) -> Option<Shape> {
        let len = self.dimensions.iter().try_fold(1usize, |len, n| len.checked_mul(*n as usize))?;
        let columns = self.columns as usize;
        let whole = len == x.len() && columns != 0 && len.is_multiple_of(columns);
        whole.then(|| Shape::new(len / columns, columns))
    }

    fn forward(&self, [x, _]: [Matrix<'_>; 2], y: &mut [f64], _: &mut [f64]) {
        self.for_each(|from, to| y[to] = x.data[from]);
    }

    fn backward(&self, _: usize, pass: Backward<'_>, dx: &mut [f64]) {
        self.for_each(|from, to| dx[from] += pass.dy.data[to]);
    }
}

impl<'t> Node<'t> {
    /// The values as an array of `dimensions`, dimension `order[k]` of which becomes the k-th, in rows of `columns`.
    pub(crate) fn permute(self, dimensions: [usize; 4], order: [u8; 4], columns: usize) -> Self {
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        self.unary(Permute { dimensions: dimensions.map(narrow), order, columns: narrow(columns) })
    }
}
