//! What an epoch goes through, and in which order.

use ingraft::train::{Clip, TrainError, Trainer};
use ingraft_dataset::Rng;

use crate::lessons::Lessons;

/// What an epoch goes through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pass<'l> {
    /// The cached versions.
    pub(crate) lessons: &'l Lessons,
    /// Training clips.
    pub(crate) learned: &'l [usize],
    /// Whether a head is trained alone: on every version of each clip, as the baseline is fitted. Otherwise an
    /// epoch takes one version of each, drawn anew.
    pub(crate) alone: bool,
}

impl Pass<'_> {
    /// Standardizes the head's features over every version.
    pub(crate) fn observe(&self, trainer: &mut Trainer<'_, '_>) -> Result<(), TrainError> {
        for &clip in self.learned {
            (0..self.lessons.view_count(clip))
                .try_for_each(|view| trainer.observe(self.example(clip, view)))?;
        }
        trainer.standardize();
        Ok(())
    }

    /// Version `view` of clip `clip`.
    pub(crate) fn example(&self, clip: usize, view: usize) -> Clip<'_> {
        match self.alone {
            true => Clip::Features(self.lessons.features(clip, view)),
            false => self.lessons.view(clip, view),
        }
    }

    /// Examples in an epoch.
    pub(crate) fn examples(&self) -> usize {
        match self.alone {
            true => self.learned.iter().map(|&clip| self.lessons.view_count(clip)).sum(),
            false => self.learned.len(),
        }
    }

    /// Clips and versions of one epoch.
    pub(crate) fn order(&self, rng: &mut Rng) -> Vec<(usize, usize)> {
        if self.alone {
            let views = |&clip: &usize| (0..self.lessons.view_count(clip)).map(move |view| (clip, view));
            let mut order: Vec<_> = self.learned.iter().flat_map(views).collect();
            rng.shuffle(&mut order);
            return order;
        }
        let mut clips = self.learned.to_vec();
        rng.shuffle(&mut clips);
        clips.iter().map(|&clip| (clip, rng.below(self.lessons.view_count(clip)))).collect()
    }
}
