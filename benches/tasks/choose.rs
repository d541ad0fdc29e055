//! Choosing a recipe on inner folds of training clips.

use ingraft_dataset::{Split, split};

use crate::arguments::Arguments;
use crate::base::Base;
use crate::baseline::{Baseline, Heights};
use crate::corpus::Corpus;
use crate::course::{Course, Subject, Tried};
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
    /// clips, or on the first of them, dealt and trained anew for each seed, and prints its accuracy there.
    pub(crate) fn print(
        &self,
        outer: &[&Split],
        around: Course,
        arguments: &Arguments,
    ) -> Result<(), Failure> {
        let inner = inner_folds(self.corpus, outer, arguments.seeds, arguments.inner)?;
        let grid = grid(around, &arguments.rates(), arguments);
        let jobs: Vec<(Course, &(u64, Split))> =
            grid.iter().flat_map(|course| inner.iter().map(|fold| (*course, fold))).collect();
        let plan = self.base.plan()?;
        let baselines = self.baselines(&inner)?;
        let outcomes = in_parallel(&jobs, self.threads, |(course, (seed, Split { train, test }))| {
            course.try_out(plan, self.subject, self.lessons, (train, test), *seed)
        })?;
        println!(
            "| rate | head rate | head decay | epochs | head first | batch | schedule | smoothing | accuracy on {} inner folds | \
             objective |",
            inner.len()
        );
        println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
        for (course, tried) in grid.iter().zip(outcomes.chunks(inner.len())) {
            let Course { rate, head_rate, head_decay, epochs, head_first, batch, decay, smoothing, .. } =
                course;
            let accuracy = accuracy(tried.iter().map(|tried| &*tried.hits));
            let heights = heights(&baselines, tried)?;
            println!(
                "| {rate} | {head_rate} | {head_decay} | {epochs} | {head_first} | {batch} | {decay:?} | {smoothing} | {accuracy:.3} | \
                 {heights} |"
            );
        }
        Ok(())
    }

    /// Fits the baseline on the same inner folds and prints its accuracy there.
    pub(crate) fn print_baseline(&self, outer: &[&Split], arguments: &Arguments) -> Result<(), Failure> {
        let inner = inner_folds(self.corpus, outer, arguments.seeds, arguments.inner)?;
        let classes = self.corpus.classes.len();
        let fit = |(_, split): &(u64, Split)| baseline::hits(self.lessons, split, classes);
        let hits = in_parallel(&inner, self.threads, fit)?;
        println!(
            "lr: accuracy on {} inner folds {:.3}",
            inner.len(),
            accuracy(hits.iter().map(Vec::as_slice))
        );
        Ok(())
    }

    /// The baselines of heads alone, which minimize the same function; none beside terms.
    fn baselines(&self, inner: &[(u64, Split)]) -> Result<Vec<Baseline>, Failure> {
        if !self.subject.sites.is_empty() {
            return Ok(Vec::new());
        }
        let classes = self.corpus.classes.len();
        let fit = |(_, split): &(u64, Split)| Baseline::fit(self.lessons, &split.train, classes);
        in_parallel(inner, self.threads, fit)
    }
}

/// The objectives of heads alone.
fn heights(baselines: &[Baseline], tried: &[Tried]) -> Result<String, Failure> {
    let pairs =
        baselines.iter().zip(tried).filter_map(|(baseline, tried)| Some((baseline, tried.head.as_ref()?)));
    if baselines.is_empty() { Ok("–".to_owned()) } else { Ok(Heights::measure(pairs)?.to_string()) }
}

fn accuracy<'h>(hits: impl Iterator<Item = &'h [bool]> + Clone) -> f64 {
    let all = hits.flatten();
    all.clone().filter(|hit| **hit).count() as f64 / all.count().max(1) as f64
}

/// The first `most` inner folds of each split's training clips, with the seed they were dealt with.
fn inner_folds(
    corpus: &Corpus,
    outer: &[&Split],
    seeds: u64,
    most: usize,
) -> Result<Vec<(u64, Split)>, Failure> {
    let mut inner = Vec::new();
    for Split { train, .. } in outer {
        let pick = |of: &[usize]| -> Vec<usize> { train.iter().map(|&clip| of[clip]).collect() };
        let names = |side: &[usize]| -> Vec<usize> { side.iter().map(|&at| train[at]).collect() };
        for seed in 0..seeds {
            let folds = split::stratified_folds(&pick(&corpus.labels), &pick(&corpus.groups), FOLDS, seed)?;
            let splits = folds.splits();
            let named = |split: &Split| Split { train: names(&split.train), test: names(&split.test) };
            inner.extend(splits.iter().take(most).map(|split| (seed, named(split))));
        }
    }
    Ok(inner)
}

/// The courses to try: by rate of the terms, or of a head alone by its rate and epochs, where not given.
fn grid(around: Course, rates: &[f32], arguments: &Arguments) -> Vec<Course> {
    if arguments.method != "head" {
        return rates.iter().map(|&rate| Course { rate, ..around }).collect();
    }
    let head_rates = arguments.head_rate.map_or(vec![3e-3, 1e-2], |rate| vec![rate]);
    let epochs = arguments.epochs.map_or(vec![100, 300], |epochs| vec![epochs]);
    let course = |head_rate| epochs.iter().map(move |&epochs| Course { head_rate, epochs, ..around });
    head_rates.iter().flat_map(|&rate| course(rate)).collect()
}

const FOLDS: usize = 3;
