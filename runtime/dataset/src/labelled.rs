//! Labelled data as users keep it: folders of recordings or pictures, or a table of features.
//!
//! A data set is a folder in one of three forms:
//!
//! 1. **Class folders.** Every recording or picture belongs to the class named by its
//!    folder's path below the root, joined with `/`: `dog/1.wav` is a `dog`,
//!    `no_prop/50pct/7.wav` a `no_prop/50pct`. Other files are ignored.
//! 2. **`labels.csv`** beside the recordings or pictures, which it names.
//! 3. **`features.npy` + `labels.csv`**: one row of the table per entry along the
//!    array's outermost dimension, each entry being one input of the model,
//!    after any front end.
//!
//! Columns of `labels.csv`, in any order; others are ignored:
//!
//! | column | needed | content |
//! |---|---|---|
//! | `file` | form 2 | path below the folder, with `/`; in form 3 a name, by default the row's number from 0 |
//! | `label` | yes | class name; several joined with `;`, or none, where classes are not exclusive |
//! | `label_id` | no | class index from 0, when a model already fixes the order; one label per row |
//! | `group` | no | what must not be torn apart by a split: source recording, speaker, day |
//! | `task` | no | name of the task the row belongs to |
//! | `features` | no | names of the row's features, joined with `;` |
//!
//! Class names are sorted (by bytes) unless `label_id` orders them. Items are in
//! the order of their path in forms without a table, else in the table's order;
//! nothing depends on the order in which the system lists a folder.

use std::path::{Path, PathBuf};

use crate::audio::read_audio;
use crate::error::DatasetError;
use crate::image::{Image, read_image};
use crate::{Array, npy};

pub use error::LabelError;

mod error;
mod folders;
mod table;

/// A labelled data set; only names and labels (and features, where given) are in memory.
#[derive(Clone, Debug)]
pub struct Dataset {
    root: PathBuf,
    content: Content,
    classes: Vec<String>,
    items: Vec<Item>,
}

/// One clip, picture or row of features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Path below the data set's folder, with `/`; for features the row's name.
    pub path: String,
    /// Indices of the item's classes, ascending; exactly one where classes are exclusive.
    pub labels: Vec<usize>,
    /// What must stay on one side of a split.
    pub group: Option<String>,
    /// The task the item belongs to.
    pub task: Option<String>,
    /// Names of the features the item has, in the table's order.
    pub features: Vec<String>,
}

/// What the items of a data set are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// Recordings.
    Audio,
    /// Pictures.
    Images,
    /// Entries of this array along its outermost dimension.
    Features(Array),
}

impl Item {
    /// The item's class, when it has exactly one.
    pub fn label(&self) -> Option<usize> {
        match self.labels[..] {
            [label] => Some(label),
            _ => None,
        }
    }
}

impl Dataset {
    /// Opens the data set in `folder`.
    ///
    /// # Errors
    /// [`DatasetError`] naming the file or folder at fault: nothing to read, recordings
    /// and pictures mixed, a broken table, a table that does not fit its features.
    pub fn open(folder: &Path) -> Result<Self, DatasetError> {
        let labels = folder.join("labels.csv");
        let features = folder.join("features.npy");
        let (content, classes, items) = if features.exists() {
            let array = npy::read_npy(&features)?;
            let (classes, items) = table::read(&labels, table::Names::Rows)?;
            let rows = array.shape().first().copied().unwrap_or(0);
            if rows != items.len() {
                return Err(DatasetError::label(
                    &labels,
                    LabelError::RowCount { rows: items.len(), features: rows },
                ));
            }
            (Content::Features(array), classes, items)
        } else if labels.exists() {
            let (classes, items) = table::read(&labels, table::Names::FilesIn(folder))?;
            (content_of(folder, &items)?, classes, items)
        } else {
            let (classes, items) = folders::read(folder)?;
            (content_of(folder, &items)?, classes, items)
        };
        if items.is_empty() {
            return Err(DatasetError::label(folder, LabelError::NothingThere));
        }
        Ok(Self { root: folder.to_path_buf(), content, classes, items })
    }

    /// What the items are.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// The class names, by index.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The items.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// The class of every item.
    ///
    /// # Errors
    /// [`LabelError::NotExclusive`] naming the first item without exactly one label.
    pub fn labels(&self) -> Result<Vec<usize>, DatasetError> {
        let label = |item: &Item| {
            let not_exclusive =
                || LabelError::NotExclusive { item: item.path.clone(), labels: item.labels.len() };
            item.label().ok_or_else(|| DatasetError::label(&self.root, not_exclusive()))
        };
        self.items.iter().map(label).collect()
    }

    /// The groups of the items, numbered in order of first appearance; an item
    /// without a group is a group of its own.
    pub fn groups(&self) -> Vec<usize> {
        let mut seen = std::collections::BTreeMap::new();
        let mut count = 0;
        let mut fresh = || {
            count += 1;
            count - 1
        };
        let group = |item: &Item| match &item.group {
            Some(name) => *seen.entry(name.clone()).or_insert_with(&mut fresh),
            None => fresh(),
        };
        self.items.iter().map(group).collect()
    }

    /// Sets every item's group from its path, as when the file name tells the speaker.
    pub fn group_by(&mut self, group: impl Fn(&str) -> Option<String>) {
        for item in &mut self.items {
            item.group = group(&item.path);
        }
    }

    /// Reads recording `index` as mono samples at `rate`.
    ///
    /// # Errors
    /// [`LabelError::OtherContent`] when the items are no recordings or `index` is
    /// past the end; the recording's own errors.
    pub fn audio(&self, index: usize, rate: u32) -> Result<Vec<f32>, DatasetError> {
        read_audio(&self.file(index, &Content::Audio)?, rate)
    }

    /// Reads picture `index` at its own size.
    ///
    /// # Errors
    /// [`LabelError::OtherContent`] when the items are no pictures or `index` is
    /// past the end; the picture's own errors.
    pub fn image(&self, index: usize) -> Result<Image, DatasetError> {
        read_image(&self.file(index, &Content::Images)?)
    }

    /// The features of item `index`.
    ///
    /// # Errors
    /// [`LabelError::OtherContent`] when the items are no features or `index` is past the end.
    pub fn row(&self, index: usize) -> Result<Array, DatasetError> {
        let row = match &self.content {
            Content::Features(array) => array.row(index),
            _ => None,
        };
        row.ok_or_else(|| self.other_content(index))
    }

    fn file(&self, index: usize, content: &Content) -> Result<PathBuf, DatasetError> {
        match self.items.get(index) {
            Some(item) if self.content == *content => Ok(self.root.join(&item.path)),
            _ => Err(self.other_content(index)),
        }
    }

    fn other_content(&self, index: usize) -> DatasetError {
        let holds = match self.content {
            Content::Audio => "recordings",
            Content::Images => "pictures",
            Content::Features(_) => "features",
        };
        DatasetError::label(&self.root, LabelError::OtherContent { holds, items: self.items.len(), index })
    }
}

/// Whether `items` are all recordings or all pictures.
fn content_of(folder: &Path, items: &[Item]) -> Result<Content, DatasetError> {
    let mut pictures = items.iter().filter(|item| has_extension(&item.path, &crate::image::EXTENSIONS));
    let Some(picture) = pictures.next() else { return Ok(Content::Audio) };
    match items.iter().find(|item| !has_extension(&item.path, &crate::image::EXTENSIONS)) {
        None => Ok(Content::Images),
        Some(recording) => {
            let mixed =
                LabelError::Mixed { picture: picture.path.clone(), recording: recording.path.clone() };
            Err(DatasetError::label(folder, mixed))
        }
    }
}

/// Whether `path` names a recording or a picture.
fn is_readable(path: &str) -> bool {
    has_extension(path, &crate::audio::EXTENSIONS) || has_extension(path, &crate::image::EXTENSIONS)
}

fn has_extension(path: &str, extensions: &[&str]) -> bool {
    let extension = path.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    extension.is_some_and(|extension| extensions.contains(&extension.as_str()))
}

#[cfg(test)]
mod tests;
