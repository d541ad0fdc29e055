//! Why a file of others is refused.

use core::fmt;

use ingraft_adapter::AdapterError;
use ingraft_method::{ExportError, MethodError, ValuesError};

/// A refusal, with the tensor, module, site or setting it is about.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportError {
    /// What it is about; empty for the whole file.
    pub about: String,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// The file is a Python pickle, which can run any code.
    Pickle,
    /// No safetensors file, or a damaged one.
    Safetensors(String),
    /// No `.onnx_adapter` file, or a damaged one.
    FlatBuffer,
    /// No JSON, or not what belongs there.
    Json(String),
    /// A file that belongs to a checkpoint is not there.
    NoFile(&'static str),
    /// No element type that can be read.
    Type(String),
    /// A NaN or an infinity.
    NotFinite,
    /// The method or setting is not one that can be imported, for this reason.
    Unsupported(&'static str),
    /// No method of this name.
    UnknownMethod,
    /// A setting has a value it cannot have.
    Setting(String),
    /// A tensor that must be there is not.
    Missing(String),
    /// A tensor has another shape.
    Shape {
        /// Its shape.
        given: Vec<usize>,
        /// What it must be.
        wanted: String,
    },
    /// The checkpoint belongs to another base.
    WrongBase {
        /// The hash it names.
        wanted: String,
        /// The hash of the base at hand.
        found: String,
    },
    /// Modules that are no site of the base, and tensors that belong to none.
    Unmatched {
        /// Of the checkpoint.
        tensors: Vec<String>,
        /// Of the base, without a tensor.
        sites: Vec<String>,
        /// What could be meant, by shape and order.
        proposal: Vec<(String, String)>,
    },
    /// A name fits several sites.
    Ambiguous(Vec<String>),
    /// The float weights of the base are needed.
    NeedsWeights(&'static str),
    /// A method cannot be made.
    Method(MethodError),
    /// A method's terms cannot be computed.
    Values(ValuesError),
    /// Terms cannot be written.
    Export(ExportError),
    /// The adapter file is damaged, or the result does not fit the base.
    Adapter(AdapterError),
    /// Two adapters cannot be combined.
    Combine(&'static str),
}

impl ImportError {
    /// About the whole file.
    pub(crate) fn new(fault: Fault) -> Self {
        Self { about: String::new(), fault }
    }

    /// About `about`.
    pub(crate) fn at(about: &str, fault: Fault) -> Self {
        Self { about: about.to_owned(), fault }
    }

    /// The same, about `about` where nothing was said.
    pub(crate) fn or_about(mut self, about: &str) -> Self {
        if self.about.is_empty() {
            self.about = about.to_owned();
        }
        self
    }
}

impl From<Fault> for ImportError {
    fn from(fault: Fault) -> Self {
        Self::new(fault)
    }
}

impl From<AdapterError> for ImportError {
    fn from(error: AdapterError) -> Self {
        Self::new(Fault::Adapter(error))
    }
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.about.is_empty() { self.fault.fmt(f) } else { write!(f, "{}: {}", self.about, self.fault) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pickle => f.write_str(
                "a Python pickle can run any code and is not read; save it anew with safetensors (in Python: \
                 safetensors.torch.save_file(torch.load(path, weights_only=True), \"adapter_model.safetensors\"))",
            ),
            Self::Safetensors(reason) => write!(f, "not a whole safetensors file: {reason}"),
            Self::FlatBuffer => f.write_str("not a whole .onnx_adapter file"),
            Self::Json(reason) => write!(f, "not the JSON that belongs here: {reason}"),
            Self::NoFile(name) => write!(f, "there is no {name}"),
            Self::Type(dtype) => write!(f, "elements of type {dtype} cannot be read"),
            Self::NotFinite => f.write_str("holds a value that is not finite"),
            Self::Unsupported(reason) => f.write_str(reason),
            Self::UnknownMethod => f.write_str("no method this version knows; `ingraft methods` lists its own"),
            Self::Setting(expected) => write!(f, "must be {expected}"),
            Self::Missing(tensor) => write!(f, "tensor {tensor} is missing"),
            Self::Shape { given, wanted } => write!(f, "shape {given:?} in place of {wanted}"),
            Self::WrongBase { wanted, found } => write!(f, "made for base {wanted}, this base is {found}"),
            Self::Unmatched { tensors, sites, proposal } => {
                write!(f, "no site for: {}", tensors.join(", "))?;
                write!(f, "\nsites without a tensor: {}", sites.join(", "))?;
                if proposal.is_empty() {
                    return f.write_str("\ngive --map FILE with lines of `MODULE SITE`");
                }
                f.write_str("\nby shape and order these would fit (--accept-proposal takes them, or put them into a --map file):")?;
                proposal.iter().try_for_each(|(module, site)| write!(f, "\n{module} {site}"))
            }
            Self::Ambiguous(sites) => write!(f, "could be any of {}; give --map FILE", sites.join(", ")),
            Self::NeedsWeights(why) => write!(f, "{why}; give the float model with --onnx MODEL.onnx"),
            Self::Method(error) => error.fmt(f),
            Self::Values(error) => error.fmt(f),
            Self::Export(error) => error.fmt(f),
            Self::Adapter(error) => error.fmt(f),
            Self::Combine(reason) => f.write_str(reason),
        }
    }
}

impl core::error::Error for ImportError {}
