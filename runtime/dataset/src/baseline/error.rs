//! What keeps a baseline from being fitted.

/// Why features and labels cannot be fitted.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum FitError {
    /// The features are not one row of `dims` per label, or there are none.
    Shape {
        /// Number of feature values.
        features: usize,
        /// Values per row.
        dims: usize,
        /// Number of labels.
        labels: usize,
    },
    /// A label that is no class.
    Label {
        /// The label.
        label: usize,
        /// Number of classes.
        classes: usize,
    },
    /// More classes than the features can be weighed for in memory.
    TooManyClasses(usize),
    /// A feature that is infinite or not a number.
    NotFinite {
        /// Row of the feature.
        row: usize,
        /// Position in the row.
        column: usize,
    },
    /// A penalty that is not a positive number.
    Penalty(f64),
}

impl core::fmt::Display for FitError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Shape { features, dims, labels } => {
                write!(f, "{features} feature values are not {labels} rows of {dims}, one or more")
            }
            Self::Label { label, classes } => write!(f, "label {label} is not one of {classes} classes"),
            Self::TooManyClasses(classes) => write!(f, "{classes} classes need more than 2^28 weights"),
            Self::NotFinite { row, column } => {
                write!(f, "feature {column} of row {row} is not a finite number")
            }
            Self::Penalty(l2) => {
                write!(f, "penalty {l2} is not positive; without one the fit need not exist")
            }
        }
    }
}

impl core::error::Error for FitError {}
