//! `ingraft sign`: a seal beside an adapter.

use std::path::PathBuf;

use ingraft_store::Statement;
use serde::Serialize;

use crate::args::date;
use crate::key_file::{key_name, read_secret, seal_path};
use crate::plan_file::{ArtifactFile, write_whole};
use crate::report::hex;
use crate::{CliError, Console};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The adapter.
    #[arg(value_name = "A.adapter")]
    adapter: PathBuf,
    /// The secret key, of `ingraft keygen`.
    #[arg(long, value_name = "KEY")]
    key: PathBuf,
    /// Its version: devices that had a higher one refuse it.
    #[arg(long, value_name = "N")]
    version: u64,
    /// The name that devices keep it under; the file's without its extension if left out.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The day from which on the seal is worth nothing, in UTC; never if left out.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = date)]
    expires: Option<u64>,
    /// Where to write the seal; the adapter's name with `.seal` behind it if left out.
    #[arg(short, long, value_name = "A.adapter.seal")]
    output: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What `sign --json` prints.
#[derive(Debug, Serialize)]
struct SignReport {
    /// The file written.
    seal: String,
    /// Content hash of the adapter.
    adapter_hash: String,
    /// Content hash of its base.
    base_hash: String,
    /// Its method.
    method: String,
    /// The name that devices keep it under.
    name: String,
    /// Its version.
    version: u64,
    /// When the seal expires, in seconds since 1970; null for never.
    expires: Option<u64>,
    /// First bytes of the hash of the public key.
    signer: String,
}

pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<(), CliError> {
    let file = ArtifactFile::read(&args.adapter)?;
    let adapter = file.adapter()?;
    let stem = args.adapter.file_stem().unwrap_or_default().to_string_lossy();
    let name = args.name.as_deref().unwrap_or(&stem);
    let key = key_name(name)?;
    let secret = read_secret(&args.key)?;
    let refused = |error| CliError::Seal { path: args.adapter.clone(), error };
    let statement = Statement::of(&adapter, key, args.version, args.expires).map_err(refused)?;
    let output = args.output.clone().unwrap_or_else(|| seal_path(&args.adapter));
    write_whole(&output, secret.sign(&statement).as_bytes())?;
    let report = SignReport {
        seal: output.display().to_string(),
        adapter_hash: hex(&statement.adapter),
        base_hash: hex(&statement.base),
        method: adapter.method().to_owned(),
        name: name.to_owned(),
        version: args.version,
        expires: args.expires,
        signer: hex(&secret.public().id()),
    };
    if args.json { console.json(&report) } else { console.line(report.seal) }
}
