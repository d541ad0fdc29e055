//! Why a method cannot be made, or an adapter not be written.

use alloc::string::String;
use alloc::vec::Vec;

use ingraft_adapter::SiteName;
use ingraft_kernel::OpCode;
use ingraft_train::{TrainError, Unfit};

/// Why there is no such method.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MethodError {
    /// No method has this name.
    Unknown(String),
    /// The method has no such setting.
    Setting {
        /// The method.
        method: &'static str,
        /// The setting asked for.
        setting: String,
    },
    /// A setting's value is not one it can have.
    Value {
        /// The method.
        method: &'static str,
        /// The setting.
        setting: &'static str,
        /// The value given.
        value: String,
        /// What it can be.
        expected: &'static str,
    },
    /// Training data was measured for another score than the method chooses by.
    Measured {
        /// The method.
        method: String,
        /// The score it chooses by.
        wanted: &'static str,
        /// The score that was measured.
        measured: &'static str,
    },
}

impl core::fmt::Display for MethodError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "there is no method {name}; `ingraft methods` lists them"),
            Self::Setting { method, setting } => {
                write!(f, "method {method} has no setting {setting}; `ingraft methods` lists them")
            }
            Self::Value { method, setting, value, expected } => {
                write!(f, "method {method}: {setting}={value} is not {expected}")
            }
            Self::Measured { method, wanted, measured } => {
                write!(
                    f,
                    "method {method} chooses weights by {wanted}, but {measured} was measured; measure that"
                )
            }
        }
    }
}

impl core::error::Error for MethodError {}

/// Why training data, or a plan, cannot say what a score wants to know.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MeasureError {
    /// The pass over a clip failed.
    Train(TrainError),
    /// SynFlow follows sums through the plan, and this step on the way to the readout is neither a sum nor an activation.
    Flow {
        /// The ONNX node.
        step: String,
        /// What it computes.
        op: OpCode,
    },
    /// What flows through some weight is more than an f64 holds.
    Overflow,
}

impl core::fmt::Display for MeasureError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Train(error) => error.fmt(f),
            Self::Flow { step, op } => write!(
                f,
                "score=synflow is not defined here: node {step} ({}) is neither a sum nor an activation; choose another score",
                op.name()
            ),
            Self::Overflow => f.write_str(
                "score=synflow: what flows through the weights is more than an f64 holds; choose another score",
            ),
        }
    }
}

impl core::error::Error for MeasureError {}

impl From<TrainError> for MeasureError {
    fn from(error: TrainError) -> Self {
        Self::Train(error)
    }
}

/// Why an adapter cannot be written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExportError {
    /// Integer factors need the range of the rank-space values, which was not measured at this site.
    NotCalibrated(SiteName),
    /// There are not as many labels as classes.
    Labels {
        /// Classes of the head.
        classes: usize,
        /// Labels given.
        labels: usize,
    },
    /// A parameter is not finite: training diverged.
    NotFinite(SiteName),
    /// The device that holds the parameters failed; a step or run on it tells how.
    Device,
}

impl core::fmt::Display for ExportError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotCalibrated(site) => write!(
                f,
                "site {}: integer factors need their range; run the training clips through `Ranges` first, or \
                 export f32 factors",
                site.as_str()
            ),
            Self::Labels { classes, labels } => write!(f, "{labels} labels for {classes} classes"),
            Self::NotFinite(site) => {
                write!(
                    f,
                    "site {}: a parameter is not finite; train with a lower learning rate",
                    site.as_str()
                )
            }
            Self::Device => {
                f.write_str("the device that holds the parameters failed, and they are lost with it")
            }
        }
    }
}

impl core::error::Error for ExportError {}

/// Why a method's terms cannot be computed from the tensors at hand.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ValuesError {
    /// The method is not defined on this site.
    Unfit(Unfit),
    /// The method leaves sites of this kind as they are.
    NothingHere,
    /// A tensor that the method trains, or a constant it would draw, is not there.
    Missing(&'static str),
    /// The method has no such tensor here.
    Unexpected(String),
    /// A tensor has another shape.
    Shape {
        /// The tensor.
        tensor: String,
        /// Its shape.
        given: Vec<usize>,
        /// The shape it must have, or one of as many elements.
        wanted: Vec<usize>,
    },
    /// A tensor holds a NaN or an infinity.
    NotFinite(String),
    /// An index of a sparse delta is outside the weight or there twice.
    Place(usize),
}

impl core::fmt::Display for ValuesError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Unfit(unfit) => unfit.fmt(f),
            Self::NothingHere => f.write_str("the method leaves sites of this kind as they are"),
            Self::Missing(tensor) => write!(f, "tensor {tensor} is missing"),
            Self::Unexpected(tensor) => write!(f, "the method has no tensor {tensor} here"),
            Self::Shape { tensor, given, wanted } => {
                write!(f, "tensor {tensor} has shape {given:?} in place of {wanted:?}")
            }
            Self::NotFinite(tensor) => write!(f, "tensor {tensor} holds a value that is not finite"),
            Self::Place(place) => write!(f, "index {place} is outside the weight, or given twice"),
        }
    }
}

impl core::error::Error for ValuesError {}
