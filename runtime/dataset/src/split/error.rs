//! What can be wrong with a split.

/// Why data cannot be split as asked, or a split file not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SplitError {
    /// Labels and groups are of different numbers.
    Lengths {
        /// Number of labels.
        labels: usize,
        /// Number of groups.
        groups: usize,
    },
    /// Fewer than two folds.
    Folds(usize),
    /// A test share that is not between 0 and 1.
    Share,
    /// Fewer groups than sides to put them on.
    Groups {
        /// Number of groups.
        groups: usize,
        /// Number of folds.
        folds: usize,
    },
    /// A class with too few items.
    Class {
        /// Index of the class.
        class: usize,
        /// Items it has.
        items: usize,
        /// Items it needs.
        wanted: usize,
    },
    /// A line of a split file that is not a record.
    Table {
        /// The line, from 1.
        line: usize,
    },
    /// A column a split file needs and lacks.
    Column(&'static str),
    /// A fold that is no number, or numbers mixed with `train` and `test`.
    Fold {
        /// The line, from 1.
        line: usize,
    },
    /// A fold, or side, that no item has.
    EmptyFold(usize),
    /// A file that the data set does not have, or that was named before.
    File {
        /// The line, from 1.
        line: usize,
        /// The file as given.
        file: String,
    },
}

impl core::fmt::Display for SplitError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Lengths { labels, groups } => write!(f, "{labels} labels, but {groups} groups"),
            Self::Folds(count) => {
                write!(f, "{count} folds cannot test what they did not learn; ask for 2 or more")
            }
            Self::Share => f.write_str("the test share must lie between 0 and 1"),
            Self::Groups { groups, folds } => {
                write!(f, "{groups} groups do not fill {folds} folds; ask for fewer")
            }
            Self::Class { class, items, wanted } => {
                write!(
                    f,
                    "class {class} has {items} items, {wanted} are needed; record more or ask for fewer"
                )
            }
            Self::Table { line } => {
                write!(f, "line {line} is not a record with as many fields as the header")
            }
            Self::Column(column) => write!(f, "the column `{column}` is missing"),
            Self::Fold { line } => {
                write!(
                    f,
                    "line {line}: `fold` must be a number below 65536 throughout, or `train` or `test` throughout"
                )
            }
            Self::EmptyFold(fold) => {
                write!(
                    f,
                    "fold {fold} has no items; number the folds from 0 without gaps, or name both `train` and `test`"
                )
            }
            Self::File { line, file } => {
                write!(f, "line {line}: {file:?} is not in the data set, or was named before")
            }
        }
    }
}

impl core::error::Error for SplitError {}
