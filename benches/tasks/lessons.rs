//! What training reads: every version of every clip behind the frozen part of the model.

use core::sync::atomic::{AtomicUsize, Ordering};

use ingraft::plan::PlanView;
use ingraft::train::{Clip, Trainer};

use crate::Failure;
use crate::base::target;
use crate::course::{Course, Subject};
use crate::support::AlignedBytes;

/// The cached versions of every clip, shared by all runs.
#[derive(Debug)]
pub(crate) struct Lessons {
    /// The class of each clip.
    pub(crate) labels: Vec<usize>,
    /// By clip, then by version.
    cached: Vec<Vec<Cached>>,
}

/// One version of a clip.
#[derive(Debug)]
struct Cached {
    /// Patches behind the frozen prefix, where anything behind it is trained.
    prefixes: Option<AlignedBytes>,
    /// The features of the whole clip under the untouched base.
    features: Vec<f32>,
}

/// Gives the input bytes of version `view` of clip `clip`.
pub(crate) type Source<'s> = &'s (dyn Fn(usize, u32) -> Result<Vec<u8>, Failure> + Sync);

impl Lessons {
    /// Runs the frozen part of `plan` under `subject` on `views` versions of each clip.
    pub(crate) fn compute(
        plan: PlanView<'_>,
        subject: &Subject<'_>,
        labels: &[usize],
        views: &[u32],
        source: Source<'_>,
        threads: usize,
    ) -> Result<Self, Failure> {
        let clips: Vec<usize> = (0..labels.len()).collect();
        let cached = in_parallel(&clips, threads, |&clip| {
            let method = ingraft::method::build(subject.method, subject.settings)?;
            // Nothing is trained while the prefix runs.
            let setup = Course::IDLE.setup(subject, &*method, 1, 0);
            let mut memory = AlignedBytes::zeroed(Trainer::memory(&plan, target(), &setup)?.total());
            let mut trainer = Trainer::bind(plan, target(), setup, memory.as_mut())?;
            (0..views[clip]).map(|view| cache(&mut trainer, &source(clip, view)?)).collect()
        })?;
        Ok(Self { labels: labels.to_vec(), cached })
    }

    /// Number of versions of clip `clip`.
    pub(crate) fn view_count(&self, clip: usize) -> usize {
        self.cached[clip].len()
    }

    /// Version `view` of clip `clip`; 0 is the clip as it is.
    pub(crate) fn view(&self, clip: usize, view: usize) -> Clip<'_> {
        let Cached { prefixes, features } = &self.cached[clip][view];
        prefixes.as_ref().map_or(Clip::Features(features), |bytes| Clip::Prefixes(bytes.as_slice()))
    }

    /// Every version of clip `clip`.
    pub(crate) fn views(&self, clip: usize) -> impl Iterator<Item = Clip<'_>> {
        (0..self.view_count(clip)).map(move |view| self.view(clip, view))
    }

    /// The features of version `view` of clip `clip` under the untouched base.
    pub(crate) fn features(&self, clip: usize, view: usize) -> &[f32] {
        &self.cached[clip][view].features
    }

    /// Bytes of what training reads, and versions in all.
    pub(crate) fn size(&self) -> (usize, usize) {
        let of = |cached: &Cached| match &cached.prefixes {
            Some(bytes) => bytes.as_slice().len(),
            None => size_of_val(cached.features.as_slice()),
        };
        let all = self.cached.iter().flatten();
        (all.clone().map(of).sum(), all.count())
    }
}

fn cache(trainer: &mut Trainer<'_, '_>, patches: &[u8]) -> Result<Cached, Failure> {
    let mut features = vec![0.0; trainer.feature_count()];
    if trainer.fetched().sites().next().is_none() {
        trainer.features(Clip::Inputs(patches), &mut features)?;
        return Ok(Cached { prefixes: None, features });
    }
    let (unit, length) = (trainer.patch_bytes(), trainer.cut_bytes());
    let mut prefixes = AlignedBytes::zeroed(patches.len() / unit * length);
    for (patch, out) in patches.chunks_exact(unit).zip(prefixes.as_mut().chunks_exact_mut(length)) {
        trainer.run_prefix(patch, out)?;
    }
    // Terms start as the base.
    trainer.features(Clip::Prefixes(prefixes.as_slice()), &mut features)?;
    Ok(Cached { prefixes: Some(prefixes), features })
}

/// `work` on every item, at most `threads` at a time; results in the order of `items`.
pub(crate) fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> Result<R, Failure> + Sync,
) -> Result<Vec<R>, Failure> {
    let next = AtomicUsize::new(0);
    let run = || {
        // Each worker takes the next item until there is none.
        let taken = core::iter::from_fn(|| {
            let at = next.fetch_add(1, Ordering::Relaxed);
            (at < items.len()).then_some(at)
        });
        taken.map(|at| (at, work(&items[at]))).collect::<Vec<_>>()
    };
    let mut done = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(run)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker panicked")).collect::<Vec<_>>()
    });
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}
