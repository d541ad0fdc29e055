//! Why a plan cannot be bound or run.

use ingraft_kernel::{KernelError, OpCode};

/// The first reason a session refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExecError {
    /// The memory is smaller than [`crate::MemoryNeeds`] said.
    MemoryTooSmall {
        /// Bytes needed.
        needed: usize,
        /// Bytes supplied.
        supplied: usize,
    },
    /// The undo log is shorter than [`crate::PatchedCopy::log_words`] said.
    LogTooSmall {
        /// Words needed.
        needed: usize,
        /// Words supplied.
        supplied: usize,
    },
    /// The plan has no such schedule; compile with `--train-from`.
    NoSchedule,
    /// A step cannot run on this target.
    Step {
        /// Index of the step.
        index: u32,
        /// Its operator.
        op: OpCode,
        /// The kernel's reason.
        error: KernelError,
    },
    /// There is no such input or output, or the bytes given for it have another length.
    Io {
        /// Index among the inputs or outputs.
        index: u32,
        /// Bytes it has.
        expected: usize,
    },
    /// The number of adapters is neither one nor the batch size.
    Batch {
        /// Samples in a batch of this plan.
        batch: usize,
        /// Adapters given.
        adapters: usize,
    },
}

impl core::fmt::Display for ExecError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::MemoryTooSmall { needed, supplied } => {
                write!(f, "the session needs {needed} bytes of memory, {supplied} were supplied")
            }
            Self::LogTooSmall { needed, supplied } => {
                write!(f, "the adapter needs {needed} words of undo log, {supplied} were supplied")
            }
            Self::NoSchedule => f.write_str("the plan has no training schedule; compile with --train-from"),
            Self::Step { index, op, error } => write!(f, "step {index} ({op}): {error}"),
            Self::Io { index, expected } => write!(f, "input or output {index} has {expected} bytes"),
            Self::Batch { batch, adapters } => {
                write!(f, "{adapters} adapters for a batch of {batch}: give one, or one per sample")
            }
        }
    }
}

impl core::error::Error for ExecError {}
