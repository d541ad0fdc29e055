//! Orthonormal columns with the span of given ones.

use super::{Backward, Matrix, Rule, Shape, axpy, dot};
use crate::expression::Node;

/// Q of `X = Q·R`, by Householder reflections, with the signs that LAPACK gives. X has at least as many rows as
/// columns; columns that depend on those before them have no slope.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Orthonormalize;

impl Rule for Orthonormalize {
    fn shape(&self, [x, _]: [Shape; 2]) -> Option<Shape> {
        (x.rows >= x.columns).then_some(x)
    }

    /// Columns of X as rows, which become reflections and R; columns of Q as rows; and two squares.
    fn memory(&self, [x, _]: [Shape; 2]) -> usize {
        2 * x.len() + 2 * x.columns * x.columns
    }

    fn forward(&self, [x, _]: [Matrix<'_>; 2], y: &mut [f64], memory: &mut [f64]) {
        let Shape { rows, columns } = x.shape;
        let (work, rest) = memory.split_at_mut(x.data.len());
        let (q, rest) = rest.split_at_mut(x.data.len());
        let (r, _) = rest.split_at_mut(columns * columns);
        x.data.iter().enumerate().for_each(|(i, v)| work[i % columns * rows + i / columns] = *v);
        r.fill(0.0);
        for k in 0..columns {
            let (done, left) = work.split_at_mut((k + 1) * rows);
            let own = &mut done[k * rows..];
            (0..k).for_each(|j| r[j * columns + k] = own[j]);
            r[k * columns + k] = reflection(&mut own[k..]);
            left.chunks_exact_mut(rows).for_each(|column| reflect(&own[k..], &mut column[k..]));
        }
        q.fill(0.0);
        for (k, column) in q.chunks_exact_mut(rows.max(1)).enumerate() {
            column[k] = 1.0;
            (0..=k).rev().for_each(|j| reflect(&work[j * rows + j..(j + 1) * rows], &mut column[j..]));
        }
        y.iter_mut().enumerate().for_each(|(i, y)| *y = q[i % columns * rows + i / columns]);
    }

    /// `dX = (dQ + Q·S)·R⁻ᵀ`, S the lower triangle of `−dQᵀ·Q` and its mirror image.
    fn backward(&self, _: usize, Backward { x: [x, _], dy, memory, .. }: Backward<'_>, dx: &mut [f64]) {
        let Shape { rows, columns } = x.shape;
        let (work, rest) = memory.split_at_mut(x.data.len());
        let (q, rest) = rest.split_at_mut(x.data.len());
        let (r, s) = rest.split_at_mut(columns * columns);
        dy.data.iter().enumerate().for_each(|(i, v)| work[i % columns * rows + i / columns] = *v);
        let column = |k: usize| k * rows..(k + 1) * rows;
        for (i, s) in s.iter_mut().enumerate() {
            let (low, high) = ((i / columns).max(i % columns), (i / columns).min(i % columns));
            *s = -dot(&work[column(low)], &q[column(high)]);
        }
        for k in 0..columns {
            let to = column(k);
            (0..columns).for_each(|j| axpy(s[j * columns + k], &q[column(j)], &mut work[to.clone()]));
        }
        // Rows of the result solve z·Rᵀ = w, from the last column back.
        for k in (0..columns).rev() {
            let (before, own) = work.split_at_mut(k * rows);
            let pivot = r[k * columns + k];
            let inverse = if pivot == 0.0 { 0.0 } else { 1.0 / pivot };
            own[..rows].iter_mut().for_each(|v| *v *= inverse);
            for (j, column) in before.chunks_exact_mut(rows.max(1)).enumerate() {
                axpy(-r[j * columns + k], &own[..rows], column);
            }
        }
        dx.iter_mut().enumerate().for_each(|(i, dx)| *dx += work[i % columns * rows + i / columns]);
    }
}

/// Turns `x` into the unit normal of the reflection that takes it to `[value, 0, …]`; gives the value.
///
/// A vector of one is taken as it is, as LAPACK does.
fn reflection(x: &mut [f64]) -> f64 {
    let (length, Some(first)) = (libm::sqrt(dot(x, x)), x.first().copied()) else { return 0.0 };
    if x.len() == 1 || length == 0.0 {
        x.fill(0.0);
        return first;
    }
    let value = if first >= 0.0 { -length } else { length };
    x[0] -= value;
    let norm = libm::sqrt(dot(x, x));
    x.iter_mut().for_each(|v| *v /= norm);
    value
}

/// Reflects `x`.
fn reflect(normal: &[f64], x: &mut [f64]) {
    axpy(-2.0 * dot(normal, x), normal, x);
}

impl<'t> Node<'t> {
    /// Orthonormal columns of the same span: Q of `Q·R`.
    pub(crate) fn orthonormal(self) -> Self {
        self.unary(Orthonormalize)
    }
}
