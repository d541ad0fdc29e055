//! What a kernel can refuse.

use crate::OpCode;

/// Why a step cannot run. Raised at bind for every step of a checked plan, so
/// [`Target::run`](crate::Target::run) only repeats it for a plan that was not bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KernelError {
    /// The target has no kernel for this operator with these element types.
    Unsupported(OpCode),
    /// Operand count, type or shape do not fit the operator's attributes.
    Operands(OpCode),
    /// An operand lies outside the memory handed over, or two outputs overlap.
    Memory(OpCode),
    /// An index held by an operand lies outside the axis it counts along; depends
    /// on the data, so it is raised when the step runs.
    Index(OpCode),
    /// An adapter term does not fit the step it was handed to.
    Terms(OpCode),
    /// The device failed; its target's memory says how.
    Device(OpCode),
}

impl core::fmt::Display for KernelError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Unsupported(op) => write!(f, "{op}: this target has no kernel for these element types"),
            Self::Operands(op) => write!(f, "{op}: operands do not fit the attributes; recompile the plan"),
            Self::Memory(op) => write!(f, "{op}: an operand lies outside the memory supplied"),
            Self::Index(op) => write!(f, "{op}: an index lies outside its axis; check the input values"),
            Self::Terms(op) => write!(f, "{op}: an adapter term does not fit this step"),
            Self::Device(op) => write!(f, "{op}: the device failed; other targets keep working"),
        }
    }
}

impl core::error::Error for KernelError {}
