//! `ingraft export`: an adapter as safetensors and JSON, in our own layout or in that of HF PEFT.

use std::fs;
use std::path::PathBuf;

use clap::ValueEnum;
use ingraft_import::{JSON, TENSORS, export_native, export_peft};
use ingraft_plan::PlanView;
use serde::Serialize;

use crate::plan_file::{ArtifactFile, write_whole};
use crate::{CliError, Console};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The adapter.
    #[arg(value_name = "A.adapter")]
    adapter: PathBuf,
    /// The directory to write; made where it is not there.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// `ingraft` reads back to the same bytes; `peft` is what HF PEFT loads, for methods it has.
    #[arg(long, value_enum, default_value_t = Layout::Ingraft)]
    layout: Layout,
    /// The plan of the adapter, for the shapes of convolutions in `--layout peft`.
    #[arg(long, value_name = "BASE.plan", required_if_eq("layout", "peft"))]
    base: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Whose files are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Layout {
    /// Our own.
    Ingraft,
    /// HF PEFT's.
    Peft,
}

/// What `export --json` prints.
#[derive(Debug, Serialize)]
struct ExportReport {
    /// The method.
    method: String,
    /// The files written.
    files: Vec<String>,
}

pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<(), CliError> {
    let file = ArtifactFile::read(&args.adapter)?;
    let method = file.adapter()?.method().to_owned();
    let refused = |error| CliError::Import { path: args.adapter.clone(), error: Box::new(error) };
    let (names, exported) = match (&args.layout, &args.base) {
        (Layout::Peft, Some(base)) => {
            let base = ArtifactFile::read(base)?;
            let plan: PlanView<'_> = base.plan()?;
            (
                ["adapter_config.json", "adapter_model.safetensors"],
                export_peft(file.bytes(), &plan).map_err(refused)?,
            )
        }
        _ => ([JSON, TENSORS], export_native(file.bytes()).map_err(refused)?),
    };
    fs::create_dir_all(&args.output).map_err(|source| CliError::io(&args.output, source))?;
    let paths = names.map(|name| args.output.join(name));
    write_whole(&paths[0], exported.json.as_bytes())?;
    write_whole(&paths[1], &exported.tensors)?;
    let files = paths.iter().map(|path| path.display().to_string()).collect();
    let report = ExportReport { method, files };
    if args.json { console.json(&report) } else { console.line(report.files.join("\n")) }
}
