//! Small dense matrices in f64.

/// A matrix, row by row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Matrix {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) data: Vec<f64>,
}

impl Matrix {
    /// `data` in `rows` rows; what is missing is zero.
    pub(crate) fn new(rows: usize, columns: usize, mut data: Vec<f64>) -> Self {
        data.resize(rows * columns, 0.0);
        Self { rows, columns, data }
    }

    pub(crate) fn zeros(rows: usize, columns: usize) -> Self {
        Self::new(rows, columns, Vec::new())
    }

    pub(crate) fn from_fn(rows: usize, columns: usize, value: impl Fn(usize, usize) -> f64) -> Self {
        let data = (0..rows * columns).map(|i| value(i / columns, i % columns)).collect();
        Self { rows, columns, data }
    }

    pub(crate) fn identity(size: usize) -> Self {
        Self::from_fn(size, size, |i, j| f64::from(u8::from(i == j)))
    }

    pub(crate) fn at(&self, row: usize, column: usize) -> f64 {
        self.data[row * self.columns + column]
    }

    pub(crate) fn row(&self, row: usize) -> &[f64] {
        &self.data[row * self.columns..(row + 1) * self.columns]
    }

    pub(crate) fn transpose(&self) -> Self {
        Self::from_fn(self.columns, self.rows, |i, j| self.at(j, i))
    }

    pub(crate) fn matmul(&self, other: &Self) -> Self {
        debug_assert_eq!(self.columns, other.rows);
        let mut product = Self::zeros(self.rows, other.columns);
        for (i, out) in product.data.chunks_mut(other.columns.max(1)).enumerate() {
            for (k, value) in self.row(i).iter().enumerate() {
                out.iter_mut().zip(other.row(k)).for_each(|(to, from)| *to += value * from);
            }
        }
        product
    }

    pub(crate) fn map(mut self, change: impl Fn(f64) -> f64) -> Self {
        self.data.iter_mut().for_each(|value| *value = change(*value));
        self
    }

    pub(crate) fn scaled(self, factor: f64) -> Self {
        self.map(|value| value * factor)
    }

    /// Element by element.
    pub(crate) fn zip(mut self, other: &Self, change: impl Fn(f64, f64) -> f64) -> Self {
        debug_assert_eq!((self.rows, self.columns), (other.rows, other.columns));
        self.data.iter_mut().zip(&other.data).for_each(|(to, from)| *to = change(*to, *from));
        self
    }

    pub(crate) fn plus(self, other: &Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    pub(crate) fn minus(self, other: &Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    /// Row `i` times `factors[i]`.
    pub(crate) fn rows_times(mut self, factors: &[f64]) -> Self {
        for (row, factor) in self.data.chunks_mut(self.columns.max(1)).zip(factors) {
            row.iter_mut().for_each(|value| *value *= factor);
        }
        self
    }

    /// Column `j` times `factors[j]`.
    pub(crate) fn columns_times(mut self, factors: &[f64]) -> Self {
        for row in self.data.chunks_mut(self.columns.max(1)) {
            row.iter_mut().zip(factors).for_each(|(value, factor)| *value *= factor);
        }
        self
    }

    /// Euclidean lengths of the rows.
    pub(crate) fn row_norms(&self) -> Vec<f64> {
        (0..self.rows).map(|i| self.row(i).iter().map(|v| v * v).sum::<f64>().sqrt()).collect()
    }

    /// The Frobenius norm.
    pub(crate) fn norm(&self) -> f64 {
        self.data.iter().map(|v| v * v).sum::<f64>().sqrt()
    }

    /// The Kronecker product; `None` where it has not `rows` and `columns`.
    pub(crate) fn kronecker(&self, other: &Self, rows: usize, columns: usize) -> Option<Self> {
        let found = (self.rows.checked_mul(other.rows)?, self.columns.checked_mul(other.columns)?);
        (found == (rows, columns)).then_some(())?;
        Some(Self::from_fn(rows, columns, |i, j| {
            self.at(i / other.rows, j / other.columns) * other.at(i % other.rows, j % other.columns)
        }))
    }

    /// The product of two factors of a file; `None` where their extents do not fit, or where it is more than `most` rows and
    /// columns.
    pub(crate) fn product(&self, other: &Self, most: (usize, usize)) -> Option<Self> {
        let fits = self.columns == other.rows && self.rows <= most.0 && other.columns <= most.1;
        fits.then(|| self.matmul(other))
    }

    /// Rows of `self` over rows of `other`.
    pub(crate) fn above(&self, other: &Self) -> Self {
        let data = self.data.iter().chain(&other.data).copied().collect();
        Self { rows: self.rows + other.rows, columns: self.columns, data }
    }

    /// Columns of `self` before columns of `other`.
    pub(crate) fn beside(&self, other: &Self) -> Self {
        Self::from_fn(self.rows, self.columns + other.columns, |i, j| match j.checked_sub(self.columns) {
            Some(j) => other.at(i, j),
            None => self.at(i, j),
        })
    }

    /// The inverse by Gauss and Jordan with pivots from the column; `None` when singular.
    pub(crate) fn inverse(&self) -> Option<Self> {
        let n = self.rows;
        let mut left = self.clone();
        let mut right = Self::identity(n);
        for column in 0..n {
            let size = |row: &usize| left.at(*row, column).abs();
            let pivot = (column..n).max_by(|a, b| size(a).total_cmp(&size(b)))?;
            let size = left.at(pivot, column).abs();
            if size.is_nan() || size <= f64::MIN_POSITIVE {
                return None;
            }
            for matrix in [&mut left, &mut right] {
                (0..n).for_each(|j| matrix.data.swap(pivot * n + j, column * n + j));
            }
            let scale = left.at(column, column).recip();
            for matrix in [&mut left, &mut right] {
                (0..n).for_each(|j| matrix.data[column * n + j] *= scale);
            }
            for row in (0..n).filter(|row| *row != column) {
                let factor = left.at(row, column);
                for matrix in [&mut left, &mut right] {
                    (0..n).for_each(|j| matrix.data[row * n + j] -= factor * matrix.at(column, j));
                }
            }
        }
        Some(right)
    }

    /// Singular triplets by one-sided Jacobi rotations, largest first: left vectors as columns, values,
    /// right vectors as rows.
    pub(crate) fn svd(&self) -> (Self, Vec<f64>, Self) {
        if self.rows < self.columns {
            let (u, values, vt) = self.transpose().svd();
            return (vt.transpose(), values, u.transpose());
        }
        // Columns of the matrix as rows of `work`, turned until they are orthogonal.
        let (mut work, mut turn) = (self.transpose(), Self::identity(self.columns));
        for _ in 0..MAX_SWEEPS {
            let mut turned = false;
            for p in 0..self.columns {
                for q in p + 1..self.columns {
                    turned |= rotate(&mut work, &mut turn, p, q);
                }
            }
            if !turned {
                break;
            }
        }
        let lengths = work.row_norms();
        let mut order: Vec<usize> = (0..self.columns).collect();
        order.sort_by(|a, b| lengths[*b].total_cmp(&lengths[*a]));
        let unit = |value: f64, length: f64| if length > 0.0 { value / length } else { 0.0 };
        let u = Self::from_fn(self.rows, self.columns, |i, k| unit(work.at(order[k], i), lengths[order[k]]));
        let vt = Self::from_fn(self.columns, self.columns, |k, j| turn.at(order[k], j));
        (u, order.iter().map(|k| lengths[*k]).collect(), vt)
    }
}

/// `Σ core[p, q, window]·a[p, out]·b[q, in]` as `[out, in · window]`; `None` where the extents do not fit, or where that
/// is more than `most` rows and columns: factors of a file are small, and may make any size of a product.
pub(crate) fn contracted(
    dims: &[usize],
    core: &[f64],
    [a, b]: [&Matrix; 2],
    most: (usize, usize),
) -> Option<Matrix> {
    let [p, q, ..] = dims[..] else { return None };
    let window = core.len().checked_div(p.checked_mul(q)?)?;
    let within = a.columns <= most.0 && b.columns.checked_mul(window)? <= most.1;
    (p == a.rows && q == b.rows && window > 0 && within).then_some(())?;
    Some(Matrix::from_fn(a.columns, b.columns * window, |o, at| {
        let (i, w) = (at / window, at % window);
        let over_q = |x: usize| (0..q).map(|y| core[(x * q + y) * window + w] * b.at(y, i)).sum::<f64>();
        (0..p).map(|x| a.at(x, o) * over_q(x)).sum()
    }))
}

/// Makes rows `p` and `q` of `work` orthogonal; whether they were not.
fn rotate(work: &mut Matrix, turn: &mut Matrix, p: usize, q: usize) -> bool {
    let dot = |a: usize, b: usize| work.row(a).iter().zip(work.row(b)).map(|(x, y)| x * y).sum::<f64>();
    let (alpha, beta, gamma) = (dot(p, p), dot(q, q), dot(p, q));
    if gamma.abs() <= 1e-15 * (alpha * beta).sqrt() || gamma == 0.0 {
        return false;
    }
    let zeta = (beta - alpha) / (2.0 * gamma);
    let tangent = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
    let cosine = (1.0 + tangent * tangent).sqrt().recip();
    let sine = cosine * tangent;
    for matrix in [work, turn] {
        let columns = matrix.columns;
        for j in 0..columns {
            let (x, y) = (matrix.at(p, j), matrix.at(q, j));
            matrix.data[p * columns + j] = cosine * x - sine * y;
            matrix.data[q * columns + j] = sine * x + cosine * y;
        }
    }
    true
}

/// Sweeps of Jacobi rotations; a dozen suffice in practice.
const MAX_SWEEPS: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rows: usize, columns: usize) -> Matrix {
        Matrix::from_fn(rows, columns, |i, j| ((i * 7 + j * 3) % 11) as f64 - 4.5 + (i * j) as f64 * 0.1)
    }

    #[test]
    fn an_inverse_undoes() {
        let matrix = sample(5, 5).plus(&Matrix::identity(5).scaled(9.0));
        let rest = matrix.matmul(&matrix.inverse().unwrap()).minus(&Matrix::identity(5));
        assert!(rest.norm() < 1e-12, "{}", rest.norm());
        assert!(Matrix::zeros(2, 2).inverse().is_none());
    }

    #[test]
    fn singular_triplets_give_the_matrix_back() {
        for (rows, columns) in [(5, 3), (3, 5), (4, 4), (1, 6), (6, 1)] {
            let matrix = sample(rows, columns);
            let (u, values, vt) = matrix.svd();
            assert!(values.is_sorted_by(|a, b| a >= b));
            let rest = u.columns_times(&values).matmul(&vt).minus(&matrix);
            assert!(rest.norm() < 1e-12 * matrix.norm(), "{rows}x{columns}: {}", rest.norm());
        }
    }
}
