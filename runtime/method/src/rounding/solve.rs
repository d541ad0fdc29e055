//! Shares, transforms and least squares of spectra.

use alloc::vec;
use alloc::vec::Vec;

/// Shares `count` among channels by the norms of their rows, none above `most`: rounded down, what is left evenly, and what is
/// less than one each to those with fewest.
pub(super) fn shares(rows: &[Vec<f64>], count: usize, most: usize) -> Vec<usize> {
    let norms: Vec<f64> = rows.iter().map(|row| libm::sqrt(row.iter().map(|v| v * v).sum())).collect();
    let sum: f64 = norms.iter().sum();
    let share = |norm: &f64| if sum > 0.0 { (count as f64 * norm / sum) as usize } else { 0 };
    let mut kept: Vec<usize> = norms.iter().map(|norm| share(norm).min(most)).collect();
    loop {
        let left = count.saturating_sub(kept.iter().sum());
        let mut free: Vec<usize> = (0..kept.len()).filter(|channel| kept[*channel] < most).collect();
        if left == 0 || free.is_empty() {
            return kept;
        }
        if left >= free.len() {
            let each = left / free.len();
            free.into_iter().for_each(|channel| kept[channel] = (kept[channel] + each).min(most));
        } else {
            free.sort_by_key(|channel| kept[*channel]);
            free.into_iter().take(left).for_each(|channel| kept[channel] += 1);
        }
    }
}

/// `H·x` in place, H of Sylvester's order.
pub(super) fn walsh(x: &mut [f64]) {
    let mut half = 1;
    while half < x.len() {
        for pair in x.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}

/// `H·G·Hᵀ/n²` of G `[row, row]`, padded with zeros to n.
pub(super) fn both_sides(gram: &[f64], row: usize, n: usize) -> Vec<f64> {
    let mut turned = vec![0.0; n * n];
    for (to, from) in turned.chunks_exact_mut(n).zip(gram.chunks_exact(row)) {
        to[..row].copy_from_slice(from);
        walsh(to);
    }
    let mut column = vec![0.0; n];
    for j in 0..n {
        (0..n).for_each(|i| column[i] = turned[i * n + j]);
        walsh(&mut column);
        (0..n).for_each(|i| turned[i * n + j] = column[i] / (n * n) as f64);
    }
    turned
}

/// The solution of a symmetric positive system, by Cholesky's factors; a direction without weight gets zero.
pub(super) fn solve(mut a: Vec<f64>, mut b: Vec<f64>) -> Vec<f64> {
    let n = b.len();
    for j in 0..n {
        let sum: f64 = (0..j).map(|k| a[j * n + k] * a[j * n + k]).sum();
        let square = a[j * n + j] - sum;
        let pivot = if square > NOTHING * a[j * n + j] { libm::sqrt(square) } else { f64::INFINITY };
        a[j * n + j] = pivot;
        for i in j + 1..n {
            let sum: f64 = (0..j).map(|k| a[i * n + k] * a[j * n + k]).sum();
            a[i * n + j] = (a[i * n + j] - sum) / pivot;
        }
    }
    for i in 0..n {
        let sum: f64 = (0..i).map(|k| a[i * n + k] * b[k]).sum();
        b[i] = (b[i] - sum) / a[i * n + i];
    }
    for i in (0..n).rev() {
        let sum: f64 = (i + 1..n).map(|k| a[k * n + i] * b[k]).sum();
        b[i] = (b[i] - sum) / a[i * n + i];
    }
    b
}

/// What counts as zero beside one.
const NOTHING: f64 = 1e-12;
