//! The two factors nearest to a whole delta.

use alloc::vec;
use alloc::vec::Vec;

use ingraft_tensor::Rng;
use ingraft_train::FrozenSite;

use crate::expression::svd;

/// Two factors that come near a delta of the whole weight.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LowRank {
    pub(crate) rank: usize,
    /// `[groups · rank, row]`: the same rows for every group.
    pub(crate) down: Vec<f32>,
    /// `[out, rank]`.
    pub(crate) up: Vec<f32>,
    /// ‖up·down − Δ‖ / ‖Δ‖, Frobenius norms.
    pub(crate) error: f64,
}

/// The best factors of at most rank `rank` that have no more values than Δ, found by subspace iteration with a fixed seed
/// and a small singular value decomposition (Halko, Martinsson & Tropp, 2011); `None` when Δ is zero, or has no such factors.
pub(crate) fn nearest(site: &FrozenSite<'_>, delta: &[f32], rank: usize) -> Option<LowRank> {
    let (out, row) = (site.desc.out, site.desc.row());
    let rank = rank.min(out.saturating_mul(row) / out.saturating_add(row).max(1));
    let total: f64 = delta.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
    if total == 0.0 || rank == 0 {
        return None;
    }
    let width = (rank + OVERSAMPLING).min(out).min(row);
    // Rows of `base` are orthonormal vectors of the outputs.
    let mut rng = Rng::new(0);
    let mut across: Vec<f64> = (0..width * row).map(|_| rng.uniform(-1.0, 1.0)).collect();
    let mut base = vec![0.0; width * out];
    for _ in 0..ROUNDS {
        base = project(delta, row, &across, Side::Outputs);
        orthonormalize(&mut base, out);
        across = project(delta, row, &base, Side::Inputs);
    }
    let svd = svd(width, row, &across);
    let first = svd.value(0);
    let rank = (0..rank).take_while(|k| svd.value(*k) > NOTHING * first).count().max(1);
    let down: Vec<f32> =
        (0..rank).flat_map(|k| (0..row).map(move |j| (k, j))).map(|(k, j)| svd.right(k, j) as f32).collect();
    let entry = |o: usize, k: usize| {
        (0..width).map(|i| base[i * out + o] * svd.left(i, k)).sum::<f64>() * svd.value(k)
    };
    let up: Vec<f32> =
        (0..out).flat_map(|o| (0..rank).map(move |k| (o, k))).map(|(o, k)| entry(o, k) as f32).collect();
    let mut error = 0.0;
    for (up, delta) in up.chunks_exact(rank).zip(delta.chunks_exact(row.max(1))) {
        for (j, wanted) in delta.iter().enumerate() {
            let pairs = up.iter().enumerate().map(|(k, b)| f64::from(*b) * f64::from(down[k * row + j]));
            let apart = pairs.sum::<f64>() - f64::from(*wanted);
            error += apart * apart;
        }
    }
    let copies = (0..site.desc.groups.max(1)).flat_map(|_| down.iter().copied()).collect();
    Some(LowRank { rank, down: copies, up, error: libm::sqrt(error / total) })
}

/// Which side of Δ the result lies on.
#[derive(Clone, Copy)]
enum Side {
    Outputs,
    Inputs,
}

/// `vectors·Δᵀ` or `vectors·Δ`, vectors as rows.
fn project(delta: &[f32], row: usize, vectors: &[f64], side: Side) -> Vec<f64> {
    let out = delta.len() / row.max(1);
    let (from, to) = match side {
        Side::Outputs => (row, out),
        Side::Inputs => (out, row),
    };
    let mut projected = vec![0.0; vectors.len() / from.max(1) * to];
    for (vector, projected) in vectors.chunks_exact(from.max(1)).zip(projected.chunks_exact_mut(to.max(1))) {
        for (o, weights) in delta.chunks_exact(row.max(1)).enumerate() {
            match side {
                Side::Outputs => {
                    projected[o] = weights.iter().zip(vector).map(|(w, v)| f64::from(*w) * v).sum();
                }
                Side::Inputs => {
                    projected.iter_mut().zip(weights).for_each(|(to, w)| *to += f64::from(*w) * vector[o]);
                }
            }
        }
    }
    projected
}

/// Makes the rows of length `len` orthonormal in order, twice for accuracy; a row that depends on those before becomes zero.
fn orthonormalize(rows: &mut [f64], len: usize) {
    for k in 0..rows.len() / len.max(1) {
        let (before, own) = rows.split_at_mut(k * len);
        let own = &mut own[..len];
        let given = libm::sqrt(own.iter().map(|v| v * v).sum());
        for _ in 0..2 {
            for other in before.chunks_exact(len) {
                let along: f64 = own.iter().zip(other).map(|(a, b)| a * b).sum();
                own.iter_mut().zip(other).for_each(|(a, b)| *a -= along * b);
            }
        }
        let length = libm::sqrt(own.iter().map(|v| v * v).sum::<f64>());
        let inverse = if length > NOTHING * given { 1.0 / length } else { 0.0 };
        own.iter_mut().for_each(|v| *v *= inverse);
    }
}

/// Directions looked at beside those kept.
const OVERSAMPLING: usize = 4;
/// Rounds of the subspace iteration.
const ROUNDS: usize = 4;
/// What counts as zero beside one.
const NOTHING: f64 = 1e-10;

#[cfg(test)]
mod tests {
    use super::*;
    use ingraft_kernel::{SiteDesc, SiteKind};
    use ingraft_tensor::DType;

    fn site(groups: usize) -> SiteDesc<'static> {
        let (kind, dtype) = (SiteKind::Conv, DType::F32);
        SiteDesc { name: "s", kind, dtype, out: 12, inputs: 10, kernel: [1, 1], groups, transposed: false }
    }

    #[test]
    fn a_delta_of_low_rank_is_found_exactly_and_its_rank_too() {
        let mut rng = Rng::new(1);
        let mut draw = |n: usize| -> Vec<f64> { (0..n).map(|_| rng.uniform(-1.0, 1.0)).collect() };
        let (b, a) = (draw(12 * 2), draw(2 * 10));
        let entry = |i: usize| (0..2).map(|k| b[i / 10 * 2 + k] * a[k * 10 + i % 10]).sum::<f64>() as f32;
        let delta: Vec<f32> = (0..120).map(entry).collect();
        let weight = vec![0.0; 120];
        let found = nearest(&FrozenSite::of_weight(site(2), &weight).unwrap(), &delta, 4).unwrap();
        // What f32 adds to a matrix of rank two is of any rank.
        assert!(found.error < 1e-6, "{}", found.error);
        assert_eq!(found.down[..found.rank * 10], found.down[found.rank * 10..]);
    }

    #[test]
    fn the_error_is_that_of_the_best_approximation() {
        let mut rng = Rng::new(2);
        let delta: Vec<f32> = (0..120).map(|_| rng.uniform(-1.0, 1.0) as f32).collect();
        let weight = vec![0.0; 120];
        let found = nearest(&FrozenSite::of_weight(site(1), &weight).unwrap(), &delta, 3).unwrap();
        let wide: Vec<f64> = delta.iter().map(|v| f64::from(*v)).collect();
        let exact = svd(12, 10, &wide);
        let square = |k: usize| exact.value(k) * exact.value(k);
        let best = libm::sqrt((3..10).map(square).sum::<f64>() / (0..10).map(square).sum::<f64>());
        assert!(found.error < 1.01 * best && found.error > 0.999 * best, "{} {best}", found.error);
        let most = nearest(&FrozenSite::of_weight(site(1), &weight).unwrap(), &delta, 9).unwrap();
        assert_eq!(most.rank, 120 / 22, "no larger than the delta");
        assert_eq!(nearest(&FrozenSite::of_weight(site(1), &weight).unwrap(), &weight, 3), None);
    }
}
