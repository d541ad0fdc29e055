//! `ingraft eval`: how often a plan, or an adapter on it, is right.
//!
//! The unit is the clip: the outputs of its patches are joined first. A clip
//! counts as right when the highest score among all classes is that of its own.

use std::path::PathBuf;

use ingraft_dataset::Dataset;
use ingraft_dataset::split::{Split, read_splits};
use ingraft_dataset::stats::{Confusion, auroc, mean_auroc, wilson};
use ingraft_exec::Silent;
use serde::Serialize;

use crate::args::runner_names;
use crate::backend::Backend;
use crate::classes::ClassMap;
use crate::input::{Feed, Reader};
use crate::plan_file::ArtifactFile;
use crate::predict::{Memory, Output, Predictor};
use crate::report::{Table, hex};
use crate::target::run_on;
use crate::threads::ThreadsArg;
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
    #[arg(long, value_name = "NAME", value_parser = runner_names(), default_value = target::NATIVE)]
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
    /// How likely a clip with a label scores higher on it than one without (area under the ROC), the mean over labels;
    /// null where none has both.
    auroc: Option<f64>,
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
    /// The area under the ROC of its score; null without clips of it or without others.
    auroc: Option<f64>,
    /// Its clips.
    n: u64,
}

pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<(), CliError> {
    run_on!(&args.target, args.threads => run_with(args, console))
}

fn run_with<T: Backend>(target: &T, args: &Args, console: &mut Console<'_>) -> Result<(), CliError> {
    let read = |path| ArtifactFile::read_for(target, path);
    let file = read(&args.plan)?;
    let plan = file.plan()?;
    let adapter_file = args.adapter.as_deref().map(read).transpose()?;
    let adapter = adapter_file.as_ref().map(|file| file.attach(&plan)).transpose()?;
    let dataset = Dataset::open(&args.data)?;
    let items = match args.split.read(&dataset)? {
        Some(split) => split.test,
        None => (0..dataset.items().len()).collect(),
    };
    let mut memory = Memory::new(&plan, target)?;
    let mut predictor = Predictor::new(plan, target, adapter, &mut memory)?;
    let judged = evaluate(&mut predictor, &Reader::new(&plan)?, (&dataset, &items), ClassMap::new, console)?;
    let adapter_hash = adapter.map(|adapter| hex(adapter.hash()));
    let report = EvalReport::new(&judged, &dataset, target.name(), hex(plan.hash()), adapter_hash);
    if args.json { console.json(&report) } else { console.line(report.tables()) }
}

/// How clips were judged.
#[derive(Debug)]
pub(super) struct Judged {
    /// What they were taken for.
    pub(super) confusion: Confusion,
    /// The scores of every class, clip by clip.
    scores: Vec<f32>,
    labels: Vec<Vec<usize>>,
}

impl Judged {
    /// The mean area under the ROC over classes.
    pub(super) fn auroc(&self) -> Option<f64> {
        mean_auroc(&self.scores, &self.labels, self.confusion.classes())
    }

    /// The area under the ROC of class `class`.
    fn auroc_of(&self, class: usize) -> Option<f64> {
        let classes = self.confusion.classes().max(1);
        let scores: Vec<f32> = self.scores.iter().skip(class).step_by(classes).copied().collect();
        let has: Vec<bool> = self.labels.iter().map(|labels| labels.contains(&class)).collect();
        auroc(&scores, &has)
    }
}

/// Finds classes of the data among so many scores with these labels.
pub(super) type Naming = fn(&[String], &[String], usize) -> Result<ClassMap, CliError>;

/// Runs the clips `items` and counts what they are taken for, where `naming` finds their classes.
pub(super) fn evaluate(
    predictor: &mut Predictor<'_, '_, impl Backend>,
    reader: &Reader<'_>,
    (dataset, items): (&Dataset, &[usize]),
    naming: Naming,
    console: &Console<'_>,
) -> Result<Judged, CliError> {
    let classes = dataset.classes();
    let mut judged =
        Judged { confusion: Confusion::new(classes.len()), scores: Vec::new(), labels: Vec::new() };
    let bar = console.bar(items.len(), "evaluating");
    let feeds = items.iter().map(|&item| {
        bar.inc(1);
        reader.item(dataset, item)
    });
    let labels = |item: &usize| dataset.items().get(*item).map_or(&[][..], |item| &item.labels);
    let mut labels = items.iter().map(labels);
    judge(predictor, (classes, naming), feeds, |map, output| {
        let labels = labels.next().unwrap_or(&[]);
        judged.scores.extend(map.count(labels, output, &mut judged.confusion)?);
        judged.labels.push(labels.to_vec());
        Ok(())
    })?;
    bar.finish_and_clear();
    Ok(judged)
}

/// The one of `classes` that each clip is taken for; `usize::MAX` for a class of the model's that is none of them.
pub(super) fn classify(
    predictor: &mut Predictor<'_, '_, impl Backend>,
    classes: &[String],
    feeds: impl Iterator<Item = Result<Feed, CliError>>,
) -> Result<Vec<usize>, CliError> {
    let mut taken = Vec::new();
    judge(predictor, (classes, ClassMap::new), feeds, |map, output| {
        taken.push(map.class(output)?);
        Ok(())
    })?;
    Ok(taken)
}

/// Runs clips and hands each output to `each`, with where the scores of `classes` stand in it.
fn judge(
    predictor: &mut Predictor<'_, '_, impl Backend>,
    (classes, naming): (&[String], Naming),
    feeds: impl Iterator<Item = Result<Feed, CliError>>,
    mut each: impl FnMut(&ClassMap, &Output) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let mut map = None;
    for feed in feeds {
        let outputs = predictor.run(&feed?, &mut Silent)?;
        let output = outputs.first().ok_or(CliError::NotAClassifier)?;
        let map = match &mut map {
            Some(map) => map,
            None => {
                let scores = output.array.shape().last().copied().unwrap_or(0);
                map.insert(naming(classes, &output.labels, scores)?)
            }
        };
        each(map, output)?;
    }
    Ok(())
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
        judged: &Judged,
        dataset: &Dataset,
        target: &'static str,
        base_hash: String,
        adapter_hash: Option<String>,
    ) -> Self {
        let confusion = &judged.confusion;
        let interval = wilson(confusion.correct(), confusion.total());
        let confusion_rows = confusion.rows();
        let accuracies = confusion.per_class().into_iter().zip(&confusion_rows);
        let per_class = dataset.classes().iter().zip(accuracies).enumerate();
        let per_class = per_class.map(|(index, (class, (accuracy, row)))| ClassReport {
            class: class.clone(),
            accuracy,
            auroc: judged.auroc_of(index),
            n: row.iter().sum(),
        });
        Self {
            accuracy: confusion.accuracy(),
            interval: interval.map_or([0.0, 1.0], |interval| [interval.low, interval.high]),
            auroc: judged.auroc(),
            n: confusion.total(),
            per_class: per_class.collect(),
            confusion: confusion_rows,
            target,
            base_hash,
            adapter_hash,
        }
    }

    fn tables(&self) -> String {
        let mut table = Table::new(["class", "clips", "accuracy", "AUROC", "taken for"]);
        for (truth, (class, row)) in self.per_class.iter().zip(&self.confusion).enumerate() {
            let name = |predicted: usize| {
                self.per_class.get(predicted).map_or("other", |class| class.class.as_str())
            };
            let wrong =
                row.iter().enumerate().filter(|&(predicted, count)| predicted != truth && *count != 0);
            let wrong: Vec<String> =
                wrong.map(|(predicted, count)| format!("{} {count}", name(predicted))).collect();
            let share = |share: Option<f64>| share.map_or(String::new(), |share| format!("{share:.3}"));
            let (accuracy, auroc) = (share(class.accuracy), share(class.auroc));
            table.row([class.class.clone(), class.n.to_string(), accuracy, auroc, wrong.join(", ")]);
        }
        let [low, high] = self.interval;
        let auroc = self.auroc.map_or(String::new(), |auroc| format!(", AUROC {auroc:.4}"));
        let (accuracy, n) = (self.accuracy, self.n);
        format!("{table}\n\naccuracy {accuracy:.4} of {n} clips (95 %: {low:.3} to {high:.3}){auroc}")
    }
}
