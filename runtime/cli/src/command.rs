//! The subcommands, one file each.

mod audit;
mod bench;
#[cfg(feature = "compile")]
mod compile;
mod compose;
mod compress;
#[cfg(feature = "compile")]
mod demo;
mod eval;
mod export;
mod import;
mod inspect;
mod keygen;
mod methods;
mod run;
mod sign;
mod study;
mod train;
mod verify;

use clap::Subcommand;

use crate::{CliError, Console};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a plan from an ONNX model.
    #[cfg(feature = "compile")]
    Compile(compile::Args),
    /// Say what is in a plan or an adapter.
    Inspect(inspect::Args),
    /// Run a plan on arrays, a recording, a picture or a PCM stream.
    Run(run::Args),
    /// Train an adapter on labelled clips.
    Train(train::Args),
    /// Say how often a plan, or an adapter on it, is right.
    Eval(eval::Args),
    /// Compare adaptation methods under one budget.
    Study(study::Args),
    /// Measure how long one inference takes.
    Bench(bench::Args),
    /// Make an adapter from a checkpoint of another library.
    Import(import::Args),
    /// Write an adapter as safetensors and JSON.
    Export(export::Args),
    /// Make one adapter from several.
    Compose(compose::Args),
    /// Make an adapter smaller.
    Compress(compress::CompressArgs),
    /// Cut an adapter's pairs to a lower rank.
    Slice(compress::SliceArgs),
    /// Make every site's terms one fused weight, which costs nothing beside the base's.
    Merge(compress::MergeArgs),
    /// Attack what training gives away.
    Audit(audit::Args),
    /// Make a key pair to sign adapters with.
    Keygen(keygen::Args),
    /// Vouch for an adapter: write a seal beside it.
    Sign(sign::Args),
    /// Say whether a device would take an adapter.
    Verify(verify::Args),
    /// List the adaptation methods.
    Methods(methods::Args),
    /// The whole story on the built-in model, in under a minute.
    #[cfg(feature = "compile")]
    Demo(demo::Args),
}

impl Command {
    /// Does what the command line asks for.
    pub(crate) fn run(&self, console: &mut Console<'_>) -> Result<(), CliError> {
        match self {
            #[cfg(feature = "compile")]
            Self::Compile(args) => compile::run(args, console),
            Self::Inspect(args) => inspect::run(args, console),
            Self::Run(args) => run::run(args, console),
            Self::Train(args) => train::run(args, console),
            Self::Eval(args) => eval::run(args, console),
            Self::Study(args) => study::run(args, console),
            Self::Bench(args) => bench::run(args, console),
            Self::Import(args) => import::run(args, console),
            Self::Export(args) => export::run(args, console),
            Self::Compose(args) => compose::run(args, console),
            Self::Compress(args) => compress::run_compress(args, console),
            Self::Slice(args) => compress::run_slice(args, console),
            Self::Merge(args) => compress::run_merge(args, console),
            Self::Audit(args) => audit::run(args, console),
            Self::Keygen(args) => keygen::run(args, console),
            Self::Sign(args) => sign::run(args, console),
            Self::Verify(args) => verify::run(args, console),
            Self::Methods(args) => methods::run(args, console),
            #[cfg(feature = "compile")]
            Self::Demo(args) => demo::run(args, console),
        }
    }
}
