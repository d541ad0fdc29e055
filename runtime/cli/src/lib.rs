//! The `ingraft` command as a library: parse the arguments, call the crates that do the work, print.
//!
//! [`run`] is the whole command over any input and output, so that a test or another program can call it in
//! place of a process. There is one file per subcommand in `command/`; beside them:
//!
//! | module | what it is |
//! |---|---|
//! | `args` | the command line |
//! | `console` | where data, messages and progress go |
//! | `plan_file` | plans and adapters read from disk, aligned |
//! | `key_file` | keys read from and written to disk |
//! | `target` | the targets compiled in |
//! | `input` | files, recordings, pictures and streams as input tensors |
//! | `predict` | a plan bound to host memory, run on them |
//! | `classes` | the classes of a data set among those of a model |
//! | `training` | views, epochs and early stopping around the trainer |
//! | `trace` | profiles and dumps of single steps |
//! | `cost` | multiply-accumulates and bytes of a step |
//! | `report` | tables |
//!
//! # Contract
//! Data goes to stdout, messages and progress to stderr, progress bars only to a terminal. Exit codes:
//! 0 success, 1 refused with the reason on stderr, 2 wrong usage. What `--json` prints is documented at the
//! types in `command/` and in `README.md`; fields are added, never renamed or removed.
#![forbid(unsafe_code)]

mod aligned;
mod args;
mod audit;
mod backend;
#[cfg_attr(
    not(feature = "cuda"),
    expect(dead_code, reason = "only a device beside the processor is asked for its board")
)]
mod board;
mod classes;
mod command;
mod console;
mod cost;
mod entropy;
mod error;
mod input;
mod key_file;
mod plan_file;
mod predict;
mod replay_file;
mod report;
mod target;
mod threads;
mod trace;
mod training;

use std::ffi::OsString;

pub use console::{Console, Exit};
pub use error::CliError;

/// Runs the command line `args`, the program's name first.
///
/// # Examples
/// ```
/// use ingraft_cli::{Console, Exit, run};
///
/// let (mut out, mut messages) = (Vec::new(), Vec::new());
/// let exit = run(["ingraft", "--version"], &mut Console::new(std::io::empty(), &mut out, &mut messages));
/// assert_eq!(exit, Exit::Success);
/// assert!(out.starts_with(b"ingraft "));
/// ```
pub fn run<A>(args: impl IntoIterator<Item = A>, console: &mut Console<'_>) -> Exit
where
    A: Into<OsString> + Clone,
{
    let result = args::parse(args).and_then(|command| command.run(console));
    match result {
        Ok(()) => Exit::Success,
        Err(error) => console.fail(&error),
    }
}
