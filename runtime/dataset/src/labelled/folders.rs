//! Class folders.

use std::fs;
use std::path::Path;

use super::{Item, LabelError, is_readable};
use crate::error::DatasetError;

/// The classes and items of the class folders below `root`, both sorted.
pub(super) fn read(root: &Path) -> Result<(Vec<String>, Vec<Item>), DatasetError> {
    let mut files = Vec::new();
    walk(root, "", 0, &mut files)?;
    files.sort_unstable();
    let mut classes = Vec::new();
    for (class, file) in &files {
        if class.is_empty() {
            return Err(DatasetError::label(root, LabelError::Unlabelled(file.clone())));
        }
        classes.push(class.clone());
    }
    classes.sort_unstable();
    classes.dedup();
    let item = |(class, path): (String, String)| {
        let labels = classes.binary_search(&class).into_iter().collect();
        Item { path, labels, group: None, task: None, features: Vec::new() }
    };
    let mut items: Vec<Item> = files.into_iter().map(item).collect();
    items.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok((classes, items))
}

/// Collects `(class, path)` of the readable files below `root/prefix`.
fn walk(
    root: &Path,
    prefix: &str,
    depth: usize,
    files: &mut Vec<(String, String)>,
) -> Result<(), DatasetError> {
    let folder = root.join(prefix);
    for entry in fs::read_dir(&folder).map_err(|source| DatasetError::io(&folder, source))? {
        let entry = entry.map_err(|source| DatasetError::io(&folder, source))?;
        let name = entry.file_name();
        let name = name.to_str().ok_or_else(|| {
            DatasetError::label(&folder, LabelError::Name(name.to_string_lossy().into_owned()))
        })?;
        if name.starts_with('.') {
            continue;
        }
        let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
        let is_folder =
            fs::metadata(entry.path()).map_err(|source| DatasetError::io(&entry.path(), source))?.is_dir();
        if is_folder && depth == MAX_DEPTH {
            return Err(DatasetError::label(root, LabelError::TooDeep(path)));
        } else if is_folder {
            walk(root, &path, depth + 1, files)?;
        } else if is_readable(name) {
            files.push((prefix.to_owned(), path));
        }
    }
    Ok(())
}

/// Levels of class folders; the bound also ends a loop of links.
const MAX_DEPTH: usize = 4;
