//! Why a command ends without doing what it was asked.

use std::io;
use std::path::{Path, PathBuf};

use ingraft_adapter::{AdapterError, SetError};
use ingraft_dataset::augment::RecipeError;
use ingraft_dataset::{AudioError, DatasetError, SplitError};
use ingraft_exec::{ExecError, ThreadsError};
use ingraft_import::ImportError;
#[cfg(feature = "cuda")]
use ingraft_jetson_cuda::CudaError;
use ingraft_method::{ContinueError, ExportError, MeasureError, MethodError};
use ingraft_plan::PlanError;
use ingraft_signal::SignalError;
use ingraft_store::{Refusal, SealError};
use ingraft_tensor::DType;
use ingraft_train::TrainError;

/// The reason for an exit code other than 0, told so that the user knows what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum CliError {
    /// The command line does not parse, or asks for help.
    Usage(clap::Error),
    /// An option's value turned out to make no sense.
    Setting {
        /// The option.
        option: &'static str,
        /// The value given.
        value: String,
        /// What it may be.
        expected: String,
    },
    /// The result cannot be written to stdout.
    Stdout(io::Error),
    /// A file or folder cannot be read or written.
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The file is no plan this version can use.
    Plan {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: PlanError,
    },
    /// The file is no adapter, or not one of this base.
    Adapter {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: AdapterError,
    },
    /// The file is neither a plan nor an adapter.
    NotAnArtifact(PathBuf),
    /// The file is no key of the kind that is wanted.
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What its line must begin with.
        wanted: &'static str,
    },
    /// A seal or key cannot be used.
    Seal {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: SealError,
    },
    /// A device would not take the adapter.
    Unwelcome {
        /// The adapter.
        path: PathBuf,
        /// Why not.
        error: Refusal,
    },
    /// The operating system's generator gives no random numbers.
    Random(String),
    /// This machine cannot run a target.
    Target(String),
    /// The GPU cannot serve.
    #[cfg(feature = "cuda")]
    Cuda(CudaError),
    /// As many threads as asked for cannot be started.
    Threads(ThreadsError),
    /// A plan cannot be bound or run.
    Exec(ExecError),
    /// Data cannot be read.
    Dataset(DatasetError),
    /// A recording cannot be brought to the rate of the front end.
    Audio {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: AudioError,
    },
    /// The front end refuses.
    Signal(SignalError),
    /// The plan's front-end record is unknown.
    Recipe,
    /// A front end's patches do not fill the first input.
    FrontEndShape {
        /// Kind of front end.
        kind: &'static str,
        /// Values in one patch.
        patch: usize,
        /// The input.
        name: String,
        /// Its extents.
        shape: Vec<usize>,
    },
    /// The plan has no front end, so it takes arrays only.
    NoFrontEnd,
    /// The plan takes pictures, not recordings.
    NotAudio,
    /// The plan takes recordings, not pictures.
    NotImages,
    /// The file's extension does not say what it is.
    InputKind(PathBuf),
    /// One array or clip for a plan with several inputs, of these names.
    InputCount(Vec<String>),
    /// An archive without an array for an input.
    InputMissing {
        /// The archive.
        path: PathBuf,
        /// The input.
        name: String,
        /// The arrays it holds.
        found: Vec<String>,
    },
    /// An array of another type or shape.
    InputArray {
        /// The file.
        path: PathBuf,
        /// The input.
        name: String,
        /// Its type and shape.
        wanted: String,
        /// Those of the array.
        found: String,
    },
    /// A front end cannot feed an input of this type.
    InputType {
        /// The input.
        name: String,
        /// Its element type.
        dtype: DType,
    },
    /// The extension of an output file does not say what to write.
    OutputKind(PathBuf),
    /// The data set has a class that the model or adapter does not know.
    UnknownClass {
        /// The class.
        class: String,
        /// Those it knows.
        known: Vec<String>,
    },
    /// The model's scores have no names, and the data has another number of classes.
    NoLabels {
        /// Classes of the data.
        classes: usize,
        /// Scores of the model.
        scores: usize,
    },
    /// The file cannot be used for `--replay`.
    Replay {
        /// The file.
        path: PathBuf,
        /// Why not, and what to do.
        reason: &'static str,
    },
    /// What an option does would say more of the clips than `--private` lets it.
    NotPrivate {
        /// The option.
        option: &'static str,
        /// What it does, and what to do instead.
        advice: &'static str,
    },
    /// There are few units to train privately on, and nobody agreed.
    Unconfirmed {
        /// How many there are.
        units: usize,
    },
    /// The adapter was not trained with `--private`, so it is not to be shared.
    NotShareable(PathBuf),
    /// The method adapts sites, and nothing that can be trained fits `--sites`.
    NoSites,
    /// The method adapts sites, but none of those chosen.
    NotAdapted,
    /// Training needs more memory than `--memory` gives it.
    TrainerMemory {
        /// Bytes needed.
        needed: usize,
        /// Bytes given.
        budget: usize,
    },
    /// A method trains more values than `--parameters` allows.
    TooManyParameters {
        /// Values trained, the head's included.
        needed: usize,
        /// Values allowed.
        budget: usize,
    },
    /// There is no such method or setting.
    Method(MethodError),
    /// Training cannot go on from the adapter given.
    Continue(ContinueError),
    /// Training cannot start or go on.
    Train(TrainError),
    /// What a method chooses weights by cannot be measured.
    Measure(MeasureError),
    /// What was learned cannot be written.
    Export(ExportError),
    /// A checkpoint or adapter cannot be read, written or combined.
    Import {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        error: Box<ImportError>,
    },
    /// The training clips cannot be divided.
    Split(SplitError),
    /// The augmentations do not suit the data.
    Augment(RecipeError),
    /// The first output has no row of scores per sample.
    NotAClassifier,
    /// The split file has fewer folds.
    NoSuchFold {
        /// The fold asked for.
        fold: usize,
        /// How many there are.
        folds: usize,
    },
    /// The model cannot be compiled.
    #[cfg(feature = "compile")]
    Compile {
        /// The ONNX file.
        path: PathBuf,
        /// What is wrong with it.
        error: ingraft_compile::CompileError,
    },
    /// An adapter cannot be kept resident.
    Set(SetError),
    /// Answers changed while switching: a defect.
    NotTheBase {
        /// Runs that differed from the first of their adapter.
        different: usize,
        /// Runs compared.
        runs: usize,
    },
    /// Nodes would run in float, and that was not allowed.
    FloatNodes(Vec<FloatNode>),
    /// Class names for another number of classes.
    LabelCount {
        /// Names given.
        labels: usize,
        /// Classes of the first output.
        classes: usize,
    },
    /// A front-end file cannot be understood.
    FrontEndFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// A node that was left in float.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FloatNode {
    /// ONNX name of the node.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// Why it was not quantized.
    pub reason: String,
}

impl CliError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_path_buf(), source }
    }
}

impl core::fmt::Display for CliError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Usage(usage) => write!(f, "{}", usage.render()),
            Self::Setting { option, value, expected } => write!(f, "{option} {value}: {expected}"),
            Self::Stdout(reason) => write!(f, "stdout: {reason}"),
            Self::Io { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Plan { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Adapter { path, error } => write!(f, "{}: {error}", path.display()),
            Self::NotAKey { path, wanted } => {
                write!(f, "{}: no key file; its line begins with {wanted:?}: make one with `ingraft keygen`", path.display())
            }
            Self::Seal { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Unwelcome { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Random(reason) => write!(f, "the operating system gives no random numbers: {reason}"),
            Self::NotAnArtifact(path) => write!(
                f,
                "{}: neither a plan nor an adapter; `ingraft compile` and `ingraft train` make them",
                path.display()
            ),
            Self::Target(name) => write!(f, "target {name}: this processor cannot run it; use --target native"),
            #[cfg(feature = "cuda")]
            Self::Cuda(error) => write!(f, "target cuda: {error}"),
            Self::Threads(error) => error.fmt(f),
            Self::Exec(error) => error.fmt(f),
            Self::Dataset(error) => error.fmt(f),
            Self::Audio { path, reason } => write!(f, "{}: {reason}", path.display()),
            Self::Signal(error) => error.fmt(f),
            Self::Recipe => f.write_str("the plan's front end is not one this version knows; recompile the model"),
            Self::FrontEndShape { kind, patch, name, shape } => write!(
                f,
                "--front-end {kind} makes patches of {patch} values, and input {name:?} of shape {shape:?} is not made of \
                 whole ones; give another front end, or `none`"
            ),
            Self::NoFrontEnd => f.write_str(
                "without a front end only .npy and .npz are taken; compile with --front-end for recordings and pictures",
            ),
            Self::NotAudio => f.write_str("the plan's front end takes pictures, not recordings"),
            Self::NotImages => f.write_str("the plan's front end takes recordings, not pictures"),
            Self::InputKind(path) => write!(
                f,
                "{}: give .npy, .npz, a recording (.wav .flac .mp3 .ogg), a picture (.png .jpg), or - for PCM on stdin",
                path.display()
            ),
            Self::InputCount(names) => {
                write!(f, "the plan has the inputs {}; give an .npz with an array for each", names.join(", "))
            }
            Self::InputMissing { path, name, found } => write!(
                f,
                "{}: no array for input {name:?}; it holds {}",
                path.display(),
                if found.is_empty() { "none".to_owned() } else { found.join(", ") }
            ),
            Self::InputArray { path, name, wanted, found } => write!(
                f,
                "{}: input {name:?} is {wanted} (or a multiple of its first extent), the array is {found}",
                path.display()
            ),
            Self::InputType { name, dtype } => {
                write!(f, "input {name:?} takes {dtype}; a front end gives float32, so feed it .npy")
            }
            Self::OutputKind(path) => {
                write!(f, "{}: results are written as .npy (first output) or .npz (all)", path.display())
            }
            Self::UnknownClass { class, known } => write!(
                f,
                "class {class:?} of the data is not among those of the model ({}); train an adapter for it, or \
                 name the model's classes with `ingraft compile --labels`",
                known.join(", ")
            ),
            Self::NoLabels { classes, scores } => write!(
                f,
                "the data has {classes} classes and the model {scores} scores without names; name them with `ingraft \
                 compile --labels`, or train an adapter with a head for the classes of the data"
            ),
            Self::Replay { path, reason } => write!(f, "{} {reason}", path.display()),
            Self::NotPrivate { option, advice } => write!(f, "--private: {option} {advice}"),
            Self::Unconfirmed { units } => write!(
                f,
                "{units} units are few to train privately on; --yes says that the loss of accuracy is accepted"
            ),
            Self::NotShareable(path) => write!(
                f,
                "{}: not trained with --private, and it cannot be made private afterwards: train again with `ingraft \
                 train --private`, on the clips or from a private adapter",
                path.display()
            ),
            Self::NoSites => f.write_str(
                "no site fits --sites that the training schedule reaches and the head depends on; `ingraft inspect` \
                 lists them, `ingraft compile --train-from` sets how far it reaches",
            ),
            Self::NotAdapted => f.write_str(
                "the method is not for layers of the kinds chosen; choose others with --sites, or another --method",
            ),
            Self::TrainerMemory { needed, budget } => write!(
                f,
                "training needs {needed} bytes, {} more than --memory gives; choose fewer --sites, an --optimizer with \
                 less state, or compile with --train-memory",
                needed.saturating_sub(*budget)
            ),
            Self::TooManyParameters { needed, budget } => write!(
                f,
                "{needed} values are trained, {} more than --parameters allows; choose fewer --sites, or settings that \
                 train less",
                needed.saturating_sub(*budget)
            ),
            Self::Method(error) => error.fmt(f),
            Self::Continue(error) => write!(f, "--from: {error}"),
            Self::Train(error) => error.fmt(f),
            Self::Measure(error) => error.fmt(f),
            Self::Export(error) => error.fmt(f),
            Self::Import { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Split(error) => error.fmt(f),
            Self::Augment(error) => write!(f, "--augment: {error}"),
            Self::NotAClassifier => f.write_str(
                "the first output is not one row of class scores per sample; train a head, or compare with `ingraft run`",
            ),
            Self::NoSuchFold { fold, folds } => write!(f, "--fold {fold}: the split file has folds 0 to {}", folds - 1),
            #[cfg(feature = "compile")]
            Self::Compile { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Set(error) => error.fmt(f),
            Self::NotTheBase { different, runs } => write!(
                f,
                "the base did not come through switching: {different} of {runs} runs differ; please report this"
            ),
            Self::FloatNodes(nodes) => {
                writeln!(f, "{} of the model's nodes would run in float:", nodes.len())?;
                for FloatNode { name, op, reason } in nodes {
                    writeln!(f, "  {name} ({op}): {reason}")?;
                }
                f.write_str("allow that with --allow-float, compile a float plan with --float, or quantize with --calibrate")
            }
            Self::LabelCount { labels, classes } => {
                write!(f, "--labels: {labels} names for {classes} classes of the first output; give one per line")
            }
            Self::FrontEndFile { path, reason } => write!(f, "{}: {reason}", path.display()),
        }
    }
}

impl core::error::Error for CliError {}

macro_rules! from {
    ($($error:ident => $variant:ident),* $(,)?) => {
        $(impl From<$error> for CliError {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        })*
    };
}

from! {
    ContinueError => Continue,
    DatasetError => Dataset,
    ExecError => Exec,
    ExportError => Export,
    MeasureError => Measure,
    MethodError => Method,
    SetError => Set,
    SignalError => Signal,
    SplitError => Split,
    TrainError => Train,
}

#[cfg(feature = "cuda")]
from! { CudaError => Cuda }
