//! One method of a study, over all runs.

use std::collections::BTreeMap;
use std::time::Instant;

use ingraft_dataset::Dataset;
use ingraft_dataset::stats::{Confusion, Tally};
use ingraft_exec::MemoryNeeds;
use ingraft_kernel::Host;
use ingraft_plan::{Phase, PlanView};

use super::latency::Latency;
use super::size;
use crate::aligned::AlignedBytes;
use crate::command::eval::classify;
use crate::command::train::candidate::{Candidate, Terms};
use crate::input::{Feed, Reader};
use crate::plan_file::ArtifactFile;
use crate::predict::Predictor;
use crate::threads::ONE;
use crate::training::{Lessons, Trained};
use crate::{CliError, Console};

/// The test clips of a run.
pub(super) struct Judged {
    /// By clip: its number in the data set, its class, what a plan is fed.
    clips: Vec<(usize, usize, Feed)>,
}

impl Judged {
    /// Reads the clips `items`.
    pub(super) fn read(reader: &Reader<'_>, dataset: &Dataset, items: &[usize]) -> Result<Self, CliError> {
        let labels = dataset.labels()?;
        let clip = |&item: &usize| {
            let label = labels.get(item).copied().unwrap_or(usize::MAX);
            Ok((item, label, reader.item(dataset, item)?))
        };
        Ok(Self { clips: items.iter().map(clip).collect::<Result<_, CliError>>()? })
    }
}

/// A method and what its runs gave.
pub(super) struct Arm<'a> {
    candidate: Candidate<'a>,
    classes: &'a [String],
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

    /// Trains the method on `lessons` and judges its adapter; a refusal is kept, other errors are passed on.
    ///
    /// # Errors
    /// Those that are not about the method: clips that cannot be read, a defect of the plan.
    pub(super) fn run(
        &mut self,
        terms: &Terms<'_>,
        lessons: &Lessons<'_>,
        judged: &Judged,
        budget: Option<usize>,
    ) -> Result<(), CliError> {
        match self.train(terms, lessons, budget) {
            Ok((trained, memory)) => self.judge(terms, &trained, memory, judged),
            Err(error) if is_about_the_method(&error) => {
                self.refusal = Some(error);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Gives what was trained, and the most memory that took.
    fn train(
        &mut self,
        terms: &Terms<'_>,
        lessons: &Lessons<'_>,
        budget: Option<usize>,
    ) -> Result<(Trained, usize), CliError> {
        if let (Some(budget), None) = (budget, self.rank) {
            self.rank = size::rank(&self.candidate, terms, budget)?;
        }
        let rank = self.rank.map(|rank| rank.to_string());
        let mut candidate =
            Candidate { name: self.candidate.name, settings: self.candidate.settings.clone() };
        candidate.settings.extend(rank.as_deref().map(|rank| ("rank", rank)));
        // The study draws the one bar there is.
        let (mut data, mut messages) = (std::io::sink(), std::io::sink());
        let console = Console::new(std::io::empty(), &mut data, &mut messages);
        let started = Instant::now();
        let (trainee, measured) = candidate.prepare(terms, lessons, &console)?;
        let course = terms.course_of(&trainee);
        let needed = course.memory(&terms.plan, terms.target)?.total();
        terms.check(needed)?;
        let trained = course.train(terms.plan, terms.target, lessons, &console)?;
        budget.map_or(Ok(()), |budget| size::check(trained.parameters, budget))?;
        self.seconds += started.elapsed().as_secs_f64();
        Ok((trained, needed.max(measured)))
    }

    fn judge(
        &mut self,
        terms: &Terms<'_>,
        trained: &Trained,
        memory: usize,
        judged: &Judged,
    ) -> Result<(), CliError> {
        let file = ArtifactFile::from_bytes(self.candidate.name, &trained.bytes);
        let adapter = file.attach(&terms.plan)?;
        let target = ONE.share(*terms.target);
        let mut session = AlignedBytes::zeroed(MemoryNeeds::new(&terms.plan, Phase::Infer, &target)?.total());
        let mut predictor = Predictor::new(terms.plan, &target, Some(adapter), &mut session)?;
        let feeds = judged.clips.iter().map(|(_, _, feed)| Ok(feed.clone()));
        let taken = classify(&mut predictor, self.classes, feeds)?;
        let mut right = 0;
        for ((clip, truth, _), taken) in judged.clips.iter().zip(taken) {
            self.tally.add(*clip, *truth == taken);
            self.confusion.add(*truth, taken);
            right += usize::from(*truth == taken);
        }
        self.accuracies.push(right as f64 / judged.clips.len().max(1) as f64);
        self.first.get_or_insert_with(|| trained.bytes.clone());
        self.losses.push(trained.losses.clone());
        self.parameters = trained.parameters;
        self.adapter_bytes = self.adapter_bytes.max(trained.bytes.len());
        self.arena_bytes = self.arena_bytes.max(memory);
        self.error = trained.sites.iter().map(|site| site.error).fold(self.error, f64::max);
        Ok(())
    }

    /// Measures an inference with the adapter of the first run, when nothing trains beside it.
    pub(super) fn measure(&mut self, plan: PlanView<'_>, target: &Host) -> Result<(), CliError> {
        let Some(bytes) = self.first.take() else { return Ok(()) };
        let file = ArtifactFile::from_bytes(self.candidate.name, &bytes);
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
