//! `ingraft keygen`: a key pair to sign adapters with.

use std::path::{Path, PathBuf};

use ingraft_store::SecretKey;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::key_file::{public_path, write_public, write_secret};
use crate::report::hex;
use crate::{CliError, Console};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to write the secret key; the public one goes beside it, with `.pub` behind its name.
    #[arg(short, long, value_name = "KEY")]
    output: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What `keygen --json` prints.
#[derive(Debug, Serialize)]
struct KeyReport {
    /// The public key.
    public_key: String,
    /// First bytes of its hash, by which seals name it.
    signer: String,
    /// The file of the secret key.
    secret_file: String,
    /// The file of the public key.
    public_file: String,
}

pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<(), CliError> {
    let mut seed = Zeroizing::new([0; SecretKey::BYTES]);
    getrandom::fill(&mut *seed).map_err(|error| CliError::Random(error.to_string()))?;
    let public = SecretKey::from_seed(&seed).public();
    let public_file = public_path(&args.output);
    write_secret(&args.output, &seed)?;
    write_public(&public_file, &public)?;
    let name = |path: &Path| path.display().to_string();
    let report = KeyReport {
        public_key: hex(&public.to_bytes()),
        signer: hex(&public.id()),
        secret_file: name(&args.output),
        public_file: name(&public_file),
    };
    if args.json {
        console.json(&report)
    } else {
        console.line(format_args!("{}  {}", report.signer, report.public_file))
    }
}
