//! Why a graph has no plan.

use ingraft_tensor::ShapeError;

/// The first node or value that cannot be lowered.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum LowerError {
    /// No plan operator computes this node.
    Unsupported {
        /// Name of the node.
        node: String,
        /// Its operator.
        op: &'static str,
        /// What about it.
        reason: &'static str,
    },
    /// A value's shape does not fit a plan.
    Shape {
        /// Name of the value.
        value: String,
        /// What is wrong.
        error: ShapeError,
    },
    /// Quantization parameters are not usable: a scale outside 2⁻⁶⁰…2⁶⁰ or a zero point outside the type.
    QParams {
        /// Name of the quantized value.
        value: String,
    },
    /// Training was asked for from a site that does not exist.
    NoSuchSite {
        /// The name given.
        site: String,
    },
    /// A node between the lowest trained site and the output has no gradient.
    NoBackward {
        /// Name of the node.
        node: String,
        /// Its plan operator.
        op: ingraft_kernel::OpCode,
    },
    /// A node has no elements, or attributes outside what its operator is defined for.
    Refused {
        /// Name of the node.
        node: String,
        /// Its plan operator.
        op: ingraft_kernel::OpCode,
    },
    /// Training within the memory given is not possible.
    TrainMemory {
        /// Bytes given.
        budget: usize,
        /// Bytes that the schedule with the smallest need takes.
        needed: usize,
    },
    /// The plan would be larger than its format can address.
    TooLarge,
}

impl core::fmt::Display for LowerError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Unsupported { node, op, reason } => write!(f, "node {node:?} ({op}): {reason}"),
            Self::Shape { value, error } => write!(f, "value {value:?}: {error}"),
            Self::QParams { value } => write!(f, "value {value:?} has unusable quantization parameters"),
            Self::NoSuchSite { site } => {
                write!(f, "no site is called {site:?}; `ingraft inspect` lists them")
            }
            Self::NoBackward { node, op } => {
                write!(f, "node {node:?} ({op}) has no gradient; train from a later site")
            }
            Self::Refused { node, op } => write!(
                f,
                "node {node:?} ({op}) has tensors without elements, or attributes outside what it is defined for"
            ),
            Self::TrainMemory { budget, needed } => write!(
                f,
                "training needs {needed} bytes of activations and gradients at least, {} more than {budget}",
                needed.saturating_sub(*budget)
            ),
            Self::TooLarge => f.write_str("the plan would exceed 4 GiB"),
        }
    }
}

impl core::error::Error for LowerError {}
