//! `ingraft methods`: every adaptation method, its settings, source and deployed form.

mod tensors;

use ingraft_method::{METHODS, MethodRow, SettingRow};
use serde::Serialize;

use crate::args::{assignment, meant, method_names};
use crate::report::Table;
use crate::{CliError, Console};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this method.
    #[arg(long, value_name = "NAME", value_parser = method_names())]
    method: Option<String>,
    /// The tensors at a linear layer of so many outputs and inputs, in numbers.
    #[arg(long, value_name = "OUTxIN", value_parser = size)]
    at: Option<Size>,
    /// A setting of every method that has it, or of one, for the tensors there; may be repeated.
    #[arg(long = "set", value_name = "[METHOD.]NAME=VALUE", value_parser = assignment, requires = "at")]
    settings: Vec<(String, String)>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The size of a linear layer.
#[derive(Clone, Copy, Debug)]
struct Size {
    out: usize,
    inputs: usize,
}

/// The most weights a layer is asked about.
const MOST: usize = 1 << 26;

fn size(text: &str) -> Result<Size, String> {
    let parts =
        text.split_once('x').and_then(|(out, inputs)| Some((out.parse().ok()?, inputs.parse().ok()?)));
    match parts {
        Some((out, inputs)) if (1..=MOST).contains(&usize::saturating_mul(out, inputs)) => {
            Ok(Size { out, inputs })
        }
        _ => Err(format!("expected OUTxIN, as 96x64, with a product from 1 to {MOST}")),
    }
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
    /// The tensors it keeps at a linear layer of `out` by `in`, at the defaults, or of the size asked for; of `head`, those of
    /// the head.
    tensors: Vec<TensorReport>,
    /// Why it keeps none at the size asked for; null where it does.
    refused: Option<String>,
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
    /// Extents, in `out`, `in` and settings, also where places are chosen on data; `…` where they follow from divisors. Numbers at
    /// a size that was asked for.
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

/// What is said of a method.
fn report(row: &MethodRow, at: Option<Size>, settings: &[(&str, &str)]) -> MethodReport {
    let parameter =
        |s: &SettingRow| ParameterReport { name: s.name, default: s.default, expected: s.expected };
    let (tensors, refused) = match at {
        None => (tensors::of(row), None),
        Some(size) => match tensors::at(row, size, settings) {
            Ok(tensors) => (tensors, None),
            Err(why) => (Vec::new(), Some(why)),
        },
    };
    MethodReport {
        name: row.name,
        family: row.family.name(),
        parameters: row.settings.iter().map(parameter).collect(),
        tensors,
        refused,
        deploy: row.deploy,
        source: row.source,
        definition: row.definition.name(),
        starts_as_base: row.starts_as_base,
        detached: row.detached(),
    }
}

/// The tensors at the size asked for, a line each.
fn sizes(reports: &[MethodReport]) -> Table {
    let mut table = Table::new(["method", "tensor", "shape", "trained"]);
    for report in reports {
        let refused = report.refused.iter().map(|why| ["–".to_owned(), why.clone(), String::new()]);
        let tensors = report.tensors.iter().map(|tensor| {
            let trained = if tensor.trained { "yes" } else { "no" };
            [tensor.name.to_owned(), tensor.shape.join(" "), trained.to_owned()]
        });
        for [tensor, shape, trained] in refused.chain(tensors) {
            table.row([report.name.to_owned(), tensor, shape, trained]);
        }
    }
    table
}

pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<(), CliError> {
    let rows = METHODS.iter().filter(|row| args.method.as_ref().is_none_or(|name| name == row.name));
    let all = meant(rows, &args.settings)?;
    let reports: Vec<MethodReport> =
        all.iter().map(|(row, settings)| report(row, args.at, settings)).collect();
    if args.json {
        return console.json(&reports);
    }
    if args.at.is_some() {
        return console.line(sizes(&reports));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(name: &str, text: &str, settings: &[(&str, &str)]) -> MethodReport {
        let row = METHODS.iter().find(|row| row.name == name).unwrap();
        report(row, Some(size(text).unwrap()), settings)
    }

    #[test]
    fn tensors_at_a_size_are_numbers() {
        for row in METHODS {
            let report = report(row, Some(size("224x128").unwrap()), &[]);
            assert_eq!(report.refused, None, "{}", row.name);
            let mut shapes = report.tensors.iter().flat_map(|tensor| &tensor.shape);
            assert!(
                row.name == "head" || shapes.all(|extent| extent.parse::<usize>().is_ok()),
                "{}",
                row.name
            );
        }
        let shapes = |report: &MethodReport| -> Vec<String> {
            report.tensors.iter().map(|tensor| tensor.shape.join(" ")).collect()
        };
        assert_eq!(shapes(&at("lora", "10x6", &[("rank", "3")])), ["3 6", "10 3"]);
        let refused = at("oft", "5x7", &[("block", "4")]);
        assert!(refused.tensors.is_empty() && refused.refused.is_some());
    }

    #[test]
    fn sizes_are_two_numbers() {
        assert!(
            ["", "x", "4", "4x", "0x4", "4x5x6", "-1x4", "8193x8193"].iter().all(|text| size(text).is_err())
        );
        assert!(size("8192x8192").is_ok());
    }
}
