//! Choosing a recipe on inner folds of training clips.

use ingraft_dataset::{Split, split};

use crate::Failure;
use crate::base::Base;
use crate::corpus::Corpus;
use crate::course::{Course, Subject};
use crate::lessons::{Lessons, in_parallel};

/// Trains every course of the grid on three inner folds of each outer split's training clips and prints its
/// accuracy there.
pub(crate) fn print(
    base: &Base,
    subject: &Subject<'_>,
    lessons: &Lessons,
    corpus: &Corpus,
    outer: &[&Split],
    around: Course,
    threads: usize,
) -> Result<(), Failure> {
    let mut inner = Vec::new();
    for outer in outer {
        inner.extend(inner_folds(corpus, &outer.train)?);
    }
    let grid = grid(around, !subject.sites.is_empty());
    let jobs: Vec<(Course, &Split)> =
        grid.iter().flat_map(|course| inner.iter().map(|split| (*course, split))).collect();
    let plan = base.plan()?;
    let outcomes = in_parallel(&jobs, threads, |(course, split)| {
        let trained = course.train(plan, subject, lessons, (&split.train, &split.test), 0)?;
        Ok(trained.float_hits.iter().filter(|hit| **hit).count())
    })?;
    println!("| rate | head rate | head decay | epochs | accuracy on {} inner folds |", inner.len());
    println!("| --- | --- | --- | --- | --- |");
    let judged: usize = inner.iter().map(|split| split.test.len()).sum();
    for (course, hits) in grid.iter().zip(outcomes.chunks(inner.len())) {
        let accuracy = hits.iter().sum::<usize>() as f64 / judged as f64;
        let Course { rate, head_rate, head_decay, epochs } = course;
        println!("| {rate} | {head_rate} | {head_decay} | {epochs} | {accuracy:.3} |");
    }
    Ok(())
}

fn inner_folds(corpus: &Corpus, train: &[usize]) -> Result<Vec<Split>, Failure> {
    let pick = |of: &[usize]| -> Vec<usize> { train.iter().map(|&clip| of[clip]).collect() };
    let folds = split::stratified_folds(&pick(&corpus.labels), &pick(&corpus.groups), FOLDS, 0)?;
    let names = |side: &[usize]| -> Vec<usize> { side.iter().map(|&at| train[at]).collect() };
    let splits = folds.splits();
    Ok(splits.iter().map(|split| Split { train: names(&split.train), test: names(&split.test) }).collect())
}

fn grid(around: Course, has_terms: bool) -> Vec<Course> {
    if has_terms {
        let rates = [5e-4, 1e-3, 3e-3];
        return rates.map(|rate| Course { rate, ..around }).to_vec();
    }
    let mut grid = Vec::new();
    for head_rate in [5e-4, 2e-3] {
        for head_decay in [0.01, 1.0] {
            for epochs in [40, 120] {
                grid.push(Course { head_rate, head_decay, epochs, ..around });
            }
        }
    }
    grid
}

const FOLDS: usize = 3;
