//! Why bytes are not a plan.

use crate::Resource;

/// The first fault found in a plan file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanError {
    /// The file does not begin with the plan signature.
    NotAPlan,
    /// The format version is not the one this runtime reads.
    Version(u32),
    /// The bytes do not start at a 16-byte boundary.
    Misaligned,
    /// The file is shorter or longer than its header says.
    Length,
    /// The content hash does not match: the file was damaged or altered.
    Hash,
    /// A table, string or blob lies outside the file.
    Range(Part),
    /// A record holds a value that no writer emits.
    Record(Part, u32),
    /// The plan declares more than the device takes on.
    Limit {
        /// Of what.
        resource: Resource,
        /// What the plan declares.
        declared: u32,
        /// The most allowed.
        limit: u32,
    },
}

/// The part of a plan an error speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// The header.
    Header,
    /// The tensor table.
    Tensor,
    /// The step tables.
    Step,
    /// The operand lists of the steps.
    Operand,
    /// The site table.
    Site,
    /// The input and output table.
    Io,
    /// The string pool.
    String,
}

impl core::fmt::Display for PlanError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotAPlan => f.write_str("not a plan file; `ingraft compile` makes one from an ONNX model"),
            Self::Version(v) => write!(f, "plan format {v} is not supported; recompile the model"),
            Self::Misaligned => f.write_str("plan bytes must start at a 16-byte boundary"),
            Self::Length => f.write_str("plan file is truncated or has trailing bytes"),
            Self::Hash => f.write_str("plan content hash does not match; the file is damaged"),
            Self::Range(part) => write!(f, "plan {part:?} table reaches outside the file"),
            Self::Limit { resource, declared, limit } => {
                write!(
                    f,
                    "plan declares {declared} of {resource:?}, and {limit} are allowed here: compile a smaller model, or raise the limit"
                )
            }
            Self::Record(part, index) => write!(f, "plan {part:?} record {index} is invalid"),
        }
    }
}

impl core::error::Error for PlanError {}
