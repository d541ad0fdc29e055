//! `ingraft export`: an adapter as safetensors and JSON, in our own layout or in that of HF PEFT; or as a file to share.

use std::fs;
use std::path::PathBuf;

use clap::ValueEnum;
use ingraft_import::{JSON, TENSORS, export_native, export_peft};
use ingraft_plan::PlanView;
use serde::Serialize;

use super::train::private::PrivacyReport;
use crate::plan_file::{ArtifactFile, check_folder, write_whole};
use crate::{CliError, Console};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The adapter.
    #[arg(value_name = "A.adapter")]
    adapter: PathBuf,
    /// The directory to write; made where it is not there. With --share the file.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Write the adapter file itself, to be given away, and say what it promises of the privacy of its clips; refused unless
    /// it was trained with --private.
    #[arg(long, conflicts_with = "layout")]
    share: bool,
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
    /// With --share, what the file promises of privacy; else null: other layouts do not carry it.
    privacy: Option<PrivacyReport>,
}

pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<(), CliError> {
    let file = ArtifactFile::read(&args.adapter)?;
    let method = file.adapter()?.method().to_owned();
    if args.share {
        return share(args, &file, console);
    }
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
    let report = ExportReport { method, files, privacy: None };
    if args.json { console.json(&report) } else { console.line(report.files.join("\n")) }
}

/// Writes the adapter as it is, if it may be shared.
fn share(args: &Args, file: &ArtifactFile, console: &mut Console<'_>) -> Result<(), CliError> {
    let adapter = file.adapter()?;
    let privacy = adapter.privacy().ok_or_else(|| CliError::NotShareable(args.adapter.clone()))?;
    check_folder(&args.output)?;
    write_whole(&args.output, file.bytes())?;
    let written = args.output.display().to_string();
    if args.json {
        let privacy = Some(privacy.into());
        return console.json(&ExportReport {
            method: adapter.method().to_owned(),
            files: vec![written],
            privacy,
        });
    }
    console.line(format_args!("{written}\n{privacy}"))
}
