//! What a recipe is searched on elsewhere: the versions of every clip with labels and splits, for `search.py`.

use std::path::Path;

use ingraft::tensor::bytes::Element;
use ingraft_dataset::{Array, Split, write_npz};

use crate::Failure;
use crate::corpus::Corpus;

/// Writes an .npz of `patches` `[clips, views, patches, values]`, `labels` and `groups` `[clips]`, and `tests`
/// `[splits, clips]`, 1 where a split tests on a clip.
///
/// # Errors
/// Clips of different lengths, and what reading and writing meet.
pub(crate) fn write(path: &Path, corpus: &Corpus, splits: &[&Split], views: u32) -> Result<(), Failure> {
    let (clips, views) = (corpus.len(), views.max(1));
    let mut values: Vec<f32> = Vec::new();
    for clip in 0..clips {
        for view in 0..views {
            let patches = corpus.patches(clip, view)?;
            values.extend(patches.as_chunks().0.iter().map(|word| f32::from_ne_bytes(*word)));
        }
    }
    let unit = corpus.patch_len();
    let shape = [clips, views as usize, values.len() / (clips * views as usize * unit).max(1), unit];
    let mut tests = vec![0; splits.len() * clips];
    for (split, row) in splits.iter().zip(tests.chunks_exact_mut(clips)) {
        split.test.iter().for_each(|&clip| row[clip] = 1);
    }
    let whole = |of: &[usize]| of.iter().map(|&one| one as i64).collect::<Vec<_>>();
    let arrays = [
        named("patches", &shape, &values).ok_or("search.py wants clips of one length")?,
        named("labels", &[clips], &whole(&corpus.labels)).ok_or("labels")?,
        named("groups", &[clips], &whole(&corpus.groups)).ok_or("groups")?,
        named("tests", &[splits.len(), clips], &whole(&tests)).ok_or("tests")?,
    ];
    Ok(write_npz(path, &arrays)?)
}

fn named<T: Element>(name: &str, shape: &[usize], values: &[T]) -> Option<(String, Array)> {
    Array::from_values(shape, values).map(|array| (name.to_owned(), array))
}
