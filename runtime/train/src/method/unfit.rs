//! Why a method cannot adapt a site.

/// Why a method cannot adapt a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unfit {
    /// The rank is 0 or above what a term may have.
    Rank {
        /// The rank asked for.
        rank: u32,
        /// The largest possible.
        limit: u32,
    },
    /// Rows are longer than a sparse index can count.
    RowTooLong {
        /// Elements of a weight row.
        row: usize,
        /// The most possible.
        limit: usize,
    },
    /// A setting must divide a dimension of the weight, and does not.
    Divisor {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: usize,
        /// The dimension.
        dimension: usize,
    },
    /// The weight is smaller than the method can be defined on.
    TooSmall {
        /// The dimension.
        dimension: usize,
        /// The least possible.
        least: usize,
    },
    /// The method chooses what it trains by gradients of training data, which were not measured.
    Unmeasured,
    /// The method needs the weights as they were before they were rounded, which were not given.
    Rounded,
    /// The method's expression has no meaning for a weight of this shape, or is too long to be recorded.
    Expression {
        /// Output channels.
        out: usize,
        /// Elements of a weight row.
        row: usize,
    },
}

impl core::fmt::Display for Unfit {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Rank { rank, limit } => write!(f, "rank {rank} is not in 1..={limit}"),
            Self::RowTooLong { row, limit } => {
                write!(
                    f,
                    "rows of {row} weights are beyond the {limit} a sparse term can index; leave this site out"
                )
            }
            Self::Divisor { setting, value, dimension } => {
                write!(
                    f,
                    "{setting}={value} does not divide {dimension}; choose a divisor or leave this site out"
                )
            }
            Self::TooSmall { dimension, least } => {
                write!(f, "a dimension of {dimension} is below {least}; leave this site out")
            }
            Self::Unmeasured => f.write_str(
                "the method chooses weights by gradients of the training data; measure them first (`ingraft train` does)",
            ),
            Self::Rounded => f.write_str(
                "the method needs the weights as they were before rounding; give the float model (`ingraft train --onnx`), or leave this site out",
            ),
            Self::Expression { out, row } => {
                write!(f, "the method is not defined on a weight of {out} by {row}; leave this site out")
            }
        }
    }
}

impl core::error::Error for Unfit {}
