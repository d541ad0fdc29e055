//! The training clips of a data set, with their versions.

use core::cell::RefCell;
use std::rc::Rc;

use ingraft_dataset::augment::{Augmentation, Recipe};
use ingraft_dataset::{Content, Dataset, Rng};

use crate::CliError;
use crate::classes::ClassMap;
use crate::input::{Feed, Reader};
use crate::training::Clips;

/// Gives versions of the chosen clips of a data set.
pub(in crate::command) struct Source<'s> {
    reader: &'s Reader<'s>,
    dataset: &'s Dataset,
    /// The chosen clips.
    items: &'s [usize],
    augment: Recipe,
    seed: u64,
    /// The recording read last: versions of a clip are asked for one after the other.
    recent: RefCell<Option<(usize, Rc<[f32]>)>>,
}

impl<'s> Source<'s> {
    /// Versions of `items` by `augment`.
    ///
    /// # Errors
    /// [`CliError::Setting`] for augmentations of anything but recordings.
    pub(in crate::command) fn new(
        reader: &'s Reader<'s>,
        dataset: &'s Dataset,
        items: &'s [usize],
        augment: Recipe,
        seed: u64,
    ) -> Result<Self, CliError> {
        if let Some(step) = augment.steps().first().filter(|_| *dataset.content() != Content::Audio) {
            return Err(CliError::Setting {
                option: "--augment",
                value: step.to_string(),
                expected: "changes are those of recordings, and this data has none; leave it out".to_owned(),
            });
        }
        Ok(Self { reader, dataset, items, augment, seed, recent: RefCell::new(None) })
    }

    /// The score that each chosen clip trains, and its group.
    ///
    /// # Errors
    /// [`CliError::Dataset`] for an item without exactly one label.
    pub(in crate::command) fn labels(&self, map: &ClassMap) -> Result<(Vec<usize>, Vec<usize>), CliError> {
        let (labels, groups) = (self.dataset.labels()?, self.dataset.groups());
        let label =
            |item: &usize| labels.get(*item).and_then(|&class| map.score(class)).unwrap_or(usize::MAX);
        let group = |item: &usize| groups.get(*item).copied().unwrap_or(*item);
        Ok((self.items.iter().map(label).collect(), self.items.iter().map(group).collect()))
    }

    fn recording(&self, item: usize, rate: u32) -> Result<Rc<[f32]>, CliError> {
        if let Some((recent, samples)) = &*self.recent.borrow()
            && *recent == item
        {
            return Ok(Rc::clone(samples));
        }
        let samples: Rc<[f32]> = self.dataset.audio(item, rate)?.into();
        *self.recent.borrow_mut() = Some((item, Rc::clone(&samples)));
        Ok(samples)
    }

    /// What `mix` mixes in: another of the chosen clips.
    fn background(&self, item: usize, rate: u32, rng: &mut Rng) -> Result<Vec<f32>, CliError> {
        let mixes = self.augment.steps().iter().any(|step| matches!(step, Augmentation::Mix(_)));
        let others: Vec<usize> = self.items.iter().copied().filter(|&other| other != item).collect();
        match others.get(rng.below(others.len())) {
            Some(&other) if mixes => Ok(self.dataset.audio(other, rate)?),
            _ => Ok(Vec::new()),
        }
    }
}

impl Clips for Source<'_> {
    fn view(&self, clip: usize, view: u32) -> Result<Feed, CliError> {
        let item = self.items.get(clip).copied().unwrap_or(usize::MAX);
        if view == 0 || self.augment.steps().is_empty() {
            return self.reader.item(self.dataset, item);
        }
        let front_end = self.reader.front_end()?;
        let rate = front_end.rate()?;
        let mut rng = Rng::stream(self.seed, (item as u64) << 32 | u64::from(view));
        let (samples, background) = (self.recording(item, rate)?, self.background(item, rate, &mut rng)?);
        front_end.samples(&self.augment.apply(&samples, rate, &background, rng.next_u64()))
    }
}
