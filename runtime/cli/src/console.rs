//! Where data, messages and progress go.

use core::fmt::Display;
use std::io::{self, ErrorKind, Read, Write};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::CliError;

/// The streams a command reads and writes.
pub struct Console<'c> {
    stdin: Box<dyn Read + 'c>,
    stdout: &'c mut dyn Write,
    stderr: &'c mut dyn Write,
    bars: bool,
}

/// How a command ended; the number is its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It did what it was asked.
    Success = 0,
    /// It refused, and said why.
    Refused = 1,
    /// The command line makes no sense.
    Usage = 2,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl<'c> Console<'c> {
    /// A console over these streams, without progress bars.
    pub fn new(stdin: impl Read + 'c, stdout: &'c mut dyn Write, stderr: &'c mut dyn Write) -> Self {
        Self { stdin: Box::new(stdin), stdout, stderr, bars: false }
    }

    /// The same console; `bars` says whether progress is drawn on the process's stderr.
    pub fn with_bars(self, bars: bool) -> Self {
        Self { bars, ..self }
    }

    /// The data fed to the command, for one reader: later ones find it empty.
    pub(crate) fn take_stdin(&mut self) -> Box<dyn Read + 'c> {
        core::mem::replace(&mut self.stdin, Box::new(io::empty()))
    }

    /// Writes a line of data and hands it on at once: the reader may be waiting for it.
    pub(crate) fn line(&mut self, line: impl Display) -> Result<(), CliError> {
        writeln!(self.stdout, "{line}").and_then(|()| self.stdout.flush()).map_err(CliError::Stdout)
    }

    /// Writes `value` as indented JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(value).map_err(|error| CliError::Stdout(error.into()))?;
        self.line(text)
    }

    /// Writes `value` as one line of JSON.
    pub(crate) fn json_line(&mut self, value: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string(value).map_err(|error| CliError::Stdout(error.into()))?;
        self.line(text)
    }

    /// Writes a message. A message that cannot be written is no reason to stop.
    pub(crate) fn note(&mut self, message: impl Display) {
        let _ = writeln!(self.stderr, "{message}");
    }

    /// A progress bar over `length` steps of `what`; invisible unless stderr is a terminal.
    pub(crate) fn bar(&self, length: usize, what: &'static str) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(
            Some(length as u64),
            if self.bars { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() },
        );
        let style = ProgressStyle::with_template("{msg:>12} {bar:30} {pos}/{len} {elapsed}");
        bar.with_message(what).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    }

    /// Says why a command failed.
    pub(crate) fn fail(&mut self, error: &CliError) -> Exit {
        match error {
            CliError::Usage(usage) if usage.use_stderr() => {
                let _ = write!(self.stderr, "{}", usage.render());
                Exit::Usage
            }
            // `--help` and `--version` arrive as errors of the parser, but are data.
            CliError::Usage(help) => {
                let _ = write!(self.stdout, "{}", help.render());
                Exit::Success
            }
            CliError::Setting { .. } => {
                self.note(format_args!("error: {error}"));
                Exit::Usage
            }
            // Whoever read the data has seen enough, as in `ingraft inspect … | head`.
            CliError::Stdout(reason) if reason.kind() == ErrorKind::BrokenPipe => Exit::Success,
            _ => {
                self.note(format_args!("error: {error}"));
                Exit::Refused
            }
        }
    }
}

impl core::fmt::Debug for Console<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Console").field("bars", &self.bars).finish_non_exhaustive()
    }
}
