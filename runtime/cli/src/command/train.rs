//! `ingraft train`: an adapter from labelled clips.
//!
//! Views of each clip (the clip itself and seeded augmentations of it) are run
//! through the frozen part of the network once and kept; epochs then train on
//! them, and the parameters of the best epoch become the adapter. The accuracy
//! reported is that of the adapter file as deployed: of the test side of
//! `--split`, or of the training clips where there is none.

pub(super) mod candidate;
mod forgetting;
pub(super) mod lessons;
mod memory;
pub(super) mod options;
pub(super) mod private;
mod replay;
pub(super) mod stack;

use std::path::PathBuf;

use clap::ValueEnum;
use ingraft_adapter::Adapter;
use ingraft_dataset::Dataset;
use ingraft_dataset::stats::wilson;
use ingraft_import::Tensors;
use ingraft_kernel::Host;
use ingraft_method::DeltaFormat;
use ingraft_plan::PlanView;
use ingraft_train::Readout;
use serde::Serialize;

use super::eval::{Judged, Naming, SplitArgs, evaluate};
#[cfg(feature = "compile")]
use super::import::initializers;
use crate::args::runner_names;
use crate::backend::Backend;
use crate::classes::ClassMap;
use crate::input::Reader;
use crate::plan_file::{ArtifactFile, check_folder, write_whole};
use crate::predict::{Memory, Predictor};
use crate::report::{Table, bytes, hex};
use crate::training::{Checkpoint, Course, Feeds, Kept, Lessons, SiteChoice, Trained};
use crate::{CliError, Console, target};

use candidate::Terms;
use forgetting::{Forgetting, OldArgs};
use lessons::Source;
pub(super) use memory::MemoryReport;
use options::{AugmentArgs, CourseArgs, MethodArgs};
use private::{Beside, PrivacyReport, PrivateArgs};
use replay::{Mixture, ReplayArgs, ReplayReport, joined};
use stack::Stack;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The plan, compiled with --train-from.
    #[arg(value_name = "BASE.plan")]
    plan: PathBuf,
    /// One folder per class, or labels.csv with files or features.npy.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where to write the adapter.
    #[arg(short, long, value_name = "A.adapter")]
    output: PathBuf,
    /// Leave the method's own tensors out of the file: what is needed to run the adapter, not to export it or train on.
    #[arg(long)]
    terms_only: bool,
    /// How deltas of whole int8 weights are written: as another int8 weight, as two factors of rank 8 beside the base's,
    /// or as those where rounding would lose more than a tenth of the delta and they lose less.
    #[arg(long, value_name = "FORM", value_enum, default_value = "auto")]
    deltas: Deltas,
    /// The float model the plan was compiled from, for methods that start from the error of its rounding.
    #[cfg(feature = "compile")]
    #[arg(long, value_name = "MODEL.onnx")]
    onnx: Option<PathBuf>,
    /// Keep the run in this file after every epoch.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Go on with the run in the checkpoint file, where there is one: to the same adapter as without the interruption.
    #[arg(long, requires = "checkpoint")]
    resume: bool,
    /// Most bytes the trainer may take; refused beforehand, with how many are missing, where they do not suffice.
    #[arg(long, value_name = "BYTES")]
    memory: Option<usize>,
    #[command(flatten)]
    method: MethodArgs,
    #[command(flatten)]
    course: CourseArgs,
    #[command(flatten)]
    private: PrivateArgs,
    #[command(flatten)]
    augment: AugmentArgs,
    #[command(flatten)]
    split: SplitArgs,
    #[command(flatten)]
    old: OldArgs,
    #[command(flatten)]
    replay: ReplayArgs,
    /// Where to train.
    #[arg(long, value_name = "NAME", value_parser = runner_names(), default_value = target::NATIVE)]
    target: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What `train --json` prints.
#[derive(Debug, Serialize)]
struct TrainReport {
    /// Share of clips that the adapter gets right, as deployed.
    accuracy: f64,
    /// 95 % interval of the accuracy over clips (Wilson).
    interval: [f64; 2],
    /// The mean area under the ROC over labels; null where none has clips with and without it.
    auroc: Option<f64>,
    /// The clips that `accuracy` is about: `test` with a split file, else `train`.
    accuracy_of: &'static str,
    /// Number of those clips.
    n: u64,
    /// What became of the classes known before; null without --old.
    forgetting: Option<Forgetting>,
    /// What was learned again, and what is kept for later; null without --replay.
    replay: Option<ReplayReport>,
    /// What it promises of privacy; null without --private.
    privacy: Option<PrivacyReport>,
    /// Number of clips learned from.
    train_clips: usize,
    /// Versions of each.
    views: u32,
    /// The criterion of early stopping at the parameters kept.
    loss: f32,
    /// Epochs run.
    epochs: u32,
    /// Steps of the optimizer.
    steps: u32,
    /// Values trained, the head's included.
    trained_parameters: usize,
    /// Bytes of the adapter file.
    adapter_bytes: usize,
    /// Bytes of memory the trainer was given: exact, and known before the first step.
    arena_bytes: usize,
    /// What they are for.
    memory: MemoryReport,
    /// What moved the terms of sites, step by step: a device that runs this optimizer itself, or `host`; null without a device.
    moved_by: Option<&'static str>,
    /// Time of training: reading clips, views, epochs, export.
    seconds: f64,
    /// Content hash of the base.
    base_hash: String,
    /// Content hash of the adapter.
    adapter_hash: String,
    /// The trained sites.
    sites: Vec<SiteReport>,
}

/// One trained site.
#[derive(Debug, Serialize)]
struct SiteReport {
    /// Its name.
    name: String,
    /// Relative error of the written delta against the trained one (Frobenius).
    error: f64,
    /// What it is of a whole delta as a fused weight, if that was tried.
    fused_error: Option<f64>,
    /// What it is of a whole delta as two factors, if that was tried.
    two_factor_error: Option<f64>,
}

impl Args {
    #[cfg(feature = "compile")]
    fn floats(&self) -> Result<Tensors, CliError> {
        initializers(self.onnx.as_ref())
    }

    #[cfg(not(feature = "compile"))]
    fn floats(&self) -> Result<Tensors, CliError> {
        Ok(Tensors::new())
    }
}

/// How deltas of whole weights are written.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Deltas {
    Auto,
    Fused,
    TwoFactor,
}

impl From<Deltas> for DeltaFormat {
    fn from(deltas: Deltas) -> Self {
        match deltas {
            Deltas::Auto => Self::Auto,
            Deltas::Fused => Self::Fused,
            Deltas::TwoFactor => Self::TwoFactor(Self::AUTO_RANK),
        }
    }
}

pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<(), CliError> {
    check_folder(&args.output)?;
    target::run_beside!(&args.target => run_on(args, console))
}

/// Trains on `target`; what is measured beforehand is measured on `host`.
fn run_on<T: Backend>(
    target: &T,
    host: &Host,
    args: &Args,
    console: &mut Console<'_>,
) -> Result<(), CliError> {
    let file = ArtifactFile::read_for(target, &args.plan)?;
    let plan = file.plan()?;
    let dataset = Dataset::open(&args.data)?;
    let Sides { learned, judged, accuracy_of } = args.sides(&dataset)?;
    let (augment, views) = args.augment.recipe(&args.course)?;
    let reader = Reader::new(&plan)?;
    let from = args.method.from.as_ref().map(|path| ArtifactFile::read(path)).transpose()?;
    let on = args.method.on.as_ref().map(|path| ArtifactFile::read(path)).transpose()?;
    let stack = match (&from, &on) {
        (Some(from), _) => Stack::from(&plan, from, console)?,
        (None, Some(on)) => Some(Stack::on(&plan, on, &args.output, console)?),
        (None, None) => None,
    };
    let start = match &stack {
        Some(stack) => from.map(|_| stack.trained()),
        None => from,
    };
    let start = start.as_ref().map(|file| file.attach(&plan)).transpose()?;
    let candidate = args.method.candidate(start.as_ref())?;
    let replay = args.replay.open(&plan, args.course.takes_several())?;
    let classes = joined(replay.as_ref(), dataset.classes());
    let readout = args.method.place.readout(&plan, classes.len())?;
    args.course.check(readout)?;
    let on = stack.as_ref().map(|stack| stack.stacked(&plan)).transpose()?;
    let beside = Beside {
        course: &args.course,
        candidate: &candidate,
        augment: &augment,
        from: start.as_ref(),
        on: stack.is_some(),
        checkpoint: args.checkpoint.is_some(),
        replay: replay.is_some(),
        useful: matches!(args.method.place.sites(), Some(SiteChoice::Useful)),
    };
    let groups = dataset.groups();
    let private = args.private.private(&beside, (&dataset, &learned), &groups, console)?;
    let source = Source::new(&reader, &dataset, &learned, augment, args.course.seed())?;
    let known = args.old.judge((plan, host), &reader, console)?;
    let map = class_map(&plan, readout, dataset.classes(), &classes)?;
    let (mut labels, mut groups) = source.labels(&map, args.course.takes_several())?;
    let mixture = Mixture::new(&source, learned.len(), replay, console)?;
    let again: Vec<String> = mixture.classes().map(str::to_owned).collect();
    mixture.label(&class_map(&plan, readout, &again, &classes)?, &mut labels, &mut groups);
    let lessons = Lessons {
        labels: &labels,
        groups: &groups,
        classes: &classes,
        clips: &mixture,
        provenance: args.provenance(start.as_ref()),
        parameters: !args.terms_only,
        deltas: args.deltas.into(),
    };
    let subspace = args.course.subspace();
    let floats = args.floats()?;
    let terms = Terms {
        plan,
        floats: &floats,
        target: host,
        place: &args.method.place,
        readout,
        course: &args.course,
        optimizer: args.course.optimizer(subspace.as_ref()),
        views,
        seed: args.course.seed(),
        from: start.as_ref(),
        on: on.as_ref(),
        private: private.as_ref(),
        memory: args.memory,
    };
    let trainee = {
        // What is measured asks for the same clips again and again.
        let kept = Kept::default();
        let clips = Feeds::new(lessons.clips, &kept);
        let measured = Lessons { clips: &clips, provenance: String::new(), ..lessons };
        candidate.prepare(&terms, &measured, console)?.0
    };
    let resume = args.resume;
    let checkpoint = args.checkpoint.clone().map(|path| Checkpoint { path, resume });
    let course = Course { checkpoint, ..terms.course_of(&trainee) };
    let memory = course.memory(&plan, target)?;
    terms.check(memory.total())?;
    console.note(format_args!(
        "training {} of {} sites on {} clips of {} classes; memory {}, and {} a patch and view",
        candidate.name,
        trainee.sites(),
        labels.len(),
        classes.len(),
        bytes(memory.total()),
        bytes(memory.cached_patch)
    ));
    if let Some(adapter) = &start {
        let head = if course.continues_head(adapter, &lessons) { "and its head" } else { "and a new head" };
        console.note(format_args!("going on from {} {head}", hex(adapter.hash())));
    }
    let trained = course.train(plan, target, &lessons, console)?;
    write_whole(&args.output, &trained.bytes)?;
    let file = ArtifactFile::from_bytes("the trained adapter", &trained.bytes);
    let judged =
        deployed((plan, target), Some(&file), &reader, ((&dataset, &judged), ClassMap::new), console)?;
    let after = |known: forgetting::Known| known.after((plan, host), &file, &reader, console);
    let forgetting = known.map(after).transpose()?;
    let replay = mixture.keep(&dataset, &learned, args.course.seed())?;
    let report = TrainReport {
        forgetting,
        replay,
        ..TrainReport::new(&trained, &judged, &plan, (labels.len(), views), accuracy_of)?
    };
    if args.json { console.json(&report) } else { console.line(report.text()) }
}

/// The score that each of `classes` trains, where a head is trained for `all`.
pub(super) fn class_map(
    plan: &PlanView<'_>,
    readout: Readout,
    classes: &[String],
    all: &[String],
) -> Result<ClassMap, CliError> {
    let Readout::Logits = readout else { return ClassMap::new(classes, all, all.len()) };
    let output = plan.outputs().next().ok_or(CliError::NotAClassifier)?;
    let labels: Vec<String> = output.labels.lines().map(str::to_owned).collect();
    let shape = plan.tensor(output.tensor).map(|tensor| tensor.operand.shape);
    let scores = shape.and_then(|shape| shape.dims().last().copied()).unwrap_or(0) as usize;
    ClassMap::new(classes, &labels, scores)
}

/// Judges the adapter file, or the base without one, as `eval` does.
fn deployed<T: Backend>(
    (plan, target): (PlanView<'_>, &T),
    file: Option<&ArtifactFile>,
    reader: &Reader<'_>,
    (clips, naming): ((&Dataset, &[usize]), Naming),
    console: &Console<'_>,
) -> Result<Judged, CliError> {
    let kept = file.map(|file| file.kept_for(target)).transpose()?;
    let adapter = kept.as_ref().map(|file| file.attach(&plan)).transpose()?;
    let mut memory = Memory::new(&plan, target)?;
    let mut predictor = Predictor::new(plan, target, adapter, &mut memory)?;
    evaluate(&mut predictor, reader, clips, naming, console)
}

/// Clips by what they are for.
struct Sides {
    learned: Vec<usize>,
    judged: Vec<usize>,
    /// What the judged ones are called.
    accuracy_of: &'static str,
}

impl Args {
    /// The sides of the split asked for, or all clips twice.
    fn sides(&self, dataset: &Dataset) -> Result<Sides, CliError> {
        if let Some(split) = self.split.read(dataset)? {
            return Ok(Sides { learned: split.train, judged: split.test, accuracy_of: "test" });
        }
        let all: Vec<usize> = (0..dataset.items().len()).collect();
        Ok(Sides { learned: all.clone(), judged: all, accuracy_of: "train" })
    }

    /// How the adapter came to be, for its record.
    fn provenance(&self, from: Option<&Adapter<'_>>) -> String {
        let split = self.split.describe().unwrap_or_default();
        let from = from.map_or(String::new(), |adapter| format!(" --from {}", hex(&adapter.hash()[..8])));
        let version = env!("CARGO_PKG_VERSION");
        if self.private.private {
            // Names of folders may tell whose clips they hold.
            return format!("ingraft {version} train --private{from}");
        }
        let replay = self.replay.describe();
        format!("ingraft {version} train --data {}{split}{from}{replay}", self.data.display())
    }
}

impl TrainReport {
    fn new(
        trained: &Trained,
        judged: &Judged,
        plan: &PlanView<'_>,
        (train_clips, views): (usize, u32),
        accuracy_of: &'static str,
    ) -> Result<Self, CliError> {
        let file = ArtifactFile::from_bytes("the trained adapter", &trained.bytes);
        let confusion = &judged.confusion;
        let interval = wilson(confusion.correct(), confusion.total());
        let site = |site: &ingraft_method::SiteReport| SiteReport {
            name: site.name.clone(),
            error: site.error,
            fused_error: site.fused_error,
            two_factor_error: site.two_factor_error,
        };
        Ok(Self {
            accuracy: confusion.accuracy(),
            interval: interval.map_or([0.0, 1.0], |interval| [interval.low, interval.high]),
            auroc: judged.auroc(),
            accuracy_of,
            n: confusion.total(),
            forgetting: None,
            replay: None,
            privacy: file.adapter()?.privacy().map(PrivacyReport::from),
            train_clips,
            views,
            loss: trained.loss,
            epochs: trained.epochs,
            steps: trained.steps,
            trained_parameters: trained.parameters,
            adapter_bytes: trained.bytes.len(),
            arena_bytes: trained.memory.total(),
            memory: MemoryReport::new(&trained.memory),
            moved_by: trained.moved_by,
            seconds: trained.seconds,
            base_hash: hex(plan.hash()),
            adapter_hash: hex(file.adapter()?.hash()),
            sites: trained.sites.iter().map(site).collect(),
        })
    }

    /// The table, and under it that of old classes, where there are any.
    fn text(&self) -> String {
        let table = self.table();
        self.forgetting.as_ref().map_or(table.to_string(), |old| format!("{table}\n\n{}", old.table()))
    }

    fn table(&self) -> Table {
        let [low, high] = self.interval;
        let mut table = Table::new(["trained", ""]);
        let mut line = |name: &str, value: String| table.row([name.to_owned(), value]);
        let accuracy = format!(
            "{:.4} of {} {} clips (95 %: {low:.3} to {high:.3})",
            self.accuracy, self.n, self.accuracy_of
        );
        line("accuracy", accuracy);
        if let Some(auroc) = self.auroc {
            line("AUROC", format!("{auroc:.4}"));
        }
        if let Some(privacy) = &self.privacy {
            line("privacy", privacy.summary());
        }
        if let Some(forgetting) = &self.forgetting {
            line("old classes", forgetting.summary());
        }
        if let Some(replay) = &self.replay {
            line("replay", replay.summary());
        }
        line("loss", format!("{:.4} after {} epochs, {} steps", self.loss, self.epochs, self.steps));
        line("parameters", format!("{} at {} sites and the head", self.trained_parameters, self.sites.len()));
        line("adapter", format!("{} {}", bytes(self.adapter_bytes), self.adapter_hash));
        let whole =
            self.sites.iter().filter_map(|site| Some((site.error, site.fused_error?, site.two_factor_error)));
        if let Some((error, fused, factors)) = whole.max_by(|a, b| a.0.total_cmp(&b.0)) {
            let factors = factors.map_or(String::new(), |error| format!(", as two factors {error:.3}"));
            line("deltas", format!("{error:.3} apart at most; as a fused weight {fused:.3}{factors}"));
        }
        line("memory", bytes(self.arena_bytes));
        if let Some(moved_by) = self.moved_by {
            line("optimizer on", moved_by.to_owned());
        }
        line("time", format!("{:.1} s", self.seconds));
        table
    }
}
