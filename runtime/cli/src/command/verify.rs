//! `ingraft verify`: whether a device would take an adapter.

use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use ingraft_store::{Key, Policy, Refusal, Seal, SealError, Statement};
use serde::Serialize;

use crate::args::date;
use crate::key_file::{key_name, read_public, seal_path};
use crate::plan_file::ArtifactFile;
use crate::report::hex;
use crate::{CliError, Console};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The adapter.
    #[arg(value_name = "A.adapter")]
    adapter: PathBuf,
    /// What must be proved: nothing, an undamaged adapter file, or a seal of a trusted key.
    #[arg(long, value_enum, default_value_t = Needed::Signed)]
    policy: Needed,
    /// A public key to trust; may be repeated.
    #[arg(long, value_name = "KEY.pub")]
    trust: Vec<PathBuf>,
    /// The seal; the adapter's name with `.seal` behind it if left out.
    #[arg(long, value_name = "A.adapter.seal")]
    seal: Option<PathBuf>,
    /// The name it is to be kept under; that of the seal if left out.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The lowest version to accept.
    #[arg(long, value_name = "N", default_value_t = 0)]
    floor: u64,
    /// The day to judge at, in UTC; now if left out.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = date)]
    at: Option<u64>,
    /// The plan it must be for.
    #[arg(long, value_name = "BASE.plan")]
    base: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// How much must be proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Needed {
    /// Nothing.
    Any,
    /// An undamaged adapter file.
    Hashed,
    /// A seal of a trusted key.
    Signed,
}

/// What `verify --json` prints.
#[derive(Debug, Serialize)]
struct VerifyReport {
    /// `any`, `hashed` or `signed`.
    policy: &'static str,
    /// Content hash of the adapter; null where the policy is `any`.
    adapter_hash: Option<String>,
    /// Content hash of its base.
    base_hash: Option<String>,
    /// What the seal states; null where it was not asked for.
    seal: Option<SealReport>,
}

/// The seal in `verify --json`.
#[derive(Debug, Serialize)]
struct SealReport {
    /// The name that devices keep the adapter under.
    name: String,
    /// Its version.
    version: u64,
    /// When the seal expires, in seconds since 1970; null for never.
    expires: Option<u64>,
}

pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<(), CliError> {
    if args.policy == Needed::Signed && args.trust.is_empty() {
        let expected = "name a key to trust, or another --policy".to_owned();
        return Err(CliError::Setting { option: "--trust", value: "KEY.pub".to_owned(), expected });
    }
    let file = ArtifactFile::read(&args.adapter)?;
    let refused = |error| CliError::Unwelcome { path: args.adapter.clone(), error };
    let trusted = args.trust.iter().map(|path| read_public(path)).collect::<Result<Vec<_>, _>>()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs());
    let mut policy = match args.policy {
        Needed::Any => Policy::ANY,
        Needed::Hashed => Policy::HASHED,
        Needed::Signed => Policy::signed(&trusted, args.at.or(now)),
    };
    if let Some(base) = &args.base {
        policy = policy.for_base(*ArtifactFile::read(base)?.plan()?.hash());
    }
    let signed = match args.policy {
        Needed::Signed => Some(args.read_seal()?),
        _ => None,
    };
    let statement = signed.map(|seal| seal.verify(&trusted)).transpose();
    let statement = statement.map_err(|error| refused(Refusal::Seal(error)))?;
    let key = args.key(statement.as_ref())?;
    policy.admit(&key, file.bytes(), signed.as_ref(), args.floor).map_err(refused)?;
    let adapter = (args.policy != Needed::Any).then(|| file.adapter()).transpose()?;
    let report = VerifyReport {
        policy: match args.policy {
            Needed::Any => "any",
            Needed::Hashed => "hashed",
            Needed::Signed => "signed",
        },
        adapter_hash: adapter.map(|adapter| hex(adapter.hash())),
        base_hash: adapter.map(|adapter| hex(adapter.base_hash())),
        seal: statement.map(|Statement { key, version, expires, .. }| SealReport {
            name: key.to_string(),
            version,
            expires,
        }),
    };
    if args.json {
        return console.json(&report);
    }
    match report.seal {
        Some(SealReport { name, version, .. }) => {
            console.line(format_args!("signed: {name}, version {version}"))
        }
        None => console.line(report.policy),
    }
}

impl Args {
    fn read_seal(&self) -> Result<Seal, CliError> {
        let path = self.seal.clone().unwrap_or_else(|| seal_path(&self.adapter));
        let bytes = fs::read(&path).map_err(|source| CliError::io(&path, source))?;
        Seal::read(&bytes).ok_or(CliError::Seal { path, error: SealError::Malformed })
    }

    /// The name it is to be kept under; where nobody states one, it does not matter.
    fn key(&self, statement: Option<&Statement>) -> Result<Key, CliError> {
        match (&self.name, statement) {
            (None, Some(statement)) => Ok(statement.key),
            (name, _) => key_name(name.as_deref().unwrap_or("adapter")),
        }
    }
}
