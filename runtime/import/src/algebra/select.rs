//! Which entries of a delta stay.

use ingraft_tensor::Rng;

use crate::matrix::Matrix;

/// The entries largest by magnitude, in this share; of equal ones the first.
pub(super) fn keep_largest(mut delta: Matrix, density: f64) -> Matrix {
    let count = ((delta.data.len() as f64 * density) as usize).min(delta.data.len());
    let mut order: Vec<usize> = (0..delta.data.len()).collect();
    order.sort_by(|a, b| delta.data[*b].abs().total_cmp(&delta.data[*a].abs()).then(a.cmp(b)));
    order[count..].iter().for_each(|at| delta.data[*at] = 0.0);
    delta
}

/// A random share of the entries, scaled up by its inverse.
pub(super) fn drop_out(delta: Matrix, density: f64, rng: &mut Rng) -> Matrix {
    let mut keep: Vec<bool> = Vec::with_capacity(delta.data.len());
    keep.resize_with(delta.data.len(), || rng.unit() < density);
    let mut delta = delta.scaled(density.recip());
    delta.data.iter_mut().zip(keep).filter(|(_, keep)| !keep).for_each(|(value, _)| *value = 0.0);
    delta
}

/// Signs by majority of the sums, then the mean of the weighted entries that agree with them.
pub(super) fn elect(deltas: &[Matrix], weights: &[f64]) -> Matrix {
    let Some(first) = deltas.first() else { return Matrix::zeros(0, 0) };
    Matrix::from_fn(first.rows, first.columns, |i, j| {
        let sign = deltas.iter().map(|delta| delta.at(i, j)).sum::<f64>() >= 0.0;
        let agreeing =
            deltas.iter().zip(weights).map(|(delta, weight)| (delta.at(i, j), weight * delta.at(i, j)));
        let agreeing = agreeing.filter(|(value, _)| *value != 0.0 && (*value > 0.0) == sign);
        let (sum, count) = agreeing.fold((0.0, 0), |(sum, count), (_, value)| (sum + value, count + 1));
        sum / f64::from(count.max(1))
    })
}
