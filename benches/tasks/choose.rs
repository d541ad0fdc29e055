//! Choosing a recipe on inner folds of training clips.

use ingraft_dataset::{Split, split};

use crate::base::Base;
use crate::corpus::Corpus;
use crate::course::{Course, Subject};
use crate::lessons::{Lessons, in_parallel};
use crate::{Failure, baseline};

/// What the grid is tried on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trial<'t> {
    /// The frozen base.
    pub(crate) base: &'t Base,
    /// What is trained.
    pub(crate) subject: &'t Subject<'t>,
    /// The cached clips.
    pub(crate) lessons: &'t Lessons,
    /// Labels and groups of the clips.
    pub(crate) corpus: &'t Corpus,
    /// Runs at a time.
    pub(crate) threads: usize,
}

impl Trial<'_> {
    /// Trains every course of the grid around `around` on three inner folds of each outer split's training
    /// clips, dealt and trained anew for each seed, and prints its accuracy there; `rates` of terms.
    pub(crate) fn print(
        &self,
        outer: &[&Split],
        seeds: u64,
        around: Course,
        rates: &[f32],
    ) -> Result<(), Failure> {
        let inner = inner_folds(self.corpus, outer, seeds)?;
        let grid = grid(around, rates, !self.subject.sites.is_empty());
        let jobs: Vec<(Course, &(u64, Split))> =
            grid.iter().flat_map(|course| inner.iter().map(|fold| (*course, fold))).collect();
        let plan = self.base.plan()?;
        let outcomes = in_parallel(&jobs, self.threads, |(course, (seed, Split { train, test }))| {
            course.try_out(plan, self.subject, self.lessons, (train, test), *seed)
        })?;
        println!(
            "| rate | head rate | head decay | epochs | head first | accuracy on {} inner folds |",
            inner.len()
        );
        println!("| --- | --- | --- | --- | --- | --- |");
        for (course, hits) in grid.iter().zip(outcomes.chunks(inner.len())) {
            let Course { rate, head_rate, head_decay, epochs, head_first } = course;
            let accuracy = accuracy(hits);
            println!("| {rate} | {head_rate} | {head_decay} | {epochs} | {head_first} | {accuracy:.3} |");
        }
        Ok(())
    }

    /// Fits the baseline on the same inner folds and prints its accuracy there.
    pub(crate) fn print_baseline(&self, outer: &[&Split], seeds: u64) -> Result<(), Failure> {
        let inner = inner_folds(self.corpus, outer, seeds)?;
        let classes = self.corpus.classes.len();
        let fit = |(_, split): &(u64, Split)| baseline::hits(self.lessons, split, classes);
        let hits = in_parallel(&inner, self.threads, fit)?;
        println!("lr: accuracy on {} inner folds {:.3}", inner.len(), accuracy(&hits));
        Ok(())
    }
}

fn accuracy(hits: &[Vec<bool>]) -> f64 {
    let all = hits.iter().flatten();
    all.clone().filter(|hit| **hit).count() as f64 / all.count().max(1) as f64
}

/// The inner folds of each split's training clips, with the seed they were dealt with.
fn inner_folds(corpus: &Corpus, outer: &[&Split], seeds: u64) -> Result<Vec<(u64, Split)>, Failure> {
    let mut inner = Vec::new();
    for Split { train, .. } in outer {
        let pick = |of: &[usize]| -> Vec<usize> { train.iter().map(|&clip| of[clip]).collect() };
        let names = |side: &[usize]| -> Vec<usize> { side.iter().map(|&at| train[at]).collect() };
        for seed in 0..seeds {
            let folds = split::stratified_folds(&pick(&corpus.labels), &pick(&corpus.groups), FOLDS, seed)?;
            let splits = folds.splits();
            let named = |split: &Split| Split { train: names(&split.train), test: names(&split.test) };
            inner.extend(splits.iter().map(|split| (seed, named(split))));
        }
    }
    Ok(inner)
}

fn grid(around: Course, rates: &[f32], has_terms: bool) -> Vec<Course> {
    if has_terms {
        return rates.iter().map(|&rate| Course { rate, ..around }).collect();
    }
    let mut grid = Vec::new();
    for head_rate in [1e-3, 3e-3] {
        for epochs in [30, 100] {
            grid.push(Course { head_rate, epochs, ..around });
        }
    }
    grid
}

const FOLDS: usize = 3;
