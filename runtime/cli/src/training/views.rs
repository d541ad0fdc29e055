//! What training sees of each clip, computed once.
//!
//! Steps before the lowest trained one give the same result in every epoch, so
//! only what they leave is kept; where nothing but a head is trained, only the
//! features of the whole clip.

use indicatif::ProgressBar;
use ingraft_dataset::Rng;
use ingraft_kernel::Target;
use ingraft_train::{Clip, Trainer};

use super::{Course, Lessons, Mixed};
use crate::CliError;
use crate::input::Feed;

/// All versions of all clips.
#[derive(Debug)]
pub(super) struct Views {
    /// By clip, then by version.
    clips: Vec<Vec<View>>,
}

/// One version of a clip.
#[derive(Debug)]
struct View {
    kept: Kept,
    mixed: Option<Mixed>,
}

#[derive(Debug)]
enum Kept {
    Prefixes(Vec<u8>),
    Features(Vec<f32>),
}

impl Kept {
    /// What training needs of `feed` from now on.
    fn compute<T: Target>(trainer: &mut Trainer<'_, '_, T>, feed: &Feed) -> Result<Self, CliError> {
        if trainer.sites().next().is_none() {
            let patches: Vec<u8> = feed.runs.iter().flatten().flatten().copied().collect();
            let mut features = vec![0.0; trainer.feature_count()];
            trainer.features(Clip::Inputs(&patches), &mut features)?;
            return Ok(Self::Features(features));
        }
        let mut prefixes = vec![0; feed.runs.len().saturating_mul(trainer.cut_bytes())];
        for (run, prefix) in feed.runs.iter().zip(prefixes.chunks_exact_mut(trainer.cut_bytes().max(1))) {
            trainer.run_prefix(&run.concat(), prefix)?;
        }
        Ok(Self::Prefixes(prefixes))
    }

    fn clip(&self) -> Clip<'_> {
        match self {
            Self::Prefixes(bytes) => Clip::Prefixes(bytes),
            Self::Features(values) => Clip::Features(values),
        }
    }
}

impl Views {
    /// Computes every version of every clip of `lessons`, mixed with those in `learned` alone.
    pub(super) fn compute<T: Target>(
        trainer: &mut Trainer<'_, '_, T>,
        course: &Course<'_>,
        (lessons, learned): (&Lessons<'_>, &[usize]),
        bar: &ProgressBar,
    ) -> Result<Self, CliError> {
        let mut clips = Vec::with_capacity(lessons.labels.len());
        for clip in 0..lessons.labels.len() {
            let view = |number| {
                let version = lessons.clips.view(clip, number, learned)?;
                Ok(View { kept: Kept::compute(trainer, &version.feed)?, mixed: version.mixed })
            };
            clips.push((0..course.views.max(1)).map(view).collect::<Result<_, CliError>>()?);
            bar.inc(1);
        }
        Ok(Self { clips })
    }

    /// Clips of which only these features are known.
    pub(super) fn of_features(features: Vec<Vec<f32>>) -> Self {
        let view = |values| vec![View { kept: Kept::Features(values), mixed: None }];
        Self { clips: features.into_iter().map(view).collect() }
    }

    /// Every version of clip `clip`.
    pub(super) fn of(&self, clip: usize) -> impl Iterator<Item = Clip<'_>> {
        self.clips.get(clip).into_iter().flatten().map(|view| view.kept.clip())
    }

    /// Every version of clip `clip` that is no other's too.
    pub(super) fn unmixed(&self, clip: usize) -> impl Iterator<Item = Clip<'_>> {
        let views = self.clips.get(clip).into_iter().flatten();
        views.filter(|view| view.mixed.is_none()).map(|view| view.kept.clip())
    }

    /// The clip that version `view` of clip `clip` is mixed with.
    pub(super) fn mixed(&self, clip: usize, view: usize) -> Option<Mixed> {
        self.clips.get(clip)?.get(view)?.mixed
    }

    /// Clip `clip` as it is.
    pub(super) fn first(&self, clip: usize) -> Clip<'_> {
        self.get(clip, 0)
    }

    /// Version `view` of clip `clip`.
    pub(super) fn get(&self, clip: usize, view: usize) -> Clip<'_> {
        self.of(clip).nth(view).unwrap_or(Clip::Features(&[]))
    }

    /// One of the versions of clip `clip`.
    pub(super) fn draw(&self, clip: usize, rng: &mut Rng) -> usize {
        rng.below(self.clips.get(clip).map_or(0, Vec::len))
    }
}
