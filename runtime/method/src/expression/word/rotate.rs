//! Rotations of pairs, as of qubits about their Y axis.

use super::{Backward, Matrix, Rule, Shape};
use crate::expression::Node;

/// `(RY_m ⋯ RY_1)·X`: angle k turns qubit `first + k` by `[[cos θ/2, −sin θ/2], [sin θ/2, cos θ/2]]`.
///
/// X has 2^q rows, counted by q qubits, the first the most significant; angles are a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rotate {
    first: u32,
}

impl Rotate {
    /// How far the rows of a pair of qubit `first + k` stand apart.
    fn stride(&self, rows: usize, k: usize) -> usize {
        rows >> (self.first as usize + k + 1)
    }
}

/// Calls `visit(first row of the pair, second row)` for all pairs `stride` apart.
fn pairs(rows: usize, stride: usize, mut visit: impl FnMut(usize, usize)) {
    for start in (0..rows).step_by((2 * stride).max(1)) {
        (start..start + stride).for_each(|row| visit(row, row + stride));
    }
}

/// Turns the pairs of rows of `x` by `angle`/2.
fn turn(x: &mut [f64], columns: usize, stride: usize, angle: f64) {
    let (c, s) = (libm::cos(angle / 2.0), libm::sin(angle / 2.0));
    pairs(x.len() / columns.max(1), stride, |top, bottom| {
        let (before, after) = x.split_at_mut(bottom * columns);
        for (a, b) in before[top * columns..(top + 1) * columns].iter_mut().zip(after) {
            (*a, *b) = (c * *a - s * *b, s * *a + c * *b);
        }
    });
}

impl Rule for Rotate {
    fn shape(&self, [x, angles]: [Shape; 2]) -> Option<Shape> {
        let qubits = x.rows.is_power_of_two().then(|| x.rows.trailing_zeros() as usize)?;
        (angles.rows == 1 && self.first as usize + angles.columns <= qubits).then_some(x)
    }

    /// The value and its gradient, taken back rotation by rotation.
    fn memory(&self, [x, _]: [Shape; 2]) -> usize {
        2 * x.len()
    }

    fn forward(&self, [x, angles]: [Matrix<'_>; 2], y: &mut [f64], _: &mut [f64]) {
        y.copy_from_slice(x.data);
        for (k, angle) in angles.data.iter().enumerate() {
            turn(y, x.shape.columns, self.stride(x.shape.rows, k), *angle);
        }
    }

    /// A rotation is undone by its negative: no value between needs to be kept.
    fn backward(&self, which: usize, pass: Backward<'_>, dx: &mut [f64]) {
        let Backward { x: [x, angles], dy, y, memory } = pass;
        let Shape { rows, columns } = x.shape;
        let (value, gradient) = memory.split_at_mut(y.len());
        value.copy_from_slice(y);
        gradient.copy_from_slice(dy.data);
        for (k, angle) in angles.data.iter().enumerate().rev() {
            let stride = self.stride(rows, k);
            if which == 1 {
                // The value turned a quarter further is twice its slope.
                pairs(rows, stride, |top, bottom| {
                    let (top, bottom) = (top * columns, bottom * columns);
                    let along = |c: usize| {
                        gradient[bottom + c] * value[top + c] - gradient[top + c] * value[bottom + c]
                    };
                    dx[k] += 0.5 * (0..columns).map(along).sum::<f64>();
                });
            }
            turn(value, columns, stride, -angle);
            turn(gradient, columns, stride, -angle);
        }
        if which == 0 {
            dx.iter_mut().zip(&*gradient).for_each(|(dx, g)| *dx += g);
        }
    }
}

impl<'t> Node<'t> {
    /// Rows, counted by qubits, turned about the Y axis: angle k of the row `angles` turns qubit `first + k`.
    pub(crate) fn rotate_qubits(self, first: usize, angles: Self) -> Self {
        self.binary(Rotate { first: first as u32 }, angles)
    }
}
