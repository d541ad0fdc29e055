//! `ingraft compress`, `slice` and `merge`: an adapter made smaller, or cheaper to run.

use std::path::PathBuf;

use clap::ValueEnum;
use ingraft_import::{Base, Coding, Compression, Tensors, compress, decode_ternary, encode_ternary};

use super::import::ImportReport;
use crate::plan_file::{ArtifactFile, check_folder, write_whole};
use crate::report::bytes;
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
    /// Write a coded file for the way to a device, which `import` makes an adapter of, in place of an adapter.
    #[arg(long, value_enum, requires = "ternary")]
    coding: Option<Positions>,
}

/// How a coded file writes positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Positions {
    /// A bit for every entry of a weight.
    Bitmap,
    /// The gaps between entries, by Golomb's code.
    Golomb,
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
    if let (Some(coding), Some(density)) = (args.coding, form.ternary) {
        return encode(args, coding, density, console);
    }
    let compression = match (form.rank, form.ternary) {
        (Some(rank), _) => Compression::Rank(rank),
        (_, Some(density)) => Compression::Ternary { density, scale: args.scale },
        _ => Compression::Int8,
    };
    run(&args.files, compression, console)
}

fn encode(
    args: &CompressArgs,
    coding: Positions,
    density: f64,
    console: &mut Console<'_>,
) -> Result<(), CliError> {
    let files = &args.files;
    check_folder(&files.output)?;
    let file = ArtifactFile::read(&files.base)?;
    let base = Base { plan: file.plan()?, initializers: Tensors::new() };
    let adapter = ArtifactFile::read(&files.adapter)?;
    adapter.attach(&base.plan)?;
    let coding = if coding == Positions::Bitmap { Coding::Bitmap } else { Coding::Golomb };
    let refused = |error| CliError::Import { path: files.adapter.clone(), error: Box::new(error) };
    let coded = encode_ternary(&base, adapter.bytes(), density, args.scale, coding).map_err(refused)?;
    // What arrives is what is reported.
    let made = decode_ternary(&base, &coded).map_err(refused)?;
    write_whole(&files.output, &coded)?;
    console.note(format_args!("{} in place of {}", bytes(coded.len()), bytes(adapter.bytes().len())));
    let report = ImportReport::new(&made, &base)?;
    if files.json { console.json(&report) } else { console.line(report.table()) }
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
        .map_err(|error| CliError::Import { path: args.adapter.clone(), error: Box::new(error) })?;
    write_whole(&args.output, &made.bytes)?;
    let report = ImportReport::new(&made, &base)?;
    if args.json { console.json(&report) } else { console.line(report.table()) }
}
