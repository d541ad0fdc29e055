//! The Cayley transform.

use super::{Backward, Matrix, Rule, Shape, axpy, dot};
use crate::expression::Node;

/// `(I − Q)(I + Q)⁻¹` of every b × b block of `[g·b, b]`: a rotation when Q is skew-symmetric.
///
/// Computed as `2M − I` with `M = (I + Q)⁻¹`, which exists for every skew Q.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cayley;

impl Rule for Cayley {
    fn shape(&self, [q, _]: [Shape; 2]) -> Option<Shape> {
        (q.columns != 0 && q.rows.is_multiple_of(q.columns)).then_some(q)
    }

    /// M of every block, and one block to work in.
    fn memory(&self, [q, _]: [Shape; 2]) -> usize {
        q.len() + q.columns * q.columns
    }

    fn forward(&self, [q, _]: [Matrix<'_>; 2], y: &mut [f64], memory: &mut [f64]) {
        let b = q.shape.columns;
        let (inverses, work) = memory.split_at_mut(q.data.len());
        let blocks = q.data.chunks_exact(b * b).zip(inverses.chunks_exact_mut(b * b));
        for ((q, inverse), y) in blocks.zip(y.chunks_exact_mut(b * b)) {
            work.copy_from_slice(q);
            (0..b).for_each(|i| work[i * b + i] += 1.0);
            invert(b, work, inverse);
            y.iter_mut().zip(&*inverse).for_each(|(y, m)| *y = 2.0 * m);
            (0..b).for_each(|i| y[i * b + i] -= 1.0);
        }
    }

    /// `dQ = −2·Mᵀ·dY·Mᵀ`.
    fn backward(&self, _: usize, Backward { x: [q, _], dy, memory, .. }: Backward<'_>, dx: &mut [f64]) {
        let b = q.shape.columns;
        let (inverses, work) = memory.split_at_mut(q.data.len());
        let blocks = inverses.chunks_exact(b * b).zip(dy.data.chunks_exact(b * b));
        for ((m, dy), dx) in blocks.zip(dx.chunks_exact_mut(b * b)) {
            work.fill(0.0);
            for (m, dy) in m.chunks_exact(b).zip(dy.chunks_exact(b)) {
                m.iter().zip(work.chunks_exact_mut(b)).for_each(|(m, work)| axpy(*m, dy, work));
            }
            for (left, dx) in work.chunks_exact(b).zip(dx.chunks_exact_mut(b)) {
                dx.iter_mut().zip(m.chunks_exact(b)).for_each(|(dx, m)| *dx -= 2.0 * dot(left, m));
            }
        }
    }
}

/// Gauss-Jordan with row pivots; `a` is used up.
fn invert(n: usize, a: &mut [f64], inverse: &mut [f64]) {
    inverse.fill(0.0);
    (0..n).for_each(|i| inverse[i * n + i] = 1.0);
    for column in 0..n {
        let size = |row: &usize| libm::fabs(a[row * n + column]);
        let pivot = (column..n).reduce(|best, row| if size(&row) > size(&best) { row } else { best });
        let pivot = pivot.unwrap_or(column);
        for k in 0..n {
            a.swap(column * n + k, pivot * n + k);
            inverse.swap(column * n + k, pivot * n + k);
        }
        let scale = 1.0 / a[column * n + column];
        for k in 0..n {
            a[column * n + k] *= scale;
            inverse[column * n + k] *= scale;
        }
        for row in (0..n).filter(|row| *row != column) {
            let factor = a[row * n + column];
            for k in 0..n {
                a[row * n + k] -= factor * a[column * n + k];
                inverse[row * n + k] -= factor * inverse[column * n + k];
            }
        }
    }
}

impl<'t> Node<'t> {
    /// The Cayley transform of every square block.
    pub(crate) fn cayley(self) -> Self {
        self.unary(Cayley)
    }
}
