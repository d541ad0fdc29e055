//! `labels.csv`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path};

use super::{Item, LabelError, is_readable};
use crate::csv::{Row, Table};
use crate::error::DatasetError;

/// What the column `file` holds.
#[derive(Clone, Copy)]
pub(super) enum Names<'a> {
    /// Names of rows, or nothing.
    Rows,
    /// Files below this folder.
    FilesIn(&'a Path),
}

/// The classes and items of the table at `path`.
pub(super) fn read(path: &Path, names: Names<'_>) -> Result<(Vec<String>, Vec<Item>), DatasetError> {
    let text = fs::read_to_string(path).map_err(|source| DatasetError::io(path, source))?;
    parse(&text, names).map_err(|reason| DatasetError::label(path, reason))
}

pub(super) fn parse(text: &str, names: Names<'_>) -> Result<(Vec<String>, Vec<Item>), LabelError> {
    let table = Table::parse(text).map_err(|line| LabelError::Table { line })?;
    let label = table.column("label").ok_or(LabelError::Column("label"))?;
    let classes = match table.column("label_id") {
        Some(id) => ordered_classes(&table, label, id)?,
        None => sorted_classes(&table, label),
    };
    let index: BTreeMap<&str, usize> =
        classes.iter().enumerate().map(|(index, name)| (name.as_str(), index)).collect();
    let file = table.column("file");
    let optional = |row: &Row, name| {
        let value = table.column(name).map(|column| row.field(column));
        value.filter(|value| !value.is_empty()).map(str::to_owned)
    };
    let mut items = Vec::with_capacity(table.rows().len());
    for (number, row) in table.rows().iter().enumerate() {
        let mut labels: Vec<usize> =
            list(row.field(label)).filter_map(|name| index.get(name).copied()).collect();
        labels.sort_unstable();
        labels.dedup();
        let features = table.column("features").map_or("", |column| row.field(column));
        items.push(Item {
            path: item_path(row, file, number, names)?,
            labels,
            group: optional(row, "group"),
            task: optional(row, "task"),
            features: list(features).map(str::to_owned).collect(),
        });
    }
    Ok((classes, items))
}

fn item_path(row: &Row, file: Option<usize>, number: usize, names: Names<'_>) -> Result<String, LabelError> {
    let given = file.map_or("", |file| row.field(file));
    match names {
        Names::Rows if given.is_empty() => Ok(number.to_string()),
        Names::Rows => Ok(given.to_owned()),
        Names::FilesIn(folder) => {
            file.ok_or(LabelError::Column("file"))?;
            let stays_below = Path::new(given).components().all(|part| matches!(part, Component::Normal(_)));
            if stays_below && is_readable(given) && folder.join(given).is_file() {
                Ok(given.to_owned())
            } else {
                Err(LabelError::File { line: row.line, file: given.to_owned() })
            }
        }
    }
}

fn sorted_classes(table: &Table, label: usize) -> Vec<String> {
    let mut names: Vec<String> =
        table.rows().iter().flat_map(|row| list(row.field(label))).map(str::to_owned).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The classes in the order of their `label_id`; an index no row uses is named by its number.
fn ordered_classes(table: &Table, label: usize, id: usize) -> Result<Vec<String>, LabelError> {
    let mut by_id = BTreeMap::new();
    let mut by_name = BTreeMap::new();
    for row in table.rows() {
        let contradiction = LabelError::LabelId { line: row.line };
        let name = row.field(label);
        let Ok(index) = row.field(id).parse::<u16>() else { return Err(contradiction) };
        if name.is_empty() || name.contains(SEPARATOR) {
            return Err(contradiction);
        }
        if *by_id.entry(index).or_insert(name) != name || *by_name.entry(name).or_insert(index) != index {
            return Err(contradiction);
        }
    }
    let count = by_id.keys().next_back().map_or(0, |&last| usize::from(last) + 1);
    let named = |index: usize| {
        let name = u16::try_from(index).ok().and_then(|index| by_id.get(&index));
        name.map_or_else(|| index.to_string(), |&name| name.to_owned())
    };
    Ok((0..count).map(named).collect())
}

/// The names in a field that may hold several.
fn list(field: &str) -> impl Iterator<Item = &str> {
    field.split(SEPARATOR).map(str::trim).filter(|name| !name.is_empty())
}

const SEPARATOR: char = ';';
