//! The command line.

use std::ffi::OsString;

use clap::Parser;
use clap::builder::PossibleValuesParser;
use ingraft_method::METHODS;
use ingraft_train::OPTIMIZERS;

use crate::command::Command;
use crate::{CliError, target};

/// One frozen quantized base, many small adapters: compile, run, train and measure them.
#[derive(Debug, Parser)]
#[command(name = "ingraft", version, subcommand_required = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Parses `args`, the program's name first.
///
/// # Errors
/// [`CliError::Usage`], also for `--help` and `--version`.
pub(crate) fn parse<A>(args: impl IntoIterator<Item = A>) -> Result<Command, CliError>
where
    A: Into<OsString> + Clone,
{
    Cli::try_parse_from(args).map(|cli| cli.command).map_err(CliError::Usage)
}

/// Accepts the names of the targets compiled in.
pub(crate) fn target_names() -> PossibleValuesParser {
    PossibleValuesParser::new(target::names())
}

/// Accepts the names of the targets that plans run on without being trained.
pub(crate) fn runner_names() -> PossibleValuesParser {
    PossibleValuesParser::new(target::runner_names())
}

/// Accepts the names of the adaptation methods.
pub(crate) fn method_names() -> PossibleValuesParser {
    PossibleValuesParser::new(METHODS.iter().map(|row| row.name))
}

/// Accepts the names of the optimizers.
pub(crate) fn optimizer_names() -> PossibleValuesParser {
    PossibleValuesParser::new(OPTIMIZERS.iter().map(|optimizer| optimizer.name()))
}

/// Splits `NAME=VALUE`.
pub(crate) fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    match (name.trim(), value.trim()) {
        ("", _) | (_, "") => Err("expected NAME=VALUE".to_owned()),
        (name, value) => Ok((name.to_owned(), value.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn assignments_have_both_sides() {
        assert_eq!(assignment("rank = 8"), Ok(("rank".to_owned(), "8".to_owned())));
        assert_eq!(assignment("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(["rank", "=8", "rank="].iter().all(|text| assignment(text).is_err()));
    }
}
