//! `ingraft eval`: how often a plan, or an adapter on it, is right.
//!
//! The unit is the clip: the outputs of its patches are joined first. A clip
//! counts as right when the highest score among all classes is that of its own.

use std::path::PathBuf;

use ingraft_dataset::Dataset;
use ingraft_dataset::split::{Split, read_splits};
use ingraft_dataset::stats::{Confusion, wilson};
use ingraft_exec::{MemoryNeeds, Silent};
use ingraft_kernel::Target;
use ingraft_plan::Phase;
use serde::Serialize;

use crate::aligned::AlignedBytes;
use crate::args::target_names;
use crate::classes::ClassMap;
use crate::input::{Feed, Reader};
use crate::plan_file::ArtifactFile;
use crate::predict::Predictor;
use crate::report::{Table, hex};
use crate::threads::{Threads, ThreadsArg};
use crate::{CliError, Console, target};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The plan.
    #[arg(value_name = "BASE.plan")]
    plan: PathBuf,
    /// One folder per class, or labels.csv with files or features.npy.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Evaluate this adapter.
    #[arg(long, value_name = "A.adapter")]
    adapter: Option<PathBuf>,
    #[command(flatten)]
    split: SplitArgs,
    /// Where to run.
    #[arg(long, value_name = "NAME", value_parser = target_names(), default_value = target::NATIVE)]
    target: String,
    #[command(flatten)]
    threads: ThreadsArg,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Which clips are learned from, and which are judged.
#[derive(Debug, clap::Args)]
pub(super) struct SplitArgs {
    /// A split file: learn from its training side and judge its test side, instead of all clips.
    #[arg(long, value_name = "FILE")]
    split: Option<PathBuf>,
    /// Which fold of the split file is tested.
    #[arg(long, value_name = "K", requires = "split", default_value_t = 0)]
    fold: usize,
}

/// What `eval --json` prints.
#[derive(Debug, Serialize)]
struct EvalReport {
    /// Share of clips that were right.
    accuracy: f64,
    /// 95 % interval of the accuracy over clips (Wilson).
    interval: [f64; 2],
    /// Clips judged.
    n: u64,
    /// Every class.
    per_class: Vec<ClassReport>,
    /// Clips by true class, then by predicted class; the last column counts
    /// predictions that are no class of the data.
    confusion: Vec<Vec<u64>>,
    /// The target's name.
    target: &'static str,
    /// Content hash of the base.
    base_hash: String,
    /// Content hash of the adapter; null for the base alone.
    adapter_hash: Option<String>,
}

/// One class in `eval --json`.
#[derive(Debug, Serialize)]
struct ClassReport {
    /// Its name.
    class: String,
    /// Share of its clips that were right; null without clips.
    accuracy: Option<f64>,
    /// Its clips.
    n: u64,
}

pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<(), CliError> {
    let file = ArtifactFile::read(&args.plan)?;
    let plan = file.plan()?;
    let host = target::find(&args.target)?;
    let threads = Threads::new(args.threads)?;
    let target = threads.share(host);
    let adapter_file = args.adapter.as_deref().map(ArtifactFile::read).transpose()?;
    let adapter = adapter_file.as_ref().map(|file| file.attach(&plan)).transpose()?;
    let dataset = Dataset::open(&args.data)?;
    let items = match args.split.read(&dataset)? {
        Some(split) => split.test,
        None => (0..dataset.items().len()).collect(),
    };
    let needs = MemoryNeeds::new(&plan, Phase::Infer, &target)?;
    let mut memory = AlignedBytes::zeroed(needs.total());
    let mut predictor = Predictor::new(plan, &target, adapter, &mut memory)?;
    let confusion = evaluate(&mut predictor, &Reader::new(&plan)?, &dataset, &items, console)?;
    let adapter_hash = adapter.map(|adapter| hex(adapter.hash()));
    let report = EvalReport::new(&confusion, &dataset, target.name(), hex(plan.hash()), adapter_hash);
    if args.json { console.json(&report) } else { console.line(report.tables()) }
}

/// Runs the clips `items` and counts what they are taken for.
pub(super) fn evaluate(
    predictor: &mut Predictor<'_, '_>,
    reader: &Reader<'_>,
    dataset: &Dataset,
    items: &[usize],
    console: &Console<'_>,
) -> Result<Confusion, CliError> {
    let (labels, classes) = (dataset.labels()?, dataset.classes());
    let bar = console.bar(items.len(), "evaluating");
    let feeds = items.iter().map(|&item| {
        bar.inc(1);
        reader.item(dataset, item)
    });
    let taken = classify(predictor, classes, feeds)?;
    bar.finish_and_clear();
    let mut confusion = Confusion::new(classes.len());
    let truths = items.iter().map(|&item| labels.get(item).copied().unwrap_or(usize::MAX));
    truths.zip(taken).for_each(|(truth, taken)| confusion.add(truth, taken));
    Ok(confusion)
}

/// The one of `classes` that each clip is taken for; `usize::MAX` for a class of the model's that is none of them.
pub(super) fn classify(
    predictor: &mut Predictor<'_, '_>,
    classes: &[String],
    feeds: impl Iterator<Item = Result<Feed, CliError>>,
) -> Result<Vec<usize>, CliError> {
    let mut map = None;
    let mut class = |feed: Result<Feed, CliError>| {
        let outputs = predictor.run(&feed?, &mut Silent)?;
        let output = outputs.first().ok_or(CliError::NotAClassifier)?;
        let map = match &mut map {
            Some(map) => map,
            None => {
                let scores = output.array.shape().last().copied().unwrap_or(0);
                map.insert(ClassMap::new(classes, &output.labels, scores)?)
            }
        };
        map.class(output)
    };
    feeds.map(&mut class).collect()
}

impl SplitArgs {
    /// The split asked for; `None` when there is none.
    pub(super) fn read(&self, dataset: &Dataset) -> Result<Option<Split>, CliError> {
        let Some(path) = self.split.as_deref() else { return Ok(None) };
        let mut splits = read_splits(path, dataset.items().iter().map(|item| item.path.as_str()))?;
        if self.fold >= splits.len() {
            return Err(CliError::NoSuchFold { fold: self.fold, folds: splits.len() });
        }
        Ok(Some(splits.swap_remove(self.fold)))
    }

    /// The split and fold, as part of a sentence.
    pub(super) fn describe(&self) -> Option<String> {
        self.split.as_deref().map(|path| format!(" --split {} --fold {}", path.display(), self.fold))
    }
}

impl EvalReport {
    fn new(
        confusion: &Confusion,
        dataset: &Dataset,
        target: &'static str,
        base_hash: String,
        adapter_hash: Option<String>,
    ) -> Self {
        let interval = wilson(confusion.correct(), confusion.total());
        let rows = (0..confusion.classes()).map(|truth| {
            (0..=confusion.classes()).map(|predicted| confusion.count(truth, predicted)).collect::<Vec<u64>>()
        });
        let confusion_rows: Vec<Vec<u64>> = rows.collect();
        let class = |((class, accuracy), row): ((&String, Option<f64>), &Vec<u64>)| ClassReport {
            class: class.clone(),
            accuracy,
            n: row.iter().sum(),
        };
        let per_class = dataset.classes().iter().zip(confusion.per_class()).zip(&confusion_rows).map(class);
        Self {
            accuracy: confusion.accuracy(),
            interval: interval.map_or([0.0, 1.0], |interval| [interval.low, interval.high]),
            n: confusion.total(),
            per_class: per_class.collect(),
            confusion: confusion_rows,
            target,
            base_hash,
            adapter_hash,
        }
    }

    fn tables(&self) -> String {
        let mut table = Table::new(["class", "clips", "accuracy", "taken for"]);
        for (truth, (class, row)) in self.per_class.iter().zip(&self.confusion).enumerate() {
            let name = |predicted: usize| {
                self.per_class.get(predicted).map_or("other", |class| class.class.as_str())
            };
            let wrong =
                row.iter().enumerate().filter(|&(predicted, count)| predicted != truth && *count != 0);
            let wrong: Vec<String> =
                wrong.map(|(predicted, count)| format!("{} {count}", name(predicted))).collect();
            let accuracy = class.accuracy.map_or(String::new(), |accuracy| format!("{accuracy:.3}"));
            table.row([class.class.clone(), class.n.to_string(), accuracy, wrong.join(", ")]);
        }
        let [low, high] = self.interval;
        format!("{table}\n\naccuracy {:.4} of {} clips (95 %: {low:.3} to {high:.3})", self.accuracy, self.n)
    }
}
