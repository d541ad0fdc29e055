//! `ingraft methods`: every adaptation method, its settings, source and deployed form.

mod tensors;

use ingraft_method::METHODS;
use serde::Serialize;

use crate::report::Table;
use crate::{CliError, Console};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// One entry of the list that `methods --json` prints.
#[derive(Debug, Serialize)]
struct MethodReport {
    /// Name, as in `--method NAME`.
    name: &'static str,
    /// `additive`, `selective`, `reparameterized` or `full`.
    family: &'static str,
    /// Its settings, as in `--set NAME=VALUE`.
    parameters: Vec<ParameterReport>,
    /// The tensors it keeps at a linear layer of `out` by `in`, at the defaults; of `head`, those of the head.
    tensors: Vec<TensorReport>,
    /// What an adapter made by it consists of.
    deploy: &'static str,
    /// The paper.
    source: &'static str,
    /// `verified` or `inferred`: how sure it is that this is what the paper defines.
    definition: &'static str,
    /// Whether an adapter acts as the base before it is trained.
    starts_as_base: bool,
    /// What counts as a constant on the way back, as published: gradients are slopes with these held.
    detached: &'static [&'static str],
}

/// One tensor of a method.
#[derive(Debug, Serialize)]
struct TensorReport {
    /// Name, behind the site's name and a dot in a file; alone where it begins with `head/`.
    name: &'static str,
    /// Extents, in `out`, `in` and settings, also where places are chosen on data; `…` where they follow from divisors.
    shape: Vec<String>,
    /// Whether it is trained; else it is drawn or computed once.
    trained: bool,
}

/// One setting of a method.
#[derive(Debug, Serialize)]
struct ParameterReport {
    /// Name.
    name: &'static str,
    /// Default value.
    default: &'static str,
    /// What values it can have.
    expected: &'static str,
}

pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<(), CliError> {
    let reports: Vec<MethodReport> = METHODS
        .iter()
        .map(|row| {
            let parameter = |s: &ingraft_method::SettingRow| ParameterReport {
                name: s.name,
                default: s.default,
                expected: s.expected,
            };
            let parameters = row.settings.iter().map(parameter).collect();
            MethodReport {
                name: row.name,
                family: row.family.name(),
                parameters,
                tensors: tensors::of(row),
                deploy: row.deploy,
                source: row.source,
                definition: row.definition.name(),
                starts_as_base: row.starts_as_base,
                detached: row.detached(),
            }
        })
        .collect();
    if args.json {
        return console.json(&reports);
    }
    let mut table = Table::new([
        "method",
        "family",
        "definition",
        "starts as",
        "settings",
        "held constant",
        "deployed as",
        "source",
    ]);
    for report in &reports {
        let settings = report.parameters.iter().map(|p| format!("{}={}", p.name, p.default));
        table.row([
            report.name.to_owned(),
            report.family.to_owned(),
            report.definition.to_owned(),
            if report.starts_as_base { "base" } else { "other" }.to_owned(),
            settings.collect::<Vec<_>>().join(" "),
            report.detached.join(", "),
            report.deploy.to_owned(),
            report.source.to_owned(),
        ]);
    }
    console.line(table)
}
