//! One method of a study, over all runs.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::collections::BTreeMap;
use std::time::Instant;

use ingraft_dataset::stats::{Confusion, Tally};
use ingraft_plan::PlanView;
use serde::{Deserialize, Serialize};

use super::latency::Latency;
use super::size;
use crate::backend::Backend;
use crate::command::eval::classify;
use crate::command::train::candidate::{Candidate, Terms};
use crate::input::Feed;
use crate::plan_file::ArtifactFile;
use crate::predict::{Memory, Predictor};
use crate::training::{Lessons, Trained};
use crate::{CliError, Console};

/// The test clips of a run.
pub(super) struct Judged<'f> {
    /// By clip: its number in the data set, its class, what a plan is fed.
    clips: Vec<(usize, usize, &'f Feed)>,
}

impl<'f> Judged<'f> {
    /// The clips `items`, of these classes and `feeds`.
    pub(super) fn new(items: &[usize], labels: &[usize], feeds: &'f BTreeMap<usize, Feed>) -> Self {
        let clip = |&item: &usize| Some((item, *labels.get(item)?, feeds.get(&item)?));
        Self { clips: items.iter().filter_map(clip).collect() }
    }
}

/// What became of one run.
pub(super) enum Run {
    Judged(Box<Verdict>),
    /// The method cannot be used.
    Refused(CliError),
}

/// What a run gave.
#[derive(Serialize, Deserialize)]
pub(super) struct Verdict {
    /// By clip: its number in the data set, its class, the class it was taken for.
    clips: Vec<(usize, usize, usize)>,
    rank: Option<u32>,
    losses: Vec<f32>,
    seconds: f64,
    parameters: usize,
    arena_bytes: usize,
    error: f64,
    adapter_bytes: usize,
    /// The adapter, of the first run.
    #[serde(skip)]
    pub(super) adapter: Option<Vec<u8>>,
}

/// A method and what its runs gave.
pub(super) struct Arm<'a> {
    pub(super) candidate: Candidate<'a>,
    classes: &'a [String],
    /// The first fold that the method refused; later ones need not run.
    refused: AtomicUsize,
    /// Why it takes no part.
    refusal: Option<CliError>,
    pub(super) tally: Tally,
    pub(super) confusion: Confusion,
    /// The rank that the budget gave it.
    rank: Option<u32>,
    /// Accuracy of each run.
    pub(super) accuracies: Vec<f64>,
    /// Mean training losses of each run, by epoch.
    pub(super) losses: Vec<Vec<f32>>,
    /// Seconds of measuring and training of all runs.
    pub(super) seconds: f64,
    pub(super) parameters: usize,
    /// The largest adapter file.
    pub(super) adapter_bytes: usize,
    /// The most memory a trainer took.
    pub(super) arena_bytes: usize,
    /// The largest relative error of a delta as written.
    pub(super) error: f64,
    /// The adapter of the first run.
    first: Option<Vec<u8>>,
    pub(super) latency: Option<Latency>,
}

impl<'a> Arm<'a> {
    /// A method that has not run.
    pub(super) fn new(candidate: Candidate<'a>, classes: &'a [String]) -> Self {
        Self {
            candidate,
            classes,
            refused: AtomicUsize::new(usize::MAX),
            refusal: None,
            tally: Tally::default(),
            confusion: Confusion::new(classes.len()),
            rank: None,
            accuracies: Vec::new(),
            losses: Vec::new(),
            seconds: 0.0,
            parameters: 0,
            adapter_bytes: 0,
            arena_bytes: 0,
            error: 0.0,
            first: None,
            latency: None,
        }
    }

    /// The method's name.
    pub(super) fn name(&self) -> &'a str {
        self.candidate.name
    }

    /// Its settings over the defaults.
    pub(super) fn settings(&self) -> BTreeMap<String, String> {
        let given =
            self.candidate.settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        given.chain(self.rank.map(|rank| ("rank".to_owned(), rank.to_string()))).collect()
    }

    /// Why it takes no part, if it does not.
    pub(super) fn refusal(&self) -> Option<&CliError> {
        self.refusal.as_ref()
    }

    /// Trains the method on the `lessons` of `fold` on `target` and judges its adapter there; `None` where an earlier fold refused it.
    ///
    /// # Errors
    /// Those that are not about the method: clips that cannot be read, a defect of the plan.
    pub(super) fn run(
        &self,
        fold: usize,
        (terms, target): (&Terms<'_>, &impl Backend),
        lessons: &Lessons<'_>,
        judged: &Judged<'_>,
        budget: Option<usize>,
    ) -> Result<Option<Run>, CliError> {
        if self.refused.load(Ordering::Relaxed) < fold {
            return Ok(None);
        }
        match self.verdict((terms, target), lessons, judged, budget) {
            Ok(verdict) => {
                // One adapter of a method is measured: the others have been judged, and are not kept.
                let adapter = verdict.adapter.filter(|_| fold == 0);
                Ok(Some(Run::Judged(Box::new(Verdict { adapter, ..verdict }))))
            }
            Err(error) if is_about_the_method(&error) => {
                self.refused.fetch_min(fold, Ordering::Relaxed);
                Ok(Some(Run::Refused(error)))
            }
            Err(error) => Err(error),
        }
    }

    fn verdict(
        &self,
        (terms, target): (&Terms<'_>, &impl Backend),
        lessons: &Lessons<'_>,
        judged: &Judged<'_>,
        budget: Option<usize>,
    ) -> Result<Verdict, CliError> {
        let rank = budget.map(|budget| size::rank(&self.candidate, terms, budget)).transpose()?.flatten();
        let named = rank.map(|rank| rank.to_string());
        let mut candidate =
            Candidate { name: self.candidate.name, settings: self.candidate.settings.clone() };
        candidate.settings.extend(named.as_deref().map(|rank| ("rank", rank)));
        // The study draws the one bar there is.
        let (mut data, mut messages) = (std::io::sink(), std::io::sink());
        let console = Console::new(std::io::empty(), &mut data, &mut messages);
        let started = Instant::now();
        let (trainee, measured) = candidate.prepare(terms, lessons, &console)?;
        let course = terms.course_of(&trainee);
        terms.check(course.memory(&terms.plan, target)?.total())?;
        let Trained { bytes, losses, memory, parameters, sites, .. } =
            course.train(terms.plan, target, lessons, &console)?;
        budget.map_or(Ok(()), |budget| size::check(parameters, budget))?;
        let seconds = started.elapsed().as_secs_f64();
        Ok(Verdict {
            clips: self.judge((terms.plan, target), &bytes, judged)?,
            rank,
            losses,
            seconds,
            parameters,
            arena_bytes: memory.total().max(measured),
            error: sites.iter().map(|site| site.error).fold(0.0, f64::max),
            adapter_bytes: bytes.len(),
            adapter: Some(bytes),
        })
    }

    /// What an adapter takes the test clips for.
    fn judge<T: Backend>(
        &self,
        (plan, target): (PlanView<'_>, &T),
        adapter: &[u8],
        judged: &Judged<'_>,
    ) -> Result<Vec<(usize, usize, usize)>, CliError> {
        let file = ArtifactFile::from_bytes(self.candidate.name, adapter).kept_for(target)?;
        let adapter = file.attach(&plan)?;
        let mut memory = Memory::new(&plan, target)?;
        let mut predictor = Predictor::new(plan, target, Some(adapter), &mut memory)?;
        let feeds = judged.clips.iter().map(|(_, _, feed)| Ok((*feed).clone()));
        let taken = classify(&mut predictor, self.classes, feeds)?;
        Ok(judged.clips.iter().zip(taken).map(|((clip, truth, _), taken)| (*clip, *truth, taken)).collect())
    }

    /// Takes in what a run gave; runs come in order.
    pub(super) fn add(&mut self, run: Run) {
        let verdict = match run {
            Run::Judged(verdict) => *verdict,
            Run::Refused(error) => {
                self.refusal.get_or_insert(error);
                return;
            }
        };
        let mut right = 0;
        for (clip, truth, taken) in &verdict.clips {
            self.tally.add(*clip, truth == taken);
            self.confusion.add(*truth, *taken);
            right += usize::from(truth == taken);
        }
        self.accuracies.push(right as f64 / verdict.clips.len().max(1) as f64);
        self.losses.push(verdict.losses);
        self.rank = verdict.rank;
        self.seconds += verdict.seconds;
        self.parameters = verdict.parameters;
        self.adapter_bytes = self.adapter_bytes.max(verdict.adapter_bytes);
        self.arena_bytes = self.arena_bytes.max(verdict.arena_bytes);
        self.error = self.error.max(verdict.error);
        self.first = self.first.take().or(verdict.adapter);
    }

    /// Measures an inference with the adapter of the first run, when nothing trains beside it.
    pub(super) fn measure(&mut self, plan: PlanView<'_>, target: &impl Backend) -> Result<(), CliError> {
        let Some(bytes) = self.first.take() else { return Ok(()) };
        let file = ArtifactFile::from_bytes(self.candidate.name, &bytes).kept_for(target)?;
        self.latency = Some(Latency::measure(plan, target, file.attach(&plan)?)?);
        Ok(())
    }
}

/// Whether another method could do without `error`.
fn is_about_the_method(error: &CliError) -> bool {
    matches!(
        error,
        CliError::Method(_)
            | CliError::Train(_)
            | CliError::Export(_)
            | CliError::NoSites
            | CliError::NotAdapted
            | CliError::TrainerMemory { .. }
            | CliError::TooManyParameters { .. }
    )
}
