//! `ingraft demo`: the whole story on the built-in model, in under a minute.
//!
//! Compiles the model, shows its sites and memory, runs it, trains two adapters
//! on sounds synthesized on the spot (or on the clips in `--data`), switches
//! between them thousands of times, and proves that the base is what it was.

mod clips;
mod switching;

use std::path::PathBuf;
use std::time::Instant;

use ingraft_compile::lower::train::TrainFrom;
use ingraft_compile::{CompileError, CompileOptions, ImportOptions, compile};
use ingraft_dataset::stats::Confusion;
use ingraft_exec::Silent;
use ingraft_kernel::{Host, Target};
use ingraft_method::build;
use ingraft_models::demo;
use ingraft_plan::{ClipRule, PlanView};
use ingraft_signal::Recipe;

use super::inspect::PlanReport;
use crate::args::target_names;
use crate::classes::ClassMap;
use crate::input::Reader;
use crate::plan_file::ArtifactFile;
use crate::predict::{Memory, Predictor};
use crate::report::{Table, bytes};
use crate::training::{self, Course, HeadChoice, Trained};
use crate::{CliError, Console, target};

use clips::{Task, tasks};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Train on these clips, one folder per class, instead of synthesized ones.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where to run.
    #[arg(long, value_name = "NAME", value_parser = target_names(), default_value = target::NATIVE)]
    target: String,
}

pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<(), CliError> {
    let started = Instant::now();
    let target = target::find(&args.target)?;
    let base = compile_base()?;
    let plan = base.plan()?;
    let report = PlanReport::new(&plan, Some(&args.target), Some("lora"))?;
    console.line(format_args!(
        "1. The base, compiled in {:.2} s\n\n{}\n",
        seconds(started),
        report.details()
    ))?;
    let reader = Reader::new(&plan)?;
    let tasks = tasks(&reader, args.data.as_deref())?;
    console.line("2. The base listens\n")?;
    console.line(format_args!("{}\n", listen(plan, &target, &tasks)?))?;
    console.line("3. Two adapters, trained here\n")?;
    let (adapters, table) = learn_all(plan, &target, &tasks, console)?;
    console.line(format_args!("{table}\n"))?;
    console.line("4. Switching, and the way back\n")?;
    console.line(switching::prove(plan, &target, &tasks, &adapters)?)?;
    console.line(format_args!("\nDone in {:.1} s on {}.", seconds(started), target.name()))
}

/// An adapter for every task, and how it compares with a head alone.
fn learn_all(
    plan: PlanView<'_>,
    target: &Host,
    tasks: &[Task],
    console: &Console<'_>,
) -> Result<(Vec<Trained>, Table), CliError> {
    let mut adapters = Vec::new();
    let mut table = Table::new([
        "adapter",
        "method",
        "clips",
        "trained",
        "file",
        "memory",
        "s",
        "head alone",
        "accuracy",
    ]);
    for task in tasks {
        let head = learn(plan, target, task, "head", console)?;
        let trained = learn(plan, target, task, task.method, console)?;
        table.row([
            task.name.clone(),
            task.method.to_owned(),
            task.train.labels.len().to_string(),
            trained.parameters.to_string(),
            bytes(trained.bytes.len()),
            bytes(trained.memory.total()),
            format!("{:.1}", trained.seconds),
            accuracy(&judge(plan, target, task, &head)?),
            accuracy(&judge(plan, target, task, &trained)?),
        ]);
        adapters.push(trained);
    }
    Ok((adapters, table))
}

/// The built-in model as a plan that can be trained.
fn compile_base() -> Result<ArtifactFile, CliError> {
    let recipe = Recipe::preset("yamnet", &[96, 64])?;
    let options = CompileOptions {
        import: ImportOptions { dims: [("N".to_owned(), 1)].into(), ..ImportOptions::default() },
        train_from: Some(TrainFrom::Late),
        train_memory: None,
        model_name: NAME.to_owned(),
        recipe: recipe.to_words().to_vec(),
        labels: demo::LABELS.map(str::to_owned).to_vec(),
        clip: Some(ClipRule::Mean),
        hop: recipe.hop() as u32,
        head_classes: HEAD_CLASSES,
        calibrate: None,
    };
    let refused = |error: CompileError| CliError::Compile { path: NAME.into(), error };
    let compiled = compile(demo::BASE_INT8, &options).map_err(refused)?;
    Ok(ArtifactFile::from_bytes(NAME, &compiled.plan))
}

/// What the base makes of one clip of every class.
fn listen(plan: PlanView<'_>, target: &Host, tasks: &[Task]) -> Result<Table, CliError> {
    let mut memory = Memory::new(&plan, target)?;
    let mut predictor = Predictor::new(plan, target, None, &mut memory)?;
    let mut table = Table::new(["clip of", "patches", "us a patch", "the base hears"]);
    for task in tasks {
        for (label, class) in task.classes.iter().enumerate() {
            let found = task.test.labels.iter().position(|labels| labels.contains(&label));
            let Some(feed) = found.and_then(|clip| task.test.feeds.get(clip)) else { continue };
            let started = Instant::now();
            let outputs = predictor.run(feed, &mut Silent)?;
            let time = started.elapsed().as_secs_f64() * 1e6 / feed.runs.len().max(1) as f64;
            let best = outputs.first().and_then(|output| output.ranking(1)?.into_iter().flatten().next());
            let heard = best.and_then(|best| best.label).unwrap_or_default();
            table.row([class.clone(), feed.runs.len().to_string(), format!("{time:.0}"), heard]);
        }
    }
    Ok(table)
}

/// Trains an adapter for `task` by `method`.
fn learn(
    plan: PlanView<'_>,
    target: &Host,
    task: &Task,
    method: &str,
    console: &Console<'_>,
) -> Result<Trained, CliError> {
    let method = build(method, &[])?;
    let readout = HeadChoice::LAST.resolve(&plan, task.classes.len())?;
    let sites = training::sites(&plan, readout, &*method, None)?;
    let groups: Vec<usize> = (0..task.train.labels.len()).collect();
    Course::new(&*method, &sites, readout).train(plan, target, &task.lessons(&groups), console)
}

/// Judges an adapter file on the clips kept apart.
fn judge(plan: PlanView<'_>, target: &Host, task: &Task, trained: &Trained) -> Result<Confusion, CliError> {
    let file = ArtifactFile::from_bytes(&task.name, &trained.bytes);
    let adapter = file.attach(&plan)?;
    let mut memory = Memory::new(&plan, target)?;
    let mut predictor = Predictor::new(plan, target, Some(adapter), &mut memory)?;
    let map = ClassMap::new(&task.classes, &task.classes, task.classes.len())?;
    let mut confusion = Confusion::new(task.classes.len());
    for (feed, labels) in task.test.feeds.iter().zip(&task.test.labels) {
        let outputs = predictor.run(feed, &mut Silent)?;
        map.count(labels, outputs.first().ok_or(CliError::NotAClassifier)?, &mut confusion)?;
    }
    Ok(confusion)
}

fn accuracy(confusion: &Confusion) -> String {
    format!("{:.3} ({}/{})", confusion.accuracy(), confusion.correct(), confusion.total())
}

fn seconds(started: Instant) -> f64 {
    started.elapsed().as_secs_f64()
}

/// The built-in model's name.
const NAME: &str = "demo";
/// Room for the classes of either task and of most data sets.
const HEAD_CLASSES: u32 = 32;
