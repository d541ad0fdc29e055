//! `--calibrate`: sample inputs for a float model.

use std::fs;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use ingraft_compile::{CalibrateOptions, Graph, RangeMethod, ValueId};
use ingraft_dataset::Dataset;
use ingraft_signal::Recipe;

use crate::CliError;
use crate::input::{Feed, InputSpec, Reader};

/// How a float model is quantized.
#[derive(Debug, clap::Args)]
pub(super) struct CalibrationArgs {
    /// Quantize a float model by what it computes on these: a folder of recordings, pictures or features, or .npz.
    #[arg(long, value_name = "DIR|FILE.npz")]
    calibrate: Option<PathBuf>,
    /// How ranges follow from the values seen.
    #[arg(long, value_enum, default_value_t = Range::MinMax, requires = "calibrate")]
    range: Range,
    /// The share of values that `percentile` keeps, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 99.99, value_parser = percentage, requires = "calibrate")]
    percentile: f64,
    /// Equalize the ranges of channels between convolutions first: for nets with depthwise layers that lose too much.
    #[arg(long, requires = "calibrate")]
    equalize: bool,
    /// Do not correct biases for the mean error of rounding.
    #[arg(long, requires = "calibrate")]
    no_bias_correction: bool,
}

/// `--range`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Range {
    /// From the smallest to the largest value.
    MinMax,
    /// Without the outermost values.
    Percentile,
    /// The range whose codes are nearest in the mean square.
    Mse,
}

impl CalibrationArgs {
    /// Whether the model is to be quantized.
    pub(super) fn is_asked_for(&self) -> bool {
        self.calibrate.is_some()
    }

    /// The options of calibrating `graph`, whose first input `recipe` feeds.
    ///
    /// # Errors
    /// Those of reading the samples.
    pub(super) fn options(
        &self,
        graph: &Graph,
        recipe: Option<Recipe>,
    ) -> Result<Option<CalibrateOptions>, CliError> {
        let Some(path) = self.calibrate.as_deref() else { return Ok(None) };
        let input = |id: ValueId| {
            let value = &graph[id];
            InputSpec { name: &value.name, dtype: value.dtype, shape: value.shape.clone(), qparams: None }
        };
        let inputs: Vec<InputSpec<'_>> = graph.inputs.iter().copied().map(input).collect();
        let names: Vec<String> = inputs.iter().map(|input| input.name.to_owned()).collect();
        let feeds = feeds(&Reader::of_model(inputs, recipe)?, path)?;
        let sample = |feed: Feed| {
            let part =
                |input: usize| feed.runs.iter().filter_map(|run| run.get(input)).flatten().copied().collect();
            names.iter().enumerate().map(|(input, name)| (name.clone(), part(input))).collect()
        };
        Ok(Some(CalibrateOptions {
            samples: feeds.into_iter().map(sample).collect(),
            method: match self.range {
                Range::MinMax => RangeMethod::MinMax,
                Range::Percentile => RangeMethod::Percentile(self.percentile),
                Range::Mse => RangeMethod::MeanSquaredError,
            },
            equalize: self.equalize,
            bias_correction: !self.no_bias_correction,
            // Ranges must not depend on the machine that compiles, so the scalar reference runs the samples.
            ..CalibrateOptions::default()
        }))
    }
}

fn percentage(text: &str) -> Result<f64, String> {
    let percent = text.parse().ok().filter(|percent| (50.0..=100.0).contains(percent));
    percent.ok_or_else(|| "expected a number from 50 to 100".to_owned())
}

/// The samples at `path`: an archive, rows of features, or every readable file of a folder. Labels do not matter here.
fn feeds(reader: &Reader<'_>, path: &Path) -> Result<Vec<Feed>, CliError> {
    let found = fs::metadata(path).map_err(|source| CliError::io(path, source))?;
    if !found.is_dir() {
        return Ok(vec![reader.file(path)?.0]);
    }
    if path.join("features.npy").exists() {
        let dataset = Dataset::open(path)?;
        return (0..dataset.items().len()).map(|index| reader.item(&dataset, index)).collect();
    }
    let mut files = Vec::new();
    walk(path, 0, &mut files)?;
    files.sort_unstable();
    files.iter().map(|file| reader.file(file).map(|(feed, _)| feed)).collect()
}

/// Collects the readable files below `folder`.
fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), CliError> {
    let failed = |source| CliError::io(folder, source);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() && depth < MAX_DEPTH {
            walk(&path, depth + 1, files)?;
        } else if Reader::reads(&path) {
            files.push(path);
        }
    }
    Ok(())
}

/// Levels of folders; the bound also ends a loop of links.
const MAX_DEPTH: usize = 8;
