//! What can be wrong with a labelled folder.

/// Why a folder is not a labelled data set, or not of the kind asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LabelError {
    /// No recording, picture or row of features.
    NothingThere,
    /// Recordings and pictures in one data set.
    Mixed {
        /// The first picture.
        picture: String,
        /// The first recording.
        recording: String,
    },
    /// A recording or picture directly in the root, which names no class.
    Unlabelled(String),
    /// Folders nested deeper than class names go.
    TooDeep(String),
    /// A file or folder name that is not UTF-8, as far as it can be shown.
    Name(String),
    /// A line of the table that is not a record.
    Table {
        /// The line, from 1.
        line: usize,
    },
    /// A column the table needs and lacks.
    Column(&'static str),
    /// A line of the table that names a file that cannot be used.
    File {
        /// The line, from 1.
        line: usize,
        /// The file as given.
        file: String,
    },
    /// A line whose `label_id` is no index, or contradicts another line.
    LabelId {
        /// The line, from 1.
        line: usize,
    },
    /// The table has another number of rows than the features.
    RowCount {
        /// Rows of the table.
        rows: usize,
        /// Entries of the array.
        features: usize,
    },
    /// One label was asked for, and an item has none or several.
    NotExclusive {
        /// The item.
        item: String,
        /// How many it has.
        labels: usize,
    },
    /// An item was asked for that is not there or of another kind.
    OtherContent {
        /// What the data set holds.
        holds: &'static str,
        /// How many.
        items: usize,
        /// The item asked for.
        index: usize,
    },
}

impl core::fmt::Display for LabelError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NothingThere => f.write_str(
                "nothing to read; give one folder per class with .wav or .png files, or features.npy and labels.csv",
            ),
            Self::Mixed { picture, recording } => {
                write!(f, "{picture} is a picture and {recording} a recording; keep them in separate data sets")
            }
            Self::Unlabelled(file) => {
                write!(f, "{file} lies in no class folder; move it into one, or name its class in labels.csv")
            }
            Self::TooDeep(folder) => write!(f, "{folder} is nested too deep for a class; at most 4 levels are read"),
            Self::Name(name) => write!(f, "the name {name} is not UTF-8; rename it"),
            Self::Table { line } => write!(f, "line {line} is not a record with as many fields as the header"),
            Self::Column(column) => write!(f, "the column `{column}` is missing"),
            Self::File { line, file } => write!(
                f,
                "line {line}: {file:?} is not a recording or picture below the data set's folder, or is not there"
            ),
            Self::LabelId { line } => write!(
                f,
                "line {line}: `label_id` must be an index below 65536 that always goes with the same single `label`"
            ),
            Self::RowCount { rows, features } => write!(f, "{rows} rows do not label {features} entries of features.npy"),
            Self::NotExclusive { item, labels } => {
                write!(f, "{item} has {labels} labels where exactly one is needed; use a multi-label loss")
            }
            Self::OtherContent { holds, items, index } => {
                write!(f, "item {index} was asked for in another form, but the data set holds {items} {holds}")
            }
        }
    }
}

impl core::error::Error for LabelError {}
