//! `ingraft inspect`: what is in a plan or an adapter.

mod adapter;
mod plan;

use std::path::PathBuf;

use crate::args::{method_names, target_names};
use crate::plan_file::ArtifactFile;
use crate::{CliError, Console};

use adapter::AdapterReport;
pub(super) use plan::PlanReport;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file.
    #[arg(value_name = "BASE.plan|A.adapter")]
    file: PathBuf,
    /// Account the memory of this target only.
    #[arg(long, value_name = "NAME", value_parser = target_names())]
    target: Option<String>,
    /// Account the memory of training with this method too, with the defaults of `train`, an AdamW optimizer and the
    /// largest head the plan has room for.
    #[arg(long, value_name = "NAME", value_parser = method_names())]
    method: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<(), CliError> {
    let file = ArtifactFile::read(&args.file)?;
    if file.bytes().starts_with(&ingraft_adapter::MAGIC) {
        let report = AdapterReport::new(&file.adapter()?);
        return if args.json { console.json(&report) } else { console.line(report) };
    }
    if !file.bytes().starts_with(&ingraft_plan::MAGIC) {
        return Err(CliError::NotAnArtifact(args.file.clone()));
    }
    let report = PlanReport::new(&file.plan()?, args.target.as_deref(), args.method.as_deref())?;
    if args.json { console.json(&report) } else { console.line(report.details()) }
}
