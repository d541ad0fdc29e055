//! scikit-learn's k-means as AdaMSS calls it: `KMeans(k, init="random", n_init=1, max_iter=10, random_state=123456789)`.

use ingraft_method::TorchRng;

use crate::matrix::Matrix;

/// The cluster of every row of `points`, numbered as scikit-learn (from 1.3) does (Lloyd, 1982; rows begin as centres by NumPy's draws).
///
/// `None` where rounding would decide: a row as near to two centres, or a cluster that loses all its rows.
pub(super) fn clusters(points: &Matrix, count: usize) -> Option<Vec<usize>> {
    let centred = centred(points);
    let rows = seeds(points.rows, count);
    let mut centres =
        Matrix::from_fn(count, points.columns, |cluster, column| centred.at(rows[cluster], column));
    let spread = centred.data.iter().map(|v| v * v).sum::<f64>() / centred.data.len().max(1) as f64;
    let mut before = Vec::new();
    for _ in 0..ITERATIONS {
        let labels = nearest(&centred, &centres)?;
        let moved = means(&centred, &labels, count)?;
        let shift = moved.clone().minus(&centres).norm();
        centres = moved;
        if labels == before {
            return Some(labels);
        }
        before = labels;
        if shift * shift <= TOLERANCE * spread {
            break;
        }
    }
    nearest(&centred, &centres)
}

fn centred(points: &Matrix) -> Matrix {
    let rows = points.rows.max(1) as f64;
    let means: Vec<f64> =
        points.transpose().data.chunks(points.rows.max(1)).map(|c| c.iter().sum::<f64>() / rows).collect();
    Matrix::from_fn(points.rows, points.columns, |i, j| points.at(i, j) - means[j])
}

fn nearest(points: &Matrix, centres: &Matrix) -> Option<Vec<usize>> {
    let distance = |i: usize, k: usize| -> f64 {
        points.row(i).iter().zip(centres.row(k)).map(|(a, b)| (a - b) * (a - b)).sum()
    };
    let label = |i: usize| {
        let mut distances: Vec<(f64, usize)> = (0..centres.rows).map(|k| (distance(i, k), k)).collect();
        distances.sort_by(|a, b| a.0.total_cmp(&b.0));
        let close = distances.get(1).is_some_and(|second| second.0 - distances[0].0 <= CLOSE);
        (!close).then(|| distances[0].1)
    };
    (0..points.rows).map(label).collect()
}

fn means(points: &Matrix, labels: &[usize], count: usize) -> Option<Matrix> {
    let (mut sums, mut sizes) = (Matrix::zeros(count, points.columns), vec![0.0f64; count]);
    for (i, label) in labels.iter().enumerate() {
        sizes[*label] += 1.0;
        for (j, value) in points.row(i).iter().enumerate() {
            sums.data[label * points.columns + j] += value;
        }
    }
    let inverses: Vec<f64> = sizes.iter().map(|size| size.recip()).collect();
    (!sizes.contains(&0.0)).then(|| sums.rows_times(&inverses))
}

/// `count` of `rows` rows, each once: `numpy.random.RandomState(SEED).choice(rows, count, replace=False, p=1/rows)`.
fn seeds(rows: usize, count: usize) -> Vec<usize> {
    // The same generator, from the same words.
    let mut random = TorchRng::new(SEED);
    let mut fraction = || {
        let (high, low) = (random.bits() >> 5, random.bits() >> 6);
        (f64::from(high) * f64::from(1u32 << 26) + f64::from(low)) / (1u64 << 53) as f64
    };
    // A weight of 1 in f32 over their sum.
    let mut shares = vec![f64::from(1.0 / rows as f32); rows];
    let mut found: Vec<usize> = Vec::new();
    while found.len() < count.min(rows) {
        let draws: Vec<f64> = (found.len()..count.min(rows)).map(|_| fraction()).collect();
        found.iter().for_each(|at| shares[*at] = 0.0);
        let mut sum = 0.0;
        let sums: Vec<f64> = shares
            .iter()
            .map(|share| {
                sum += share;
                sum
            })
            .collect();
        let taken: Vec<usize> =
            draws.iter().map(|draw| sums.partition_point(|s| s / sum <= *draw).min(rows - 1)).collect();
        for at in taken {
            if !found.contains(&at) {
                found.push(at);
            }
        }
    }
    found
}

const SEED: u64 = 123_456_789;
const ITERATIONS: usize = 10;
/// Of the mean variance of a column: a smaller shift of all centres ends it.
const TOLERANCE: f64 = 1e-4;
/// Squared distances of rows of an orthogonal matrix that are the same but for rounding.
const CLOSE: f64 = 1e-9;

#[cfg(test)]
mod tests {
    use super::*;

    /// `RandomState(123456789).choice(n, k, replace=False, p=...)` of NumPy 2.4: draws that fall on a row twice among them.
    #[test]
    fn first_centres_are_those_of_numpy() {
        assert_eq!(seeds(10, 4), [5, 7, 2, 8]);
        assert_eq!(seeds(300, 12), [159, 160, 152, 214, 77, 225, 265, 46, 201, 193, 217, 224]);
        assert_eq!(seeds(6, 6), [3, 4, 1, 5, 0, 2]);
    }

    #[test]
    fn rows_as_near_to_two_centres_are_no_clusters() {
        let points = Matrix::identity(7);
        assert_eq!(clusters(&points, 3), None);
        let line = Matrix::from_fn(6, 1, |i, _| [0.0, 0.1, 0.25, 5.0, 5.1, 5.3][i]);
        let found = clusters(&line, 2).expect("two heaps");
        assert!(found[..3].iter().all(|k| *k == found[0]) && found[3..].iter().all(|k| *k == 1 - found[0]));
    }
}
