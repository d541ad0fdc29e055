//! `ingraft study`: adaptation methods trained side by side, under one budget.
//!
//! Every method gets the same sites, head, clips, versions, epochs, rates and schedule, and is judged as deployed: by its
//! adapter file in a fresh session, on the test clips of every fold and seed. A method that cannot be used on these
//! sites is a row with its reason.

mod arm;
mod kept;
mod latency;
mod page;
mod plot;
mod queue;
mod report;
mod size;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use clap::builder::PossibleValuesParser;
use ingraft_dataset::split::{read_splits, stratified_folds};
use ingraft_dataset::{Dataset, Split};
use ingraft_import::Tensors;
use ingraft_kernel::Host;
use ingraft_method::{DeltaFormat, METHODS};
use ingraft_plan::PlanView;
use ingraft_tensor::hash::blake3;

use super::train::candidate::{Candidate, Terms};
use super::train::class_map;
use super::train::lessons::Source;
use super::train::options::{AugmentArgs, CourseArgs, PlaceArgs};
use crate::args::{assignment, meant, runner_names};
use crate::backend::Backend;
use crate::input::{Feed, Reader};
use crate::plan_file::{ArtifactFile, check_folder, write_whole};
use crate::report::hex;
use crate::training::{Feeds, Lessons};
use crate::{CliError, Console, target};

use arm::{Arm, Judged, Run};
use kept::{Place, Runs};
use queue::{Queue, Taken};
use report::StudyReport;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The plan, compiled with --train-from.
    #[arg(value_name = "BASE.plan")]
    plan: PathBuf,
    /// One folder per class, or labels.csv with files or features.npy.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The methods, or `all`.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', required = true, value_parser = names())]
    methods: Vec<String>,
    /// A setting of every method that has it, or of one; may be repeated.
    #[arg(long = "set", value_name = "[METHOD.]NAME=VALUE", value_parser = assignment)]
    settings: Vec<(String, String)>,
    /// Most values a method may train, the head's included: the rank of methods that have one becomes the largest that fits.
    #[arg(long, value_name = "N")]
    parameters: Option<usize>,
    /// Most bytes a trainer may take.
    #[arg(long, value_name = "BYTES")]
    memory: Option<usize>,
    /// Deal the clips into this many folds, each the test clips of what the others train; groups stay whole.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(2..))]
    folds: u32,
    /// The folds of this split file instead; several files are so many more runs.
    #[arg(long, value_name = "FILE", conflicts_with = "folds")]
    split: Vec<PathBuf>,
    /// Training seeds for every fold, from --seed on.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// Runs side by side, each of a method on a fold; results do not depend on it.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    course: CourseArgs,
    #[command(flatten)]
    augment: AugmentArgs,
    /// Where to train, and to judge and time what was trained.
    #[arg(long, value_name = "NAME", value_parser = runner_names(), default_value = target::NATIVE)]
    target: String,
    /// Keep every run in this folder and take those that are there, so that a study that was stopped goes on, and one made
    /// on several machines comes together.
    #[arg(long, value_name = "DIR")]
    runs: Option<PathBuf>,
    /// Write one page with the table and plots too.
    #[arg(long, value_name = "PAGE.html")]
    html: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Accepts the names of the adaptation methods, and `all`.
fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(METHODS.iter().map(|row| row.name).chain(["all"]))
}

/// One split with the seed of its runs.
#[derive(Debug)]
struct Fold {
    split: Split,
    seed: u64,
}

pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<(), CliError> {
    args.html.as_deref().map_or(Ok(()), check_folder)?;
    target::run_beside!(&args.target => run_on(args, console))
}

/// Trains, judges and times on `target`; what is measured beforehand is measured on `host`.
fn run_on<T: Backend>(
    target: &T,
    host: &Host,
    args: &Args,
    console: &mut Console<'_>,
) -> Result<(), CliError> {
    let file = ArtifactFile::read_for(target, &args.plan)?;
    let plan = file.plan()?;
    let dataset = Dataset::open(&args.data)?;
    let readout = args.place.readout(&plan, dataset.classes().len())?;
    args.course.check(readout)?;
    let map = class_map(&plan, readout, dataset.classes(), dataset.classes())?;
    let (augment, views) = args.augment.recipe(&args.course)?;
    let reader = Reader::new(&plan)?;
    let folds = args.folds(&dataset)?;
    let floats = Tensors::new();
    let mut arms: Vec<Arm<'_>> =
        args.candidates()?.into_iter().map(|candidate| Arm::new(candidate, dataset.classes())).collect();
    console.note(format_args!(
        "{} methods, {} runs each, {} clips of {} classes",
        arms.len(),
        folds.len(),
        dataset.items().len(),
        dataset.classes().len()
    ));
    let bar = console.bar(folds.len().saturating_mul(arms.len()), "study");
    let labels = dataset.labels()?;
    // Read once for all seeds, and all of them where they tell runs from others.
    let judged = |item: &usize| folds.iter().any(|fold| fold.split.test.contains(item));
    let items = (0..labels.len()).filter(|item| args.runs.is_some() || judged(item));
    let feeds = items.map(|item| Ok((item, reader.item(&dataset, item)?)));
    let feeds: BTreeMap<usize, Feed> = feeds.collect::<Result<_, CliError>>()?;
    let judged = folds.iter().map(|fold| Judged::new(&fold.split.test, &labels, &feeds));
    let judged: Vec<Judged<'_>> = judged.collect();
    let runs = args.runs.as_deref().map(|folder| args.runs(folder, (&plan, target.name()), &dataset, &feeds));
    let runs = runs.transpose()?;
    // Runs are told by fold and method, in whichever order they were made.
    let queue = Mutex::new(Queue::new(folds.len(), arms.len(), args.jobs));
    let made = Mutex::new(BTreeMap::new());
    side_by_side(args.jobs, || {
        let next = || lock(&queue).take();
        while let Some(Taken { fold, arm, kept }) = next() {
            let kept_at = runs.as_ref().map(|runs| runs.place(&arms[arm].candidate, &folds[fold], fold == 0));
            if let Some(verdict) = kept_at.as_ref().and_then(Place::find) {
                lock(&made).insert((fold, arm), Run::Judged(Box::new(verdict)));
                bar.inc(1);
                continue;
            }
            let Fold { split, seed } = &folds[fold];
            let source = Source::new(&reader, &dataset, &split.train, augment.clone(), *seed)?;
            let (labels, groups) = source.labels(&map, false)?;
            let lessons = Lessons {
                labels: &labels,
                groups: &groups,
                classes: dataset.classes(),
                clips: &Feeds::new(&source, &kept),
                provenance: format!(
                    "ingraft {} study --data {}",
                    env!("CARGO_PKG_VERSION"),
                    args.data.display()
                ),
                parameters: false,
                deltas: DeltaFormat::Auto,
            };
            let subspace = args.course.subspace();
            let (place, course, memory) = (&args.place, &args.course, args.memory);
            let optimizer = args.course.optimizer(subspace.as_ref());
            let (floats, seed) = (&floats, *seed);
            let (from, on) = (None, None);
            let terms = Terms {
                plan,
                floats,
                target: host,
                place,
                readout,
                course,
                optimizer,
                views,
                seed,
                from,
                on,
                private: None,
                memory,
            };
            bar.set_message(arms[arm].name().to_owned());
            let started = Instant::now();
            let (terms, judged) = ((&terms, target), &judged[fold]);
            if let Some(run) = arms[arm].run(fold, terms, &lessons, judged, args.parameters)? {
                if let (Some(place), Run::Judged(verdict)) = (&kept_at, &run) {
                    place.keep(verdict)?;
                }
                lock(&made).insert((fold, arm), run);
            }
            lock(&queue).took(arm, started.elapsed().as_secs_f64());
            bar.inc(1);
        }
        Ok(())
    })?;
    for ((_, arm), run) in made.into_inner().unwrap_or_else(PoisonError::into_inner) {
        arms[arm].add(run);
    }
    arms.iter_mut().try_for_each(|arm| arm.measure(plan, target))?;
    bar.finish_and_clear();
    let facts = report::Facts {
        base_hash: hex(plan.hash()),
        target: target.name().to_owned(),
        classes: dataset.classes().to_vec(),
        clips: dataset.items().len(),
        runs: folds.len(),
        epochs: args.course.epochs(),
        views,
    };
    let report = StudyReport::new(facts, arms);
    if let Some(path) = &args.html {
        write_whole(path, page::render(&report).as_bytes())?;
    }
    if args.json { console.json(&report) } else { console.line(report.table()) }
}

/// What a thread that panicked left is of no use, and its panic is passed on in [`side_by_side`].
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does `work` on `threads` threads, this one among them: the first error, if any met one.
fn side_by_side(threads: u16, work: impl Fn() -> Result<(), CliError> + Sync) -> Result<(), CliError> {
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(&work)).collect();
        let own = work();
        others.into_iter().fold(own, |result, other| {
            result.and(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    })
}

impl Args {
    /// The methods with the settings meant for each.
    ///
    /// # Errors
    /// [`CliError::Setting`] for a setting that none of the methods has.
    fn candidates(&self) -> Result<Vec<Candidate<'_>>, CliError> {
        let all = self.methods.iter().any(|name| name == "all");
        let rows = METHODS.iter().filter(|row| all || self.methods.iter().any(|name| name == row.name));
        let all = meant(rows, &self.settings)?.into_iter();
        Ok(all.map(|(row, settings)| Candidate { name: row.name, settings }).collect())
    }

    /// The runs in `folder` that depend on what those of this study do: the plan and all clips, as fed, too.
    ///
    /// # Errors
    /// [`CliError::Io`].
    fn runs<'a>(
        &self,
        folder: &'a Path,
        (plan, target): (&PlanView<'_>, &str),
        dataset: &Dataset,
        feeds: &BTreeMap<usize, Feed>,
    ) -> Result<Runs<'a>, CliError> {
        let clips: Vec<_> = feeds.values().map(|feed| blake3(&feed.runs.concat().concat())).collect();
        let classes = dataset.items().iter().map(|item| &item.labels);
        let facts = format!(
            "{} {} {target} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            env!("CARGO_PKG_VERSION"),
            hex(plan.hash()),
            dataset.classes(),
            classes.collect::<Vec<_>>(),
            self.place,
            self.course.at_any_seed(),
            self.augment,
            self.parameters,
            self.memory,
        );
        Runs::open(folder, &facts, &clips)
    }

    /// Every fold with every seed.
    ///
    /// # Errors
    /// [`CliError::Dataset`], [`CliError::Split`].
    fn folds(&self, dataset: &Dataset) -> Result<Vec<Fold>, CliError> {
        let mut splits = Vec::new();
        for path in &self.split {
            splits.extend(read_splits(path, dataset.items().iter().map(|item| item.path.as_str()))?);
        }
        if self.split.is_empty() {
            let (labels, groups) = (dataset.labels()?, dataset.groups());
            splits = stratified_folds(&labels, &groups, self.folds as usize, self.course.seed())?.splits();
        }
        let seeds = (0..self.seeds).map(|seed| self.course.seed().wrapping_add(seed));
        let fold = |seed| splits.iter().map(move |split| Fold { split: split.clone(), seed });
        Ok(seeds.flat_map(fold).collect())
    }
}
