//! The training clips of a data set, with their versions.

use core::cell::RefCell;
use std::rc::Rc;

use ingraft_dataset::augment::{Of, Recipe};
use ingraft_dataset::{Content, Dataset, Rng};

use crate::CliError;
use crate::classes::ClassMap;
use crate::input::Reader;
use crate::input::front_end::FrontEnd;
use crate::training::{Clips, Mixed, Version};

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
    /// [`CliError::Setting`] for augmentations of something else than there is.
    pub(in crate::command) fn new(
        reader: &'s Reader<'s>,
        dataset: &'s Dataset,
        items: &'s [usize],
        augment: Recipe,
        seed: u64,
    ) -> Result<Self, CliError> {
        let spectrogram = reader.front_end().ok().and_then(FrontEnd::spectrogram);
        let (kinds, expected): (&[Of], _) = match dataset.content() {
            Content::Audio if spectrogram.is_some() => (
                &[Of::Recording, Of::Spectrogram],
                "changes are those of recordings and their spectrograms here",
            ),
            Content::Audio => (&[Of::Recording], "changes are those of recordings here"),
            Content::Images => (&[Of::Picture], "changes are those of pictures here"),
            _ => (&[], "this data has neither recordings nor pictures; leave it out"),
        };
        if let Some(step) = augment.other_than(kinds) {
            let (value, expected) = (step.to_string(), expected.to_owned());
            return Err(CliError::Setting { option: "--augment", value, expected });
        }
        Ok(Self { reader, dataset, items, augment, seed, recent: RefCell::new(None) })
    }

    /// The scores that each chosen clip trains, and its group.
    ///
    /// # Errors
    /// [`CliError::Dataset`] for an item without exactly one label, unless it may have `several`.
    pub(in crate::command) fn labels(
        &self,
        map: &ClassMap,
        several: bool,
    ) -> Result<(Vec<Vec<usize>>, Vec<usize>), CliError> {
        if !several {
            self.dataset.labels()?;
        }
        let (items, groups) = (self.dataset.items(), self.dataset.groups());
        let label = |item: &usize| {
            let labels = items.get(*item).into_iter().flat_map(|item| &item.labels);
            labels.filter_map(|class| map.score(*class)).collect()
        };
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

    /// The clip that is mixed into clip `clip`: another of those `learned`, where there is one.
    fn partner(&self, clip: usize, learned: &[usize], rng: &mut Rng) -> Option<usize> {
        let others: Vec<usize> = learned.iter().copied().filter(|&other| other != clip).collect();
        let drawn = others.get(rng.below(others.len())).copied();
        drawn.filter(|_| self.augment.mixes().is_some())
    }
}

impl Clips for Source<'_> {
    fn view(&self, clip: usize, view: u32, learned: &[usize]) -> Result<Version, CliError> {
        let item_of = |clip: usize| self.items.get(clip).copied().unwrap_or(usize::MAX);
        let item = item_of(clip);
        if view == 0 || self.augment.steps().is_empty() {
            return Ok(self.reader.item(self.dataset, item)?.into());
        }
        let front_end = self.reader.front_end()?;
        let mut rng = Rng::stream(self.seed, (item as u64) << 32 | u64::from(view));
        if *self.dataset.content() == Content::Images {
            let image = self.augment.apply_to_image(&self.dataset.image(item)?, rng.next_u64());
            return Ok(front_end.image(&image)?.into());
        }
        let rate = front_end.rate()?;
        let samples = self.recording(item, rate)?;
        let partner = self.partner(clip, learned, &mut rng);
        let other = partner.map(|partner| self.dataset.audio(item_of(partner), rate)).transpose()?;
        let seed = rng.next_u64();
        let samples = self.augment.apply(&samples, rate, &other.unwrap_or_default(), seed);
        let own = self.augment.own_share(seed);
        let mixed = partner.filter(|_| own < 1.0).map(|partner| Mixed { partner, own });
        let spectrogram = front_end.spectrogram();
        let feed = front_end.changed(&samples, |patch| {
            let Some(spectrogram) = spectrogram else { return };
            // Planes show the same sound, each patch another part of it.
            let seed = rng.next_u64();
            for plane in patch.chunks_exact_mut(spectrogram.plane.max(1)) {
                self.augment.apply_to_patch(plane, spectrogram.columns, spectrogram.frames_inside, seed);
            }
        })?;
        Ok(Version { feed, mixed })
    }
}
