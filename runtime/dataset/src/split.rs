//! Which items to learn from and which to be judged by.
//!
//! Every function is seeded and gives the same split on every platform. Groups
//! (one source recording, one speaker, one day) never lie on both sides.
//!
//! A **split file** is CSV with the columns `fold` and `file`. Either `fold` is a
//! number from 0 and each fold in turn is the test set of what the others
//! train, or it is `train` or `test`. Items of the data set that the file does
//! not name take no part.

use std::collections::BTreeMap;

use crate::Rng;

pub use error::SplitError;
pub use file::{read_splits, to_csv};

mod error;
mod file;

/// Positions of the items on either side, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// Items to learn from; also those that choose hyper-parameters and stop early.
    pub train: Vec<usize>,
    /// Items to be judged by, and for nothing else.
    pub test: Vec<usize>,
}

/// The fold of every item; each fold in turn is the test set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folds {
    fold_of: Vec<usize>,
    count: usize,
}

impl Folds {
    /// Number of folds.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The fold of every item.
    pub fn fold_of(&self) -> &[usize] {
        &self.fold_of
    }

    /// The split whose test set is `fold`, for every fold in order.
    pub fn splits(&self) -> Vec<Split> {
        (0..self.count).map(|fold| side_by_side(&self.fold_of, fold)).collect()
    }
}

/// `count` folds in which every class is spread as evenly as its groups allow.
///
/// Groups are taken in a seeded order, large ones first, and each goes to the
/// fold that is then shortest of its classes; ties go to the fold with the fewest
/// items, then to the first.
///
/// # Errors
/// [`SplitError::Lengths`], [`SplitError::Folds`] below 2 and
/// [`SplitError::Groups`] when there are fewer groups than folds.
pub fn stratified_folds(
    labels: &[usize],
    groups: &[usize],
    count: usize,
    seed: u64,
) -> Result<Folds, SplitError> {
    if count < 2 {
        return Err(SplitError::Folds(count));
    }
    if count > labels.len().max(groups.len()) {
        return Err(SplitError::Groups { groups: dense(groups).len(), folds: count });
    }
    let fold_of = spread(labels, groups, &vec![1.0 / count as f64; count], seed)?;
    Ok(Folds { fold_of, count })
}

/// `count` folds of consecutive items: fold f holds the f-th block of each class, in the items' order.
///
/// Neighboring clips of one recording are alike; blocks keep most neighbors
/// together, and show how much an ordinary split flatters.
///
/// # Errors
/// [`SplitError::Folds`] below 2 and [`SplitError::Class`] when a class has fewer items than folds.
pub fn block_folds(labels: &[usize], count: usize) -> Result<Folds, SplitError> {
    if count < 2 {
        return Err(SplitError::Folds(count));
    }
    let mut fold_of = vec![0; labels.len()];
    for (class, members) in by_class(labels) {
        if members.len() < count {
            return Err(SplitError::Class { class, items: members.len(), wanted: count });
        }
        for (position, &item) in members.iter().enumerate() {
            // The blocks are as equal as can be: block f begins at ⌈f · members / count⌉.
            fold_of[item] = position * count / members.len();
        }
    }
    Ok(Folds { fold_of, count })
}

/// One fold per group, in order of the groups' numbers: leave one speaker out.
pub fn leave_one_group_out(groups: &[usize]) -> Folds {
    let distinct = dense(groups);
    let fold_of = groups.iter().filter_map(|group| distinct.get(group).copied()).collect();
    Folds { fold_of, count: distinct.len() }
}

/// One split that tests on about `test_share` of each class.
///
/// # Errors
/// [`SplitError::Lengths`], [`SplitError::Share`] outside (0, 1) and
/// [`SplitError::Groups`] for fewer than two groups.
pub fn hold_out(labels: &[usize], groups: &[usize], test_share: f64, seed: u64) -> Result<Split, SplitError> {
    if !(test_share > 0.0 && test_share < 1.0) {
        return Err(SplitError::Share);
    }
    let side = spread(labels, groups, &[1.0 - test_share, test_share], seed)?;
    Ok(side_by_side(&side, 1))
}

/// One split that learns from `shots` items of each class, drawn by `seed`, and tests on the rest.
///
/// # Errors
/// [`SplitError::Class`] when a class has no more than `shots` items.
pub fn few_shot(labels: &[usize], shots: usize, seed: u64) -> Result<Split, SplitError> {
    let mut side = vec![1; labels.len()];
    let mut rng = Rng::new(seed);
    for (class, mut members) in by_class(labels) {
        if members.len() <= shots {
            return Err(SplitError::Class { class, items: members.len(), wanted: shots.saturating_add(1) });
        }
        rng.shuffle(&mut members);
        members.iter().take(shots).for_each(|&item| side[item] = 0);
    }
    Ok(side_by_side(&side, 1))
}

/// The side of every item, sides being filled in proportion to `shares`.
fn spread(labels: &[usize], groups: &[usize], shares: &[f64], seed: u64) -> Result<Vec<usize>, SplitError> {
    if labels.len() != groups.len() {
        return Err(SplitError::Lengths { labels: labels.len(), groups: groups.len() });
    }
    let mut members: Vec<Vec<usize>> = by_class(groups).into_values().collect();
    if members.len() < shares.len() {
        return Err(SplitError::Groups { groups: members.len(), folds: shares.len() });
    }
    Rng::new(seed).shuffle(&mut members);
    // Class by class among groups of one size, so that what is left over of each class evens out the totals.
    let first_label = |members: &[usize]| members.first().and_then(|&item| labels.get(item)).copied();
    members.sort_by_key(|members| (core::cmp::Reverse(members.len()), first_label(members)));

    let classes = dense(labels);
    let histogram = |items: &[usize]| {
        let mut counts = vec![0.0; classes.len()];
        items.iter().for_each(|&item| counts[classes[&labels[item]]] += 1.0);
        counts
    };
    let totals = histogram(&(0..labels.len()).collect::<Vec<_>>());
    let mut sides: Vec<Side> =
        shares.iter().map(|&share| Side { share, held: vec![0.0; classes.len()] }).collect();
    let mut side_of = vec![0; labels.len()];
    for members in &members {
        let counts = histogram(members);
        let costs = sides.iter().map(|side| (side.unevenness(&counts, &totals), side.fill())).enumerate();
        let best = costs.min_by(|(_, a), (_, b)| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let best = best.map_or(0, |(side, _)| side);
        sides[best].held.iter_mut().zip(&counts).for_each(|(held, new)| *held += new);
        members.iter().for_each(|&item| side_of[item] = best);
    }
    Ok(side_of)
}

/// One side of a split while it is being filled.
struct Side {
    /// The part of all items it should get.
    share: f64,
    /// Items it has of each class.
    held: Vec<f64>,
}

impl Side {
    /// By how much the squared distance from the wanted class counts grows with
    /// `new` items, each class relative to its size.
    fn unevenness(&self, new: &[f64], totals: &[f64]) -> f64 {
        let classes = new.iter().zip(&self.held).zip(totals);
        classes
            .map(|((new, held), total)| new * (new + 2.0 * (held - self.share * total)) / (total * total))
            .sum()
    }

    /// Items it has, relative to its share.
    fn fill(&self) -> f64 {
        self.held.iter().sum::<f64>() / self.share
    }
}

fn side_by_side(side_of: &[usize], test: usize) -> Split {
    let (test, train) = (0..side_of.len()).partition(|&item| side_of[item] == test);
    Split { train, test }
}

/// The positions of each value, values ascending.
fn by_class(labels: &[usize]) -> BTreeMap<usize, Vec<usize>> {
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    labels.iter().enumerate().for_each(|(item, &label)| members.entry(label).or_default().push(item));
    members
}

/// The rank of each distinct value.
fn dense(values: &[usize]) -> BTreeMap<usize, usize> {
    by_class(values).into_keys().enumerate().map(|(rank, value)| (value, rank)).collect()
}

#[cfg(test)]
mod tests;
