//! The `ingraft` command.
#![forbid(unsafe_code)]

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use ingraft_cli::{Console, run};

fn main() -> ExitCode {
    let (mut stdout, mut stderr) = (io::stdout().lock(), io::stderr());
    let bars = stderr.is_terminal();
    run(std::env::args_os(), &mut Console::new(io::stdin(), &mut stdout, &mut stderr).with_bars(bars)).into()
}
