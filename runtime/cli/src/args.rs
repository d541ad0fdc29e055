//! The command line.

use std::ffi::OsString;

use clap::Parser;
use clap::builder::PossibleValuesParser;
use ingraft_method::{METHODS, MethodRow};
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

/// Accepts the names of the targets compiled in, and those with memory of their own.
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

/// The settings that are meant for a method.
pub(crate) type Meant<'a> = (&'static MethodRow, Vec<(&'a str, &'a str)>);

/// The settings `given`, `[METHOD.]NAME` and value each, by the methods they are meant for.
///
/// # Errors
/// [`CliError::Setting`] for a setting that none of the methods has.
pub(crate) fn meant<'a>(
    rows: impl Iterator<Item = &'static MethodRow>,
    given: &'a [(String, String)],
) -> Result<Vec<Meant<'a>>, CliError> {
    let mut used = vec![false; given.len()];
    let of = |row: &'static MethodRow| {
        let mut settings = Vec::new();
        for ((name, value), used) in given.iter().zip(&mut used) {
            let (method, setting) = name.split_once('.').map_or((None, name.as_str()), |(m, s)| (Some(m), s));
            let meant = match method {
                Some(method) => method == row.name,
                None => row.settings.iter().any(|known| known.name == setting),
            };
            if meant {
                *used = true;
                settings.push((setting, value.as_str()));
            }
        }
        (row, settings)
    };
    let all = rows.map(of).collect();
    match given.iter().zip(used).find(|(_, used)| !used) {
        Some(((name, value), _)) => Err(CliError::Setting {
            option: "--set",
            value: format!("{name}={value}"),
            expected: "none of the methods has it; `ingraft methods` lists the settings".to_owned(),
        }),
        None => Ok(all),
    }
}

/// Midnight, in UTC, of a day written `YYYY-MM-DD`, in seconds since 1970.
pub(crate) fn date(text: &str) -> Result<u64, String> {
    let expected = || "expected YYYY-MM-DD, from 1970-01-01 on".to_owned();
    let mut parts = text.splitn(3, '-');
    let mut part = |width| {
        let part = parts.next().filter(|part| part.len() == width)?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse::<u64>().ok())?
    };
    let date = (part(4), part(2), part(2));
    let (Some(year), Some(month), Some(day)) = date else { return Err(expected()) };
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = |year, month| match month {
        2 => 28 + u64::from(leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if year < 1970 || !(1..=12).contains(&month) || day == 0 || day > days(year, month) {
        return Err(expected());
    }
    let years: u64 = (1970..year).map(|year| 365 + u64::from(leap(year))).sum();
    let months: u64 = (1..month).map(|month| days(year, month)).sum();
    Ok((years + months + day - 1) * 86_400)
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
    fn days_are_those_of_the_calendar() {
        let days =
            [("1970-01-01", 0), ("2000-03-01", 11_017), ("2026-11-29", 20_786), ("2100-03-01", 47_541)];
        for (text, day) in days {
            assert_eq!(date(text), Ok(day * 86_400), "{text}");
        }
        for text in [
            "",
            "1969-12-31",
            "2025-02-29",
            "2026-13-01",
            "2026-1-01",
            "2026-01-00",
            "2026-01-01-",
            "2026-+1-01",
        ] {
            assert!(date(text).is_err(), "{text}");
        }
    }

    #[test]
    fn assignments_have_both_sides() {
        assert_eq!(assignment("rank = 8"), Ok(("rank".to_owned(), "8".to_owned())));
        assert_eq!(assignment("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(["rank", "=8", "rank="].iter().all(|text| assignment(text).is_err()));
    }
}
