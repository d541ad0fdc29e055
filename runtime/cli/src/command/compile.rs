//! `ingraft compile`: an ONNX model becomes a plan.
//!
//! Nodes that stay in float are listed with the reason, and refused unless
//! `--allow-float` or `--float` says otherwise.

mod calibration;
mod front_end;

use std::fs;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use ingraft_compile::lower::train::TrainFrom;
use ingraft_compile::{
    CalibrateOptions, CompileError, CompileOptions, Compiled, ImportOptions, Tensor, compile, import,
};
use ingraft_dataset::npy;
use ingraft_plan::{ClipRule, PlanView};
use ingraft_signal::preset::NAMES;
use ingraft_signal::{Recipe, SignalError};
use serde::Serialize;

use super::inspect::PlanReport;
use crate::args::assignment;
use crate::error::FloatNode;
use crate::plan_file::{ArtifactFile, check_folder, write_whole};
use crate::{CliError, Console};
use calibration::CalibrationArgs;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model.
    #[arg(value_name = "MODEL.onnx")]
    model: PathBuf,
    /// Where to write the plan.
    #[arg(short, long, value_name = "BASE.plan")]
    output: PathBuf,
    #[command(flatten)]
    calibration: CalibrationArgs,
    /// Leave in float what the file does not quantize: a float model stays one.
    #[arg(long, conflicts_with = "calibrate")]
    float: bool,
    /// Accept that some nodes of a quantized model stay in float.
    #[arg(long)]
    allow_float: bool,
    /// Make the plan trainable from this site on: a site's name, `late` or `all`; or these sites alone, with commas.
    #[arg(long, value_name = "SITE|SITE,..|late|all")]
    train_from: Option<String>,
    /// Most bytes of activations and gradients in training: gradients share their place where they can, and where
    /// that is not enough, training begins at a later site.
    #[arg(long, value_name = "BYTES", requires = "train_from")]
    train_memory: Option<usize>,
    /// Fix a named dimension; may be repeated.
    #[arg(long = "dim", value_name = "N=1", value_parser = extent)]
    dims: Vec<(String, usize)>,
    /// Fix input shapes by these arrays, and freeze operands that decide shapes to their values.
    #[arg(long, value_name = "IN.npz")]
    shapes: Option<PathBuf>,
    /// What turns recordings or pictures into the first input.
    #[arg(long, value_name = "yamnet|kws-mfcc|logmel-image|waveform|image|none|FILE.toml")]
    front_end: Option<String>,
    /// How the outputs of a clip's patches are joined.
    #[arg(long, value_enum)]
    clip: Option<Rule>,
    /// From one patch of a clip to the next: samples, or seconds as in 0.48 or 1s.
    #[arg(long, value_name = "S", requires = "front_end")]
    hop: Option<String>,
    /// Room for the classes of a head; 32 by default in a trainable plan, else none.
    #[arg(long, value_name = "N")]
    head_classes: Option<u32>,
    /// Class names of the first output, one per line.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Print JSON: the report of `inspect`, and what happened to biases.
    #[arg(long)]
    json: bool,
}

/// `--clip`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Rule {
    /// Mean over patches.
    Mean,
    /// Maximum over patches.
    Max,
}

/// What `compile --json` prints: the fields of `inspect` and these.
#[derive(Debug, Serialize)]
struct CompileReport {
    #[serde(flatten)]
    plan: PlanReport,
    /// Sites whose bias codes were not on the scale of input times weight and were rounded to it.
    requantized_biases: Vec<String>,
    /// Channels whose scale was enlarged so that no accumulator can overflow.
    rescaled_channels: Vec<ChannelReport>,
}

/// One output channel of a site.
#[derive(Debug, Serialize)]
struct ChannelReport {
    /// The site's name.
    site: String,
    /// The channel's number, from 0.
    channel: usize,
}

pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<(), CliError> {
    check_folder(&args.output)?;
    let onnx = fs::read(&args.model).map_err(|source| CliError::io(&args.model, source))?;
    let compiled = args.compile(&onnx, console)?;
    let float_nodes = compiled.program.notes.float_nodes.iter().map(FloatNode::from).collect::<Vec<_>>();
    if !(float_nodes.is_empty() || args.float || args.allow_float) {
        return Err(CliError::FloatNodes(float_nodes));
    }
    let file = ArtifactFile::from_bytes(&args.output.to_string_lossy(), &compiled.plan);
    let plan = file.plan()?;
    check_labels(&plan)?;
    write_whole(&args.output, file.bytes())?;
    let notes = compiled.program.notes;
    let report = CompileReport {
        plan: PlanReport::new(&plan, None, None)?,
        requantized_biases: notes.requantized_biases,
        rescaled_channels: notes
            .rescaled_channels
            .into_iter()
            .map(|(site, channel)| ChannelReport { site, channel })
            .collect(),
    };
    if args.json {
        return console.json(&report);
    }
    console.line(report.plan.summary())?;
    for site in &report.requantized_biases {
        console.note(format_args!(
            "note: {site}: its bias was not on the scale of input times weight; rounded to it"
        ));
    }
    for ChannelReport { site, channel } in &report.rescaled_channels {
        console.note(format_args!(
            "note: {site}: scale of channel {channel} enlarged, its accumulator could overflow"
        ));
    }
    Ok(())
}

impl Args {
    fn compile(&self, onnx: &[u8], console: &mut Console<'_>) -> Result<Compiled, CliError> {
        let refused = |error| CliError::Compile { path: self.model.clone(), error };
        let import_options = self.import_options()?;
        let (mut recipe, mut calibrate) = (None, None);
        if self.front_end.is_some() || self.calibration.is_asked_for() {
            let graph =
                import(onnx, &import_options).map_err(|error| refused(CompileError::Import(error)))?;
            let shape = graph.inputs.first().map_or(&[][..], |&input| &graph[input].shape);
            recipe = self.front_end.as_deref().map(|name| self.recipe(name, shape)).transpose()?;
            calibrate = self.calibration.options(&graph, recipe)?;
            if let Some(CalibrateOptions { samples, .. }) = &calibrate {
                console.note(format_args!("calibrating on {} samples", samples.len()));
            }
        }
        let trained = self.train_from.as_deref().map(|from| match from {
            "late" => TrainFrom::Late,
            "all" => TrainFrom::All,
            sites if sites.contains(',') => TrainFrom::Sites(sites.split(',').map(str::to_owned).collect()),
            site => TrainFrom::Site(site.to_owned()),
        });
        let reserved = if trained.is_some() { HEAD_CLASSES } else { 0 };
        let options = CompileOptions {
            import: import_options,
            calibrate,
            train_from: trained,
            train_memory: self.train_memory,
            model_name: self
                .model
                .file_stem()
                .map_or(String::new(), |stem| stem.to_string_lossy().into_owned()),
            hop: recipe.map_or(0, |recipe| recipe.hop() as u32),
            recipe: recipe.map_or(Vec::new(), |recipe| recipe.to_words().to_vec()),
            labels: self.labels()?,
            clip: self.clip.map(|rule| match rule {
                Rule::Mean => ClipRule::Mean,
                Rule::Max => ClipRule::Max,
            }),
            head_classes: self.head_classes.unwrap_or(reserved),
        };
        compile(onnx, &options).map_err(refused)
    }

    fn import_options(&self) -> Result<ImportOptions, CliError> {
        let mut options =
            ImportOptions { dims: self.dims.iter().cloned().collect(), ..ImportOptions::default() };
        if let Some(path) = &self.shapes {
            for (name, array) in npy::read_npz(path)? {
                options.shapes.insert(name.clone(), array.shape().to_vec());
                if let Some(value) = Tensor::new(array.dtype(), array.shape().to_vec(), array.bytes()) {
                    options.operands.insert(name, value);
                }
            }
        }
        Ok(options)
    }

    /// The recipe `name` for a first input of this shape, with the hop asked for.
    fn recipe(&self, name: &str, shape: &[usize]) -> Result<Recipe, CliError> {
        let recipe = match name.strip_suffix(".toml") {
            Some(_) => front_end::read(Path::new(name))?,
            None => Recipe::preset(name, shape.get(1..).unwrap_or(&[])).map_err(|error| match error {
                SignalError::UnknownPreset => CliError::Setting {
                    option: "--front-end",
                    value: name.to_owned(),
                    expected: format!("give {}, or a file FILE.toml", NAMES.join(", ")),
                },
                error => CliError::Signal(error),
            })?,
        };
        let Some(hop) = &self.hop else { return Ok(recipe) };
        let wrong = || CliError::Setting {
            option: "--hop",
            value: hop.clone(),
            expected: "give samples as in 7680, or seconds as in 0.48 or 1s, for a front end of audio"
                .to_owned(),
        };
        let rate = recipe.sample_rate().ok_or_else(wrong)?;
        let samples = match hop.parse::<u32>() {
            Ok(samples) => samples,
            Err(_) => {
                let seconds: f64 = hop.trim_end_matches('s').parse().map_err(|_| wrong())?;
                (seconds * f64::from(rate)).round() as u32
            }
        };
        Ok(recipe.with_hop(samples)?)
    }

    fn labels(&self) -> Result<Vec<String>, CliError> {
        let Some(path) = &self.labels else { return Ok(Vec::new()) };
        let text = fs::read_to_string(path).map_err(|source| CliError::io(path, source))?;
        Ok(text.lines().map(|line| line.trim().to_owned()).collect())
    }
}

/// The labels of the first output, where there are any, must be as many as its classes.
fn check_labels(plan: &PlanView<'_>) -> Result<(), CliError> {
    let Some(output) = plan.outputs().next().filter(|output| !output.labels.is_empty()) else {
        return Ok(());
    };
    let classes = plan.tensor(output.tensor).and_then(|tensor| tensor.operand.shape.dims().last().copied());
    let (labels, classes) = (output.labels.lines().count(), classes.unwrap_or(0) as usize);
    if labels == classes { Ok(()) } else { Err(CliError::LabelCount { labels, classes }) }
}

fn extent(text: &str) -> Result<(String, usize), String> {
    let (name, value) = assignment(text)?;
    let extent: usize = value.parse().map_err(|_| "expected a whole number behind =".to_owned())?;
    if extent == 0 { Err("a dimension has at least one element".to_owned()) } else { Ok((name, extent)) }
}

impl From<&[String; 3]> for FloatNode {
    fn from([name, op, reason]: &[String; 3]) -> Self {
        Self { name: name.clone(), op: op.clone(), reason: reason.clone() }
    }
}

/// Classes a trainable plan reserves room for unless told otherwise: 128 bytes a sample.
const HEAD_CLASSES: u32 = 32;
