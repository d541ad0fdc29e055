//! Split files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::{Split, SplitError};
use crate::csv::{Table, quote};
use crate::error::DatasetError;

/// Reads the split file at `path` against the item names of a data set: one
/// split per numbered fold, or the one of `train` and `test`.
///
/// # Errors
/// [`DatasetError::Io`] and [`DatasetError::Split`].
pub fn read_splits<'a>(
    path: &Path,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<Split>, DatasetError> {
    let text = fs::read_to_string(path).map_err(|source| DatasetError::io(path, source))?;
    parse(&text, names).map_err(|reason| DatasetError::split(path, reason))
}

/// The text of a split file: a line per `(fold, file)`, in the order given.
pub fn to_csv<'a>(rows: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let lines = rows.into_iter().map(|(fold, file)| format!("{},{}\n", quote(fold), quote(file)));
    core::iter::once("fold,file\n".to_owned()).chain(lines).collect()
}

pub(super) fn parse<'a>(
    text: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<Split>, SplitError> {
    let table = Table::parse(text).map_err(|line| SplitError::Table { line })?;
    let fold = table.column("fold").ok_or(SplitError::Column("fold"))?;
    let file = table.column("file").ok_or(SplitError::Column("file"))?;
    let positions: BTreeMap<&str, usize> =
        names.into_iter().enumerate().map(|(at, name)| (name, at)).collect();
    let has_folds = !table.rows().iter().any(|row| matches!(row.field(fold), "train" | "test"));

    let mut side_of: BTreeMap<usize, u16> = BTreeMap::new();
    for row in table.rows() {
        let side = match (row.field(fold), has_folds) {
            ("train", false) => 0,
            ("test", false) => 1,
            (number, true) => number.parse().map_err(|_| SplitError::Fold { line: row.line })?,
            _ => return Err(SplitError::Fold { line: row.line }),
        };
        let unusable = || SplitError::File { line: row.line, file: row.field(file).to_owned() };
        let &item = positions.get(row.field(file)).ok_or_else(unusable)?;
        if side_of.insert(item, side).is_some() {
            return Err(unusable());
        }
    }
    let sides: BTreeSet<u16> = side_of.values().copied().collect();
    let last = sides.last().copied().unwrap_or(0).max(1);
    if let Some(empty) = (0..=last).find(|side| !sides.contains(side)) {
        return Err(SplitError::EmptyFold(usize::from(empty)));
    }
    let split = |tested: u16| {
        let (test, train): (Vec<_>, Vec<_>) = side_of.iter().partition(|&(_, &side)| side == tested);
        let items = |side: Vec<(&usize, &u16)>| side.into_iter().map(|(&item, _)| item).collect();
        Split { train: items(train), test: items(test) }
    };
    Ok(if has_folds { (0..=last).map(split).collect() } else { vec![split(1)] })
}
