//! `ingraft compose`: one adapter from several.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use ingraft_import::{Base, Operation, Tensors, Weighted, compose};

use super::import::ImportReport;
use crate::plan_file::{ArtifactFile, check_folder, write_whole};
use crate::{CliError, Console};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The adapters, all of one base; the order counts for `analogy`.
    #[arg(value_name = "A.adapter", required = true)]
    adapters: Vec<PathBuf>,
    /// Their base.
    #[arg(long, value_name = "BASE.plan")]
    base: PathBuf,
    /// How they become one.
    #[arg(long, value_enum, default_value_t = By::Sum)]
    by: By,
    /// A weight for each, in order; 1 by default.
    #[arg(long, value_name = "W,…", value_delimiter = ',', allow_negative_numbers = true)]
    weights: Vec<f64>,
    /// The members that a feature set has, by the names of their files without `.adapter`, for `features`.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', conflicts_with = "weights")]
    features: Vec<String>,
    /// Share of entries kept, for `ties`, `dare` and `prune`.
    #[arg(long, value_name = "SHARE", default_value_t = 0.2)]
    density: f64,
    /// Seed of what `dare` drops.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Where to write the adapter.
    #[arg(short, long, value_name = "C.adapter")]
    output: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    /// Deltas: the weighted sum.
    Sum,
    /// Deltas: the sum of those that `--features` names.
    Features,
    /// Factors: pairs side by side, which is the sum of their deltas.
    Concat,
    /// Factors: A and B each add up, cross terms and all.
    Add,
    /// Factors: B changes its sign; takes one adapter.
    Negate,
    /// Deltas: the first less the second plus the third; takes three.
    Analogy,
    /// Deltas: the largest entries, signs by majority, the mean of those that agree.
    Ties,
    /// Deltas: a random share of the entries, scaled up, then the sum.
    Dare,
    /// Deltas: the largest entries, then the sum.
    Prune,
}

pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<(), CliError> {
    check_folder(&args.output)?;
    let weights = args.weights()?;
    let file = ArtifactFile::read(&args.base)?;
    let base = Base { plan: file.plan()?, initializers: Tensors::new() };
    let files = args.adapters.iter().map(|path| ArtifactFile::read(path)).collect::<Result<Vec<_>, _>>()?;
    // A wrong one is refused under its own name.
    files.iter().try_for_each(|file| file.attach(&base.plan).map(drop))?;
    let parts: Vec<Weighted<'_>> =
        files.iter().zip(weights).map(|(file, weight)| Weighted { bytes: file.bytes(), weight }).collect();
    let composed = compose(&base, &parts, args.operation())
        .map_err(|error| CliError::Import { path: args.output.clone(), error: Box::new(error) })?;
    write_whole(&args.output, &composed.bytes)?;
    let report = ImportReport::new(&composed, &base)?;
    if args.json { console.json(&report) } else { console.line(report.table()) }
}

/// What a member is called: its file without the ending.
fn member(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

impl Args {
    /// The weight of each adapter.
    fn weights(&self) -> Result<Vec<f64>, CliError> {
        let all = self.adapters.len();
        let refused = |option: &'static str, value: String, expected: String| {
            Err(CliError::Setting { option, value, expected })
        };
        if self.by != By::Features {
            if !self.features.is_empty() {
                return refused("--features", self.features.join(","), "used with --by features".to_owned());
            }
            return match self.weights.len() {
                0 => Ok(vec![1.0; all]),
                given if given == all => Ok(self.weights.clone()),
                _ => {
                    let value = self.weights.iter().map(f64::to_string).collect::<Vec<_>>().join(",");
                    refused("--weights", value, format!("give a weight for each of the {all} adapters"))
                }
            };
        }
        let names: Vec<String> = self.adapters.iter().map(|path| member(path)).collect();
        let mut weights = vec![0.0; all];
        for feature in &self.features {
            let mut found = names.iter().enumerate().filter(|(_, name)| *name == feature);
            match (found.next(), found.next()) {
                (Some((at, _)), None) => weights[at] = 1.0,
                _ => {
                    let expected = format!("name one of {}, each once among the adapters", names.join(", "));
                    return refused("--features", feature.clone(), expected);
                }
            }
        }
        if self.features.is_empty() {
            let expected = format!("name the members that the set has, of {}", names.join(", "));
            return refused("--features", String::new(), expected);
        }
        Ok(weights)
    }

    fn operation(&self) -> Operation {
        let (density, seed) = (self.density, self.seed);
        match self.by {
            By::Sum => Operation::Sum,
            By::Features => Operation::Features,
            By::Concat => Operation::Concatenate,
            By::Add => Operation::FactorSum,
            By::Negate => Operation::Negate,
            By::Analogy => Operation::Analogy,
            By::Ties => Operation::Ties { density },
            By::Dare => Operation::Dare { density, seed },
            By::Prune => Operation::Prune { density },
        }
    }
}
