//! Singular value decomposition, computed once at the start.

use alloc::vec;
use alloc::vec::Vec;

use super::word::{Matrix, Shape};

/// `A = U·diag(σ)·Vᵀ`, σ descending.
///
/// Of each pair (u, v) and (−u, −v) the one is taken whose u has a positive entry of
/// largest magnitude, the first of equals: the same pair everywhere.
#[derive(Debug)]
pub(crate) struct Svd {
    rows: usize,
    columns: usize,
    /// Columns of U·diag(σ) as rows, `[k, rows]`, in order of σ.
    left: Vec<f64>,
    /// Rows of Vᵀ, `[k, columns]`.
    right: Vec<f64>,
    values: Vec<f64>,
}

impl Svd {
    /// Entry of U; 0 in a column whose σ is 0, which no one reads a direction from.
    pub(crate) fn left(&self, row: usize, k: usize) -> f64 {
        let sigma = self.values[k];
        if sigma > 0.0 { self.left[k * self.rows + row] / sigma } else { 0.0 }
    }

    /// σ_k.
    pub(crate) fn value(&self, k: usize) -> f64 {
        self.values[k]
    }

    /// Entry of Vᵀ.
    pub(crate) fn right(&self, k: usize, column: usize) -> f64 {
        self.right[k * self.columns + column]
    }
}

/// The eigenvectors of a symmetric matrix `[n, n]` without negative eigenvalues, as columns, the largest value
/// first; zero where a value is.
pub(crate) fn eigenvectors(matrix: &[f64], n: usize) -> Vec<f64> {
    let svd = svd(Matrix { shape: Shape::new(n, n), data: matrix });
    (0..n * n).map(|at| svd.left(at / n, at % n)).collect()
}

/// One-sided Jacobi (Hestenes, 1958): rotates pairs of columns until all are orthogonal.
/// Slow and accurate, and the same bits everywhere.
pub(super) fn svd(a: Matrix<'_>) -> Svd {
    let (m, n) = (a.shape.rows, a.shape.columns);
    // The shorter side gives the vectors that are rotated, so that their number is least.
    let (count, len, wide) = if m <= n { (m, n, true) } else { (n, m, false) };
    let mut vectors = vec![0.0; count * len];
    for (i, value) in a.data.iter().enumerate() {
        vectors[if wide { i } else { i % n * len + i / n }] = *value;
    }
    let mut turns = vec![0.0; count * count];
    (0..count).for_each(|i| turns[i * count + i] = 1.0);
    for _ in 0..MAX_SWEEPS {
        let mut rotated = false;
        for p in 0..count {
            for q in p + 1..count {
                rotated |= orthogonalize(p, q, len, &mut vectors, count, &mut turns);
            }
        }
        if !rotated {
            break;
        }
    }
    // Rows of `vectors` are σ·(singular vector of the longer side), rows of `turns` those of the shorter.
    arrange((m, n), wide, &vectors, &turns)
}

/// Rotates rows p and q of `vectors` to be orthogonal, and of `turns` alike; whether that was needed.
fn orthogonalize(
    p: usize,
    q: usize,
    len: usize,
    vectors: &mut [f64],
    count: usize,
    turns: &mut [f64],
) -> bool {
    let (a, b) = (&vectors[p * len..(p + 1) * len], &vectors[q * len..(q + 1) * len]);
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        aa += x * x;
        bb += y * y;
        ab += x * y;
    }
    if ab == 0.0 || libm::fabs(ab) <= TOLERANCE * libm::sqrt(aa * bb) {
        return false;
    }
    let zeta = (bb - aa) / (2.0 * ab);
    let sign = if zeta < 0.0 { -1.0 } else { 1.0 };
    let t = sign / (libm::fabs(zeta) + libm::sqrt(1.0 + zeta * zeta));
    let c = 1.0 / libm::sqrt(1.0 + t * t);
    rotate(p, q, len, vectors, c, c * t);
    rotate(p, q, count, turns, c, c * t);
    true
}

fn rotate(p: usize, q: usize, len: usize, rows: &mut [f64], c: f64, s: f64) {
    let (before, from_q) = rows.split_at_mut(q * len);
    for (x, y) in before[p * len..(p + 1) * len].iter_mut().zip(from_q) {
        (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
    }
}

/// Sorts by σ, fixes signs, and names left and right.
fn arrange((m, n): (usize, usize), wide: bool, vectors: &[f64], turns: &[f64]) -> Svd {
    let (count, len) = (m.min(n), m.max(n));
    let lengths = vectors.chunks_exact(len.max(1)).map(|v| libm::sqrt(v.iter().map(|x| x * x).sum()));
    let lengths: Vec<f64> = lengths.collect();
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|p, q| lengths[*q].total_cmp(&lengths[*p]));
    let mut svd = Svd { rows: m, columns: n, left: vec![], right: vec![], values: vec![] };
    for k in order {
        let (sigma, long, short) =
            (lengths[k], &vectors[k * len..(k + 1) * len], &turns[k * count..(k + 1) * count]);
        let left = if wide { short } else { long };
        let peak =
            left.iter().fold(0.0, |peak: f64, v| if libm::fabs(*v) > libm::fabs(peak) { *v } else { peak });
        let sign = if peak < 0.0 { -1.0 } else { 1.0 };
        let inverse = if sigma > 0.0 { sign / sigma } else { 0.0 };
        let (left_scale, right_scale) = if wide { (sign * sigma, inverse) } else { (sign, sign) };
        svd.left.extend(left.iter().map(|v| v * left_scale));
        svd.right.extend((if wide { long } else { short }).iter().map(|v| v * right_scale));
        svd.values.push(sigma);
    }
    svd
}

/// Sweeps until all pairs are orthogonal: six to ten for matrices met in practice.
const MAX_SWEEPS: usize = 60;
/// Cosine below which two vectors count as orthogonal.
const TOLERANCE: f64 = 1e-15;
