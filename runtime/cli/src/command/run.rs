//! `ingraft run`: one plan, one input, with or without an adapter.
//!
//! Arrays are fed as they are; a recording or picture goes through the plan's
//! front end and its patches are joined by the plan's clip rule (by their mean
//! under an adapter's head). `--input -` takes 16-bit little-endian mono PCM at
//! the front end's rate from stdin and prints a line per patch as it is heard.

use std::path::{Path, PathBuf};

use ingraft_dataset::npy::{to_npy_bytes, to_npz_bytes};
use ingraft_dataset::{Array, DatasetError, PcmStream};
use ingraft_exec::Silent;
use ingraft_signal::Stream;
use serde::Serialize;

use crate::args::runner_names;
use crate::backend::Backend;
use crate::input::Reader;
use crate::plan_file::{ArtifactFile, check_folder, write_whole};
use crate::predict::{Memory, Output, Predictor, Score};
use crate::report::{self, Table};
use crate::target::run_on;
use crate::threads::ThreadsArg;
use crate::trace::{StepProfile, Watch};
use crate::{CliError, Console, target};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The plan.
    #[arg(value_name = "BASE.plan")]
    plan: PathBuf,
    /// .npy, .npz (arrays by input name), a recording, a picture, or - for PCM on stdin.
    #[arg(long, value_name = "FILE|-")]
    input: PathBuf,
    /// Run with this adapter.
    #[arg(long, value_name = "A.adapter")]
    adapter: Option<PathBuf>,
    /// Write the outputs: .npy the first, .npz all by name.
    #[arg(short, long, value_name = "Y.npy|Y.npz")]
    output: Option<PathBuf>,
    /// Where to run.
    #[arg(long, value_name = "NAME", value_parser = runner_names(), default_value = target::NATIVE)]
    target: String,
    #[command(flatten)]
    threads: ThreadsArg,
    /// Print JSON; with --input - one line per patch.
    #[arg(long)]
    json: bool,
    /// Print the time, multiply-accumulates and bytes of every step.
    #[arg(long)]
    profile: bool,
    /// Write every intermediate tensor as .npy into this folder.
    #[arg(long, value_name = "DIR")]
    dump: Option<PathBuf>,
}

/// What `run --json` prints.
#[derive(Debug, Serialize)]
struct RunReport {
    /// The target's name.
    target: &'static str,
    /// Inferences made: patches of a clip, or parts of an array.
    runs: usize,
    /// Every output.
    outputs: Vec<OutputReport>,
    /// The best classes of every sample of the first output, best first; empty
    /// where that is not one row of numbers per sample.
    top: Vec<Vec<Score>>,
    /// Every step, with `--profile`.
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<Vec<StepProfile>>,
}

/// One output in `run --json`.
#[derive(Debug, Serialize)]
struct OutputReport {
    /// Its ONNX name; `logits` for an adapter's head.
    name: String,
    /// NumPy's name of its element type.
    dtype: &'static str,
    /// Its extents.
    shape: Vec<usize>,
}

/// What `run --input - --json` prints for every patch, on a line of its own.
#[derive(Debug, Serialize)]
struct PatchReport {
    /// Number of the patch, from 0.
    patch: usize,
    /// Where it begins, in seconds from the start of the stream.
    seconds: f64,
    /// The best classes of the first output, best first.
    top: Vec<Score>,
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
    let writer = args.output.as_deref().map(Writer::new).transpose()?;
    let reader = Reader::new(&plan)?;
    let mut memory = Memory::new(&plan, target)?;
    let mut predictor = Predictor::new(plan, target, adapter, &mut memory)?;
    if args.input == Path::new("-") {
        let outputs = stream(args.json, &reader, &mut predictor, console)?;
        return writer.map_or(Ok(()), |writer| writer.write(&outputs));
    }
    let (feed, unused) = reader.file(&args.input)?;
    for name in unused {
        console.note(format_args!("note: {}: no input is called {name:?}", args.input.display()));
    }
    let mut watch = Watch::new(plan, target, args.profile, args.dump.as_deref());
    let outputs = predictor.run(&feed, &mut watch)?;
    let profile = watch.finish()?;
    if let Some(writer) = writer {
        writer.write(&outputs)?;
    }
    let top = outputs.first().and_then(|output| output.ranking(TOP)).unwrap_or_default();
    let run = RunReport {
        target: target.name(),
        runs: feed.runs.len(),
        outputs: outputs.iter().map(OutputReport::new).collect(),
        top,
        profile,
    };
    if args.json { console.json(&run) } else { print(&run, &outputs, console) }
}

/// Runs on PCM from stdin, patch by patch, until it ends; gives the outputs of the last patch.
fn stream(
    json: bool,
    reader: &Reader<'_>,
    predictor: &mut Predictor<'_, '_, impl Backend>,
    console: &mut Console<'_>,
) -> Result<Vec<Output>, CliError> {
    let front_end = reader.front_end()?;
    let (recipe, rate) = (front_end.recipe(), front_end.rate()?);
    let mut memory = vec![0.0; recipe.stream_len()];
    let mut stream = Stream::bind(recipe, &mut memory)?;
    let mut pcm = PcmStream::new(console.take_stdin());
    let (mut samples, mut patch) = (vec![0.0; recipe.hop().max(1)], vec![0.0; recipe.out_len()]);
    let (mut outputs, mut count) = (Vec::new(), 0);
    loop {
        let read = pcm.read(&mut samples).map_err(|source| CliError::io(Path::new("stdin"), source))?;
        let mut rest = samples.get(..read).unwrap_or(&[]);
        let mut heard = |patch: &[f32]| {
            outputs = predictor.run(&front_end.feed(&[patch.to_vec()])?, &mut Silent)?;
            let top = outputs.first().and_then(|output| output.ranking(TOP)?.into_iter().next());
            let seconds = (count * recipe.hop()) as f64 / f64::from(rate);
            let report = PatchReport { patch: count, seconds, top: top.unwrap_or_default() };
            count += 1;
            if json { console.json_line(&report) } else { console.line(line(&report)) }
        };
        while let Some(next) = stream.push(rest, &mut patch)? {
            heard(&patch)?;
            rest = next;
        }
        if read < samples.len() {
            if stream.finish(&mut patch)? {
                heard(&patch)?;
            }
            return Ok(outputs);
        }
    }
}

impl OutputReport {
    fn new(output: &Output) -> Self {
        let array = &output.array;
        Self { name: output.name.clone(), dtype: array.dtype().name(), shape: array.shape().to_vec() }
    }
}

/// Where outputs go.
enum Writer<'p> {
    First(&'p Path),
    All(&'p Path),
}

impl<'p> Writer<'p> {
    fn new(path: &'p Path) -> Result<Self, CliError> {
        check_folder(path)?;
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("npy") => Ok(Self::First(path)),
            Some("npz") => Ok(Self::All(path)),
            _ => Err(CliError::OutputKind(path.to_path_buf())),
        }
    }

    fn write(&self, outputs: &[Output]) -> Result<(), CliError> {
        match self {
            Self::First(path) => {
                outputs.first().map_or(Ok(()), |output| write_whole(path, &to_npy_bytes(&output.array)))
            }
            Self::All(path) => {
                let arrays: Vec<(String, Array)> =
                    outputs.iter().map(|output| (output.name.clone(), output.array.clone())).collect();
                let failed = |reason| DatasetError::Array { path: path.to_path_buf(), reason };
                write_whole(path, &to_npz_bytes(&arrays).map_err(failed)?)
            }
        }
    }
}

fn print(run: &RunReport, outputs: &[Output], console: &mut Console<'_>) -> Result<(), CliError> {
    let mut table = Table::new(["output", "type", "shape", "min", "mean", "max"]);
    for output in outputs {
        let values = output.array.to_f32().unwrap_or_default();
        let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len().max(1) as f64;
        table.row([
            output.name.clone(),
            output.array.dtype().name().to_owned(),
            report::shape(output.array.shape()),
            format!("{:.6}", values.iter().copied().fold(f32::INFINITY, f32::min)),
            format!("{mean:.6}"),
            format!("{:.6}", values.iter().copied().fold(f32::NEG_INFINITY, f32::max)),
        ]);
    }
    console.line(table)?;
    if !run.top.is_empty() {
        let mut table = Table::new(["sample", "class", "label", "score"]);
        for (sample, top) in run.top.iter().enumerate() {
            for score in top {
                let label = score.label.clone().unwrap_or_default();
                table.row([
                    sample.to_string(),
                    score.index.to_string(),
                    label,
                    format!("{:.6}", score.score),
                ]);
            }
        }
        console.line(format_args!("\n{table}"))?;
    }
    match &run.profile {
        Some(steps) => console.line(format_args!("\n{}", profile_table(steps))),
        None => Ok(()),
    }
}

fn profile_table(steps: &[StepProfile]) -> Table {
    let mut table = Table::new(["step", "op", "kernel", "shape", "MACs", "bytes", "us", "%"]);
    let total: f64 = steps.iter().map(|step| step.time_us).sum();
    let share = |time: f64| format!("{:.1}", 100.0 * time / total.max(f64::MIN_POSITIVE));
    for step in steps {
        table.row([
            step.step.to_string(),
            step.op.to_owned(),
            step.kernel.to_owned(),
            format!("{:?}", step.shape),
            step.macs.to_string(),
            step.bytes.to_string(),
            format!("{:.1}", step.time_us),
            share(step.time_us),
        ]);
    }
    let (macs, bytes) = (steps.iter().map(|step| step.macs), steps.iter().map(|step| step.bytes));
    let none = String::new;
    table.row([
        none(),
        "total".to_owned(),
        none(),
        none(),
        macs.sum::<u64>().to_string(),
        bytes.sum::<u64>().to_string(),
        format!("{total:.1}"),
        share(total),
    ]);
    table
}

fn line(report: &PatchReport) -> String {
    let name = |score: &Score| score.label.clone().unwrap_or_else(|| score.index.to_string());
    let top: Vec<String> =
        report.top.iter().map(|score| format!("{} {:.3}", name(score), score.score)).collect();
    format!("{:9.2} s  {}", report.seconds, top.join("  "))
}

/// Classes listed per sample.
const TOP: usize = 5;
