//! The inverse Fourier transform.

use super::{Backward, Matrix, Rule, Shape};
use crate::expression::Node;
use ingraft_tensor::arrays::arrays_mut;

/// Real part of the inverse two-dimensional discrete Fourier transform of real coefficients.
///
/// `Y_mn = 1/(MN)·Σ X_pq·cos 2π(pm/M + qn/N)`: symmetric in (m, n) and (p, q), so the
/// gradient goes back through the same transform.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fourier;

type Complex = [f64; 2];

impl Rule for Fourier {
    fn shape(&self, [x, _]: [Shape; 2]) -> Option<Shape> {
        (x.len() != 0).then_some(x)
    }

    /// The complex values; roots of unity of either length; a line before and after its transform, and one factor.
    fn memory(&self, [x, _]: [Shape; 2]) -> usize {
        2 * (x.len() + x.rows + x.columns + 3 * x.rows.max(x.columns))
    }

    fn forward(&self, [x, _]: [Matrix<'_>; 2], y: &mut [f64], memory: &mut [f64]) {
        let (memory, _) = arrays_mut(memory);
        transform(x, memory, |i, value| y[i] = value);
    }

    fn backward(&self, _: usize, pass: Backward<'_>, dx: &mut [f64]) {
        let (memory, _) = arrays_mut(pass.memory);
        transform(pass.dy, memory, |i, value| dx[i] += value);
    }
}

/// Rows, then columns; calls `put(position, value)`.
fn transform(x: Matrix<'_>, memory: &mut [Complex], mut put: impl FnMut(usize, f64)) {
    let Shape { rows, columns } = x.shape;
    let (grid, rest) = memory.split_at_mut(x.data.len());
    let (row_roots, rest) = rest.split_at_mut(columns);
    let (column_roots, rest) = rest.split_at_mut(rows);
    let (line, rest) = rest.split_at_mut(rows.max(columns));
    let (out, factor) = rest.split_at_mut(rows.max(columns));
    [&mut *row_roots, &mut *column_roots].into_iter().for_each(roots);
    for (values, grid) in x.rows().zip(grid.chunks_exact_mut(columns)) {
        line.iter_mut().zip(values).for_each(|(to, value)| *to = [*value, 0.0]);
        dft(Line { values: line, first: 0, stride: 1 }, row_roots, grid, factor);
    }
    let scale = 1.0 / x.data.len() as f64;
    for column in 0..columns {
        (0..rows).for_each(|row| line[row] = grid[row * columns + column]);
        dft(Line { values: line, first: 0, stride: 1 }, column_roots, &mut out[..rows], factor);
        (0..rows).for_each(|row| put(row * columns + column, out[row][0] * scale));
    }
}

/// The n-th roots of unity, n being the number of places.
fn roots(table: &mut [Complex]) {
    let n = table.len() as f64;
    for (i, root) in table.iter_mut().enumerate() {
        let angle = 2.0 * core::f64::consts::PI * i as f64 / n;
        *root = [libm::cos(angle), libm::sin(angle)];
    }
}

/// Every `stride`-th value from `first` on.
#[derive(Clone, Copy)]
struct Line<'l> {
    values: &'l [Complex],
    first: usize,
    stride: usize,
}

/// `out_k = Σ x_j·e^{2πi·jk/n}` for any n, by its prime factors (Cooley & Tukey, 1965).
fn dft(x: Line<'_>, roots: &[Complex], out: &mut [Complex], factor: &mut [Complex]) {
    let n = out.len();
    let p = (2..).take_while(|p| p * p <= n).find(|p| n.is_multiple_of(*p)).unwrap_or(n);
    if n <= 1 {
        out.iter_mut().for_each(|out| *out = x.values[x.first]);
        return;
    }
    let (m, step) = (n / p, roots.len() / n);
    for (q, out) in out.chunks_exact_mut(m).enumerate() {
        let part = Line { first: x.first + q * x.stride, stride: x.stride * p, ..x };
        dft(part, roots, out, factor);
    }
    for k in 0..m {
        for (q, value) in factor.iter_mut().take(p).enumerate() {
            *value = product(out[q * m + k], roots[q * k * step % roots.len()]);
        }
        for j in 0..p {
            let terms = factor.iter().take(p).enumerate();
            out[k + j * m] = terms.fold([0.0; 2], |[re, im], (q, value)| {
                let [a, b] = product(*value, roots[j * q % p * m * step]);
                [re + a, im + b]
            });
        }
    }
}

fn product([a, b]: Complex, [c, d]: Complex) -> Complex {
    [a * c - b * d, a * d + b * c]
}

impl<'t> Node<'t> {
    /// The real part of the inverse two-dimensional Fourier transform.
    pub(crate) fn inverse_fourier(self) -> Self {
        self.unary(Fourier)
    }
}
