//! What a recipe is searched on elsewhere: the versions of every clip with labels and splits, for `search.py`.

use std::path::Path;

use ingraft::tensor::bytes::Element;
use ingraft_dataset::{Array, Split, write_npz};

use crate::Failure;
use crate::corpus::Corpus;

/// Writes an .npz of `patches` `[clips, views, patches, values]` with zeros behind the `lengths` `[clips, views]` that
/// versions have, `labels` and `groups` `[clips]`, and `learned` `[splits, clips]`, 1 where a split learns from a clip.
///
/// # Errors
/// What reading and writing meet.
pub(crate) fn write(path: &Path, corpus: &Corpus, splits: &[&Split], views: u32) -> Result<(), Failure> {
    let (clips, views, unit) = (corpus.len(), views.max(1), corpus.patch_len());
    let versions = (0..clips).flat_map(|clip| (0..views).map(move |view| corpus.patches(clip, view)));
    let versions = versions.collect::<Result<Vec<_>, _>>()?;
    let lengths: Vec<i64> = versions.iter().map(|patches| (patches.len() / (4 * unit)) as i64).collect();
    let longest = lengths.iter().max().map_or(0, |&longest| longest as usize);
    let mut values = vec![0.0; versions.len() * longest * unit];
    for (patches, row) in versions.iter().zip(values.chunks_exact_mut((longest * unit).max(1))) {
        let words = patches.as_chunks().0.iter().map(|word| f32::from_ne_bytes(*word));
        row.iter_mut().zip(words).for_each(|(value, word)| *value = word);
    }
    let views = views as usize;
    let mut learned = vec![0; splits.len() * clips];
    for (split, row) in splits.iter().zip(learned.chunks_exact_mut(clips)) {
        split.train.iter().for_each(|&clip| row[clip] = 1);
    }
    let whole = |of: &[usize]| of.iter().map(|&one| one as i64).collect::<Vec<_>>();
    let arrays = [
        named("patches", &[clips, views, longest, unit], &values).ok_or("patches")?,
        named("lengths", &[clips, views], &lengths).ok_or("lengths")?,
        named("labels", &[clips], &whole(&corpus.labels)).ok_or("labels")?,
        named("groups", &[clips], &whole(&corpus.groups)).ok_or("groups")?,
        named("learned", &[splits.len(), clips], &whole(&learned)).ok_or("learned")?,
    ];
    Ok(write_npz(path, &arrays)?)
}

fn named<T: Element>(name: &str, shape: &[usize], values: &[T]) -> Option<(String, Array)> {
    Array::from_values(shape, values).map(|array| (name.to_owned(), array))
}
