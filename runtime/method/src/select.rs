//! The selector: which places of a matrix `[out, row]` scores choose.
//!
//! Of equal scores the one at the lower place is taken first, everywhere.

use alloc::collections::BinaryHeap;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Ordering;

/// The shape in which places are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pattern {
    /// Single weights.
    Entries,
    /// So many weights of every row.
    PerRow,
    /// So many columns, those in most rows' own choice.
    SharedColumns,
    /// Whole rows by their summed scores.
    Rows,
    /// Whole columns by their summed scores.
    Columns,
    /// Square tiles of this side, by this pooling of their scores.
    Tiles(usize, Pool),
    /// The crossing of this share of the rows and of the columns, found greedily.
    Block(f64),
    /// Half of this share of the rows and half of the columns, by their summed scores, and the diagonal. Rows and
    /// columns are chosen along the diagonal and never meet on it, so that their number of weights is always the same.
    Cross(f64),
}

/// How the scores of a tile become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pool {
    /// |mean|.
    MeanAbs,
    /// mean|·|.
    AbsMean,
    /// Σ|·|.
    L1,
    /// √Σ·².
    L2,
}

impl Pool {
    pub(crate) const ALL: [Self; 4] = [Self::MeanAbs, Self::AbsMean, Self::L1, Self::L2];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::MeanAbs => "mean_abs",
            Self::AbsMean => "abs_mean",
            Self::L1 => "l1",
            Self::L2 => "l2",
        }
    }

    fn of(self, values: impl Iterator<Item = f64>) -> f64 {
        let (mut n, mut sum, mut sizes, mut squares) = (0.0f64, 0.0, 0.0, 0.0);
        for value in values {
            n += 1.0;
            sum += value;
            sizes += value.abs();
            squares += value * value;
        }
        match self {
            Self::MeanAbs => (sum / n.max(1.0)).abs(),
            Self::AbsMean => sizes / n.max(1.0),
            Self::L1 => sizes,
            Self::L2 => libm::sqrt(squares),
        }
    }
}

impl Pattern {
    /// What scores of `[out, row]` are of the units that are chosen: entries, rows, columns, tiles.
    pub(crate) fn units(self, scores: &[f64], row: usize) -> Vec<f64> {
        let row = row.max(1);
        match self {
            Self::Rows => scores.chunks_exact(row).map(|row| row.iter().sum()).collect(),
            Self::Columns => columns(scores, row),
            Self::Tiles(side, pool) => {
                let (down, across) = (scores.len() / row / side, row / side);
                let tile = |t: usize| {
                    let first = t / across * side * row + t % across * side;
                    (0..side * side)
                        .filter_map(move |i| scores.get(first + i / side * row + i % side).copied())
                };
                (0..down * across).map(|t| pool.of(tile(t))).collect()
            }
            _ => scores.to_vec(),
        }
    }

    /// The places that chosen `units` cover, ascending.
    pub(crate) fn cover(self, units: &[usize], out: usize, row: usize) -> Vec<usize> {
        let mut places: Vec<usize> = match self {
            Self::Rows => units.iter().flat_map(|r| (0..row).map(move |c| r * row + c)).collect(),
            Self::Columns => units.iter().flat_map(|c| (0..out).map(move |r| r * row + c)).collect(),
            Self::Tiles(side, _) => {
                let across = (row / side).max(1);
                let tile = |t: &usize| {
                    let first = t / across * side * row + t % across * side;
                    (0..side * side).map(move |i| first + i / side * row + i % side)
                };
                units.iter().flat_map(tile).collect()
            }
            _ => units.to_vec(),
        };
        places.sort_unstable();
        places
    }

    /// The places of one matrix that `count` units with the largest `scores` cover.
    pub(crate) fn choose(self, scores: &[f64], out: usize, row: usize, count: usize) -> Vec<usize> {
        match self {
            Self::PerRow => {
                let rows = scores.chunks_exact(row.max(1)).enumerate();
                rows.flat_map(|(r, scores)| best(scores, count).into_iter().map(move |c| r * row + c))
                    .collect()
            }
            Self::SharedColumns => {
                let mut votes = vec![0.0; row];
                for scores in scores.chunks_exact(row.max(1)) {
                    best(scores, count).into_iter().for_each(|c| votes[c] += 1.0);
                }
                Self::Columns.cover(&best(&votes, count), out, row)
            }
            Self::Block(share) => block(scores, out, row, share),
            Self::Cross(share) => {
                let (diagonal, [height, width]) = (out.min(row), cross(share, out, row));
                let mut along: Vec<f64> = Self::Rows.units(scores, row);
                along.truncate(diagonal);
                let rows = best(&along, height);
                let mut across = columns(scores, row);
                across.truncate(diagonal);
                rows.iter().for_each(|r| across[*r] = f64::NEG_INFINITY);
                let across = best(&across, width);
                let kept = |place: &usize| {
                    let (r, c) = (place / row, place % row);
                    r == c || rows.contains(&r) || across.contains(&c)
                };
                (0..out * row).filter(kept).collect()
            }
            _ => self.cover(&best(&self.units(scores, row), count), out, row),
        }
    }

    /// How many places `count` units of a matrix are.
    pub(crate) fn places(self, out: usize, row: usize, count: usize) -> usize {
        match self {
            Self::Entries => count.min(out * row),
            Self::PerRow | Self::SharedColumns => out * count.min(row),
            Self::Rows => count.min(out) * row,
            Self::Columns => count.min(row) * out,
            Self::Tiles(side, _) => count.min((out / side) * (row / side)) * side * side,
            Self::Block(share) => side(share, out) * side(share, row),
            Self::Cross(share) => {
                let [rows, columns] = cross(share, out, row);
                rows * row + columns * (out - rows) + (out.min(row) - rows - columns)
            }
        }
    }
}

/// The columns' sums.
fn columns(scores: &[f64], row: usize) -> Vec<f64> {
    let mut sums = vec![0.0; row];
    for scores in scores.chunks_exact(row.max(1)) {
        sums.iter_mut().zip(scores).for_each(|(sum, score)| *sum += score);
    }
    sums
}

/// The length of `share` of a side, at least one.
fn side(share: f64, n: usize) -> usize {
    ((share * n as f64) as usize).clamp(1, n.max(1))
}

/// Rows and columns of a cross; at least one row.
fn cross(share: f64, out: usize, row: usize) -> [usize; 2] {
    let diagonal = out.min(row);
    let rows = side(0.5 * share, out).min(diagonal);
    [rows, side(0.5 * share, row).min(diagonal - rows)]
}

/// The best of LoSiA's three greedy crossings: rows and columns by their sums; columns among the rows; rows among the
/// columns.
fn block(scores: &[f64], out: usize, row: usize, share: f64) -> Vec<usize> {
    let (height, width) = (side(share, out), side(share, row));
    let at = |r: usize, c: usize| scores.get(r * row + c).copied().unwrap_or(0.0);
    let rows = best(&(0..out).map(|r| (0..row).map(|c| at(r, c)).sum()).collect::<Vec<f64>>(), height);
    let across = best(&columns(scores, row), width);
    let among_rows: Vec<f64> = (0..row).map(|c| rows.iter().map(|r| at(*r, c)).sum()).collect();
    let among_columns: Vec<f64> = (0..out).map(|r| across.iter().map(|c| at(r, *c)).sum()).collect();
    let picks = [
        (rows.clone(), across.clone()),
        (rows, best(&among_rows, width)),
        (best(&among_columns, height), across),
    ];
    let sum = |(rows, columns): &(Vec<usize>, Vec<usize>)| -> f64 {
        rows.iter().flat_map(|r| columns.iter().map(move |c| at(*r, *c))).sum()
    };
    let first = |best: (Vec<usize>, Vec<usize>), next| if sum(&next) > sum(&best) { next } else { best };
    let (rows, columns) = picks.into_iter().reduce(first).unwrap_or_default();
    rows.iter().flat_map(|r| columns.iter().map(move |c| r * row + c)).collect()
}

/// The places of the `count` largest scores, ascending.
pub(crate) fn best(scores: &[f64], count: usize) -> Vec<usize> {
    let mut stream = Stream::new(count);
    scores.iter().enumerate().for_each(|(place, score)| stream.offer(*score, place));
    stream.finish()
}

/// The places of the `count` largest of all `scores`, matrix by matrix, ascending in each.
pub(crate) fn best_of_all(scores: &[Vec<f64>], count: usize) -> Vec<Vec<usize>> {
    let mut stream = Stream::new(count);
    scores.iter().flatten().enumerate().for_each(|(place, score)| stream.offer(*score, place));
    let mut chosen = stream.finish().into_iter().peekable();
    let mut first = 0;
    let matrices = scores.iter().map(|scores| {
        let end = first + scores.len();
        let own = core::iter::from_fn(|| chosen.next_if(|place| *place < end)).map(|place| place - first);
        let own = own.collect();
        first = end;
        own
    });
    matrices.collect()
}

/// The largest of a stream of scores, in memory of as many as are wanted.
#[derive(Debug)]
pub(crate) struct Stream {
    wanted: usize,
    /// The worst on top.
    held: BinaryHeap<Candidate>,
}

#[derive(Debug, PartialEq)]
struct Candidate {
    score: f64,
    place: usize,
}

impl Eq for Candidate {}

impl Ord for Candidate {
    /// The greater is the one to give up first: of the lower score, or of the higher place.
    fn cmp(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.place.cmp(&other.place))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Stream {
    pub(crate) fn new(wanted: usize) -> Self {
        Self { wanted, held: BinaryHeap::new() }
    }

    /// Takes one score in; a NaN counts as the least.
    pub(crate) fn offer(&mut self, score: f64, place: usize) {
        // Zeros of either sign are equal.
        let score = if score.is_nan() { f64::NEG_INFINITY } else { score + 0.0 };
        let next = Candidate { score, place };
        if self.held.len() < self.wanted {
            return self.held.push(next);
        }
        if self.held.peek().is_some_and(|worst| next < *worst) {
            self.held.pop();
            self.held.push(next);
        }
    }

    /// The places, ascending.
    pub(crate) fn finish(self) -> Vec<usize> {
        let mut places: Vec<usize> = self.held.into_iter().map(|held| held.place).collect();
        places.sort_unstable();
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingraft_tensor::Rng;

    /// Every choice by sorting everything.
    fn sorted(scores: &[f64], count: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..scores.len()).collect();
        all.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        all.truncate(count);
        all.sort_unstable();
        all
    }

    #[test]
    fn a_stream_keeps_the_largest_and_the_first_of_equals() {
        let mut rng = Rng::new(3);
        for n in [0, 1, 2, 17, 100] {
            // Few values, so that most are equal.
            let scores: Vec<f64> = (0..n).map(|_| rng.below(5) as f64).collect();
            for count in [0, 1, 3, n / 2, n, n + 4] {
                assert_eq!(best(&scores, count), sorted(&scores, count), "{count} of {scores:?}");
            }
        }
    }

    #[test]
    fn a_budget_over_matrices_is_spent_exactly() {
        let scores = [vec![1.0, 3.0, 3.0], vec![], vec![3.0, 0.0, 4.0, 3.0]];
        assert_eq!(best_of_all(&scores, 4), [vec![1, 2], vec![], vec![0, 2]]);
        assert_eq!(best_of_all(&scores, 100), [vec![0, 1, 2], vec![], vec![0, 1, 2, 3]]);
        assert_eq!(best_of_all(&scores, 0), [vec![], vec![], Vec::<usize>::new()]);
    }

    #[test]
    fn patterns_cover_as_many_places_as_they_say() {
        let mut rng = Rng::new(5);
        for (out, row) in [(1, 1), (4, 6), (6, 4), (5, 7), (8, 8)] {
            let scores: Vec<f64> = (0..out * row).map(|_| rng.unit()).collect();
            let tiles = Pool::ALL.map(|pool| Pattern::Tiles(2, pool));
            let others = [
                Pattern::Entries,
                Pattern::PerRow,
                Pattern::SharedColumns,
                Pattern::Rows,
                Pattern::Columns,
                Pattern::Block(0.4),
                Pattern::Cross(0.5),
            ];
            for pattern in tiles.into_iter().chain(others) {
                for count in [1, 2, 3, 100] {
                    let places = pattern.choose(&scores, out, row, count);
                    assert_eq!(
                        places.len(),
                        pattern.places(out, row, count),
                        "{pattern:?} {out}x{row} {count}"
                    );
                    assert!(places.is_sorted_by(|a, b| a < b) && places.iter().all(|p| *p < out * row));
                }
            }
        }
    }

    #[test]
    fn a_cross_is_rows_columns_and_the_diagonal() {
        let mut scores = vec![0.0; 20];
        scores[4..8].fill(1.0);
        (0..5).for_each(|r| scores[r * 4 + 2] += 0.5);
        // Row 1, column 2, the diagonal.
        assert_eq!(Pattern::Cross(0.5).choose(&scores, 5, 4, 0), [0, 2, 4, 5, 6, 7, 10, 14, 15, 18]);
    }
}
