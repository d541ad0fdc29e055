//! `ingraft compose`: one adapter from several.

use std::path::PathBuf;

use clap::ValueEnum;
use ingraft_import::{Base, Member, Operation, Tensors, Weighted, compose, stack};

use super::import::ImportReport;
use super::train::stack::{member_name, members_of};
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
    /// The members that a feature set or a stack has, by the names of their files without `.adapter`, for `features` and
    /// `stack`; a stack has all by default.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', conflicts_with = "weights")]
    features: Vec<String>,
    /// The members of a `stack` that stay as they are when training goes on; the others do not. By default those that were
    /// frozen before.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    freeze: Option<Vec<String>>,
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
    /// Deltas: the sum, and every adapter is kept inside as a member of its own; those of a stack are members themselves.
    Stack,
}

pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<(), CliError> {
    check_folder(&args.output)?;
    let weights = args.weights()?;
    if args.freeze.is_some() && args.by != By::Stack {
        let value = args.freeze.iter().flatten().cloned().collect::<Vec<_>>().join(",");
        return Err(setting("--freeze", value, "used with --by stack".to_owned()));
    }
    let file = ArtifactFile::read(&args.base)?;
    let base = Base { plan: file.plan()?, initializers: Tensors::new() };
    let files = args.adapters.iter().map(|path| ArtifactFile::read(path)).collect::<Result<Vec<_>, _>>()?;
    // A wrong one is refused under its own name.
    files.iter().try_for_each(|file| file.attach(&base.plan).map(drop))?;
    let refused = |error| CliError::Import { path: args.output.clone(), error: Box::new(error) };
    let composed = match args.operation() {
        Some(operation) => {
            let parts = files.iter().zip(weights);
            let parts: Vec<Weighted<'_>> =
                parts.map(|(file, weight)| Weighted { bytes: file.bytes(), weight }).collect();
            compose(&base, &parts, operation).map_err(refused)?
        }
        None => stack(&base, &args.members(&files)?).map_err(refused)?,
    };
    write_whole(&args.output, &composed.bytes)?;
    let report = ImportReport::new(&composed, &base)?;
    if args.json { console.json(&report) } else { console.line(report.table()) }
}

fn setting(option: &'static str, value: String, expected: String) -> CliError {
    CliError::Setting { option, value, expected }
}

/// Where in `names` each of `wanted` is, which is there once.
fn find(option: &'static str, wanted: &[String], names: &[String]) -> Result<Vec<usize>, CliError> {
    let place = |name: &String| {
        let mut found = names.iter().enumerate().filter(|(_, held)| *held == name);
        match (found.next(), found.next()) {
            (Some((at, _)), None) => Ok(at),
            _ => {
                let expected = format!("name one of {}, each once among the adapters", names.join(", "));
                Err(setting(option, name.clone(), expected))
            }
        }
    };
    wanted.iter().map(place).collect()
}

impl Args {
    /// The weight of each adapter.
    fn weights(&self) -> Result<Vec<f64>, CliError> {
        let all = self.adapters.len();
        let given = || self.weights.iter().map(f64::to_string).collect::<Vec<_>>().join(",");
        if self.by == By::Stack && !self.weights.is_empty() {
            return Err(setting(
                "--weights",
                given(),
                "members of a stack have none; scale them first".into(),
            ));
        }
        if self.by != By::Features {
            if !self.features.is_empty() && self.by != By::Stack {
                let expected = "used with --by features or stack".to_owned();
                return Err(setting("--features", self.features.join(","), expected));
            }
            return match self.weights.len() {
                0 => Ok(vec![1.0; all]),
                count if count == all => Ok(self.weights.clone()),
                _ => {
                    let expected = format!("give a weight for each of the {all} adapters");
                    Err(setting("--weights", given(), expected))
                }
            };
        }
        let names: Vec<String> = self.adapters.iter().map(|path| member_name(path)).collect();
        let mut weights = vec![0.0; all];
        find("--features", &self.features, &names)?.into_iter().for_each(|at| weights[at] = 1.0);
        if self.features.is_empty() {
            let expected = format!("name the members that the set has, of {}", names.join(", "));
            return Err(setting("--features", String::new(), expected));
        }
        Ok(weights)
    }

    /// The members of a stack of `files`: those that `--features` names, `--freeze` frozen.
    fn members(&self, files: &[ArtifactFile]) -> Result<Vec<Member>, CliError> {
        let mut members = Vec::new();
        for file in files {
            let inside = members_of(file)?;
            if inside.is_empty() {
                let (name, bytes) = (member_name(file.path()), file.bytes().to_vec());
                members.push(Member { name, frozen: false, bytes });
            }
            members.extend(inside);
        }
        let named = |members: &[Member]| members.iter().map(|member| member.name.clone()).collect::<Vec<_>>();
        if !self.features.is_empty() {
            let kept = find("--features", &self.features, &named(&members))?;
            let all = members.into_iter().enumerate();
            members = all.filter(|(at, _)| kept.contains(at)).map(|(_, member)| member).collect();
        }
        if let Some(freeze) = &self.freeze {
            // `--freeze=` freezes none.
            let wanted: Vec<String> = freeze.iter().filter(|name| !name.is_empty()).cloned().collect();
            let frozen = find("--freeze", &wanted, &named(&members))?;
            members.iter_mut().enumerate().for_each(|(at, member)| member.frozen = frozen.contains(&at));
        }
        Ok(members)
    }

    /// What is done with them; `None` to stack them.
    fn operation(&self) -> Option<Operation> {
        let (density, seed) = (self.density, self.seed);
        Some(match self.by {
            By::Sum => Operation::Sum,
            By::Features => Operation::Features,
            By::Concat => Operation::Concatenate,
            By::Add => Operation::FactorSum,
            By::Negate => Operation::Negate,
            By::Analogy => Operation::Analogy,
            By::Ties => Operation::Ties { density },
            By::Dare => Operation::Dare { density, seed },
            By::Prune => Operation::Prune { density },
            By::Stack => return None,
        })
    }
}
