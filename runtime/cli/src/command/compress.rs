//! `ingraft compress`, `slice` and `merge`: an adapter made smaller, or cheaper to run.

use std::path::PathBuf;

use ingraft_import::{Base, Compression, Tensors, compress};

use super::import::ImportReport;
use crate::plan_file::{ArtifactFile, check_folder, write_whole};
use crate::{CliError, Console};

/// The files of each of the three.
#[derive(Debug, clap::Args)]
struct Files {
    /// The adapter.
    #[arg(value_name = "A.adapter")]
    adapter: PathBuf,
    /// Its base.
    #[arg(long, value_name = "BASE.plan")]
    base: PathBuf,
    /// Where to write the result.
    #[arg(short, long, value_name = "C.adapter")]
    output: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CompressArgs {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    form: Form,
    /// γ over the deviation of the delta, for `--ternary`.
    #[arg(long, value_name = "RATIO", default_value_t = 1.0)]
    scale: f64,
}

/// The form to bring it to.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Form {
    /// Deltas: the nearest pair of this rank.
    #[arg(long, value_name = "R")]
    rank: Option<usize>,
    /// Deltas: this share of the entries, the largest, each ±γ.
    #[arg(long, value_name = "SHARE")]
    ternary: Option<f64>,
    /// Factors: int8, with room for any input of the base.
    #[arg(long)]
    int8: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SliceArgs {
    #[command(flatten)]
    files: Files,
    /// Rank of the slice: the first rows of A and columns of B.
    #[arg(long, value_name = "R")]
    rank: usize,
}

#[derive(Debug, clap::Args)]
pub(crate) struct MergeArgs {
    #[command(flatten)]
    files: Files,
}

pub(crate) fn run_compress(args: &CompressArgs, console: &mut Console<'_>) -> Result<(), CliError> {
    let form = &args.form;
    let compression = match (form.rank, form.ternary) {
        (Some(rank), _) => Compression::Rank(rank),
        (_, Some(density)) => Compression::Ternary { density, scale: args.scale },
        _ => Compression::Int8,
    };
    run(&args.files, compression, console)
}

pub(crate) fn run_slice(args: &SliceArgs, console: &mut Console<'_>) -> Result<(), CliError> {
    run(&args.files, Compression::Slice(args.rank), console)
}

pub(crate) fn run_merge(args: &MergeArgs, console: &mut Console<'_>) -> Result<(), CliError> {
    run(&args.files, Compression::Fuse, console)
}

fn run(args: &Files, compression: Compression, console: &mut Console<'_>) -> Result<(), CliError> {
    check_folder(&args.output)?;
    let file = ArtifactFile::read(&args.base)?;
    let base = Base { plan: file.plan()?, initializers: Tensors::new() };
    let adapter = ArtifactFile::read(&args.adapter)?;
    adapter.attach(&base.plan)?;
    let made = compress(&base, adapter.bytes(), compression)
        .map_err(|error| CliError::Import { path: args.adapter.clone(), error })?;
    write_whole(&args.output, &made.bytes)?;
    let report = ImportReport::new(&made, &base)?;
    if args.json { console.json(&report) } else { console.line(report.table()) }
}
