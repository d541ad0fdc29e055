//! One training run: from lessons to an adapter file.

use std::time::Instant;

use ingraft::kernel::NO_SITE;
use ingraft::method::{ExportOptions, FactorFormat, Ranges, export};
use ingraft::plan::PlanView;
use ingraft::train::{
    AdamW, EarlyStop, LearningRate, Loss, Method, Readout, Schedule, ScheduleShape, Setup, TrainError,
    Trainer, Truth, Verdict,
};
use ingraft_dataset::Rng;

use crate::Failure;
use crate::base::target;
use crate::lessons::Lessons;
use crate::support::AlignedBytes;

/// How fast and how long to train: the part of a recipe that the grid chooses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Course {
    /// Learning rate of the terms of sites.
    pub(crate) rate: f32,
    /// Learning rate of the head.
    pub(crate) head_rate: f32,
    /// Weight decay of the head.
    pub(crate) head_decay: f32,
    /// Times every clip is seen, at most.
    pub(crate) epochs: u32,
}

/// What is trained.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'s> {
    /// The method's name.
    pub(crate) method: &'s str,
    /// Its settings.
    pub(crate) settings: &'s [(&'s str, &'s str)],
    /// Sites offered to it, ascending.
    pub(crate) sites: &'s [u32],
    /// What turns a clip into logits.
    pub(crate) readout: Readout,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub(crate) struct Trained {
    /// The adapter file.
    pub(crate) bytes: Vec<u8>,
    /// For each judged clip, whether the trainer's own f32 parameters get it right.
    pub(crate) float_hits: Vec<bool>,
    /// Number of trained values, head included.
    pub(crate) parameters: usize,
    /// Bytes of the trainer's memory.
    pub(crate) arena: usize,
    /// Seconds of training, prefix and judging excluded.
    pub(crate) seconds: f64,
}

impl Course {
    /// The trainer's setup for so many training clips.
    pub(crate) fn setup<'s>(
        &self,
        subject: &Subject<'s>,
        method: &'s dyn Method,
        clips: usize,
        seed: u64,
    ) -> Setup<'s> {
        let steps = self.epochs * clips.div_ceil(BATCH) as u32;
        Setup {
            method,
            sites: subject.sites,
            readout: subject.readout,
            loss: Loss::CrossEntropy { smoothing: 0.0 },
            optimizer: &AdamW::DEFAULT,
            adapter: LearningRate { rate: self.rate, weight_decay: 0.01 },
            head: LearningRate { rate: self.head_rate, weight_decay: self.head_decay },
            schedule: Schedule { shape: ScheduleShape::Cosine { steps, floor: 0.0 }, warm_up: steps / 20 },
            clip_norm: Some(1.0),
            seed,
        }
    }

    /// Trains on the clips `learned` and judges the result on `judged`.
    pub(crate) fn train(
        &self,
        plan: PlanView<'_>,
        subject: &Subject<'_>,
        lessons: &Lessons,
        (learned, judged): (&[usize], &[usize]),
        seed: u64,
    ) -> Result<Trained, Failure> {
        let started = Instant::now();
        let method = ingraft::method::build(subject.method, subject.settings)?;
        let setup = self.setup(subject, &*method, learned.len(), seed);
        let memory = Trainer::memory(&plan, target(), &setup)?;
        let mut arena = AlignedBytes::zeroed(memory.total());
        let mut trainer = Trainer::bind(plan, target(), setup, arena.as_mut())?;
        if let Readout::Head { .. } = subject.readout {
            for &clip in learned {
                lessons.views(clip).try_for_each(|view| trainer.observe(view))?;
            }
            trainer.standardize();
        }
        self.epochs(&mut trainer, lessons, learned, seed)?;
        let seconds = started.elapsed().as_secs_f64();
        let mut ranges = Ranges::new(&trainer);
        for &clip in learned {
            lessons.views(clip).try_for_each(|view| trainer.forward(view, &mut ranges))?;
        }
        let options = ExportOptions { factors: FactorFormat::Int8(&ranges), ..ExportOptions::default() };
        let bytes = export(&trainer, &options)?.bytes;
        let hit = |&clip: &usize| {
            let truth = Truth::Class(lessons.labels[clip]);
            trainer.evaluate(lessons.view(clip, 0), truth).map(|found| found.class == lessons.labels[clip])
        };
        let float_hits = judged.iter().map(hit).collect::<Result<_, _>>()?;
        let parameters = trainer.parameters().values().len();
        Ok(Trained { bytes, float_hits, parameters, arena: memory.total(), seconds })
    }

    /// Runs the epochs, one version of each clip in each, and keeps the parameters with the lowest smoothed
    /// training loss.
    fn epochs(
        &self,
        trainer: &mut Trainer<'_, '_>,
        lessons: &Lessons,
        learned: &[usize],
        seed: u64,
    ) -> Result<(), TrainError> {
        let mut stop = EarlyStop::new(PATIENCE).smoothing(0.7);
        let mut best = trainer.parameters().values().to_vec();
        for epoch in 0..self.epochs {
            let mut rng = Rng::stream(seed, u64::from(epoch));
            let mut order = learned.to_vec();
            rng.shuffle(&mut order);
            let mut sum = 0.0;
            for batch in order.chunks(BATCH) {
                for &clip in batch {
                    let view = rng.below(lessons.view_count(clip));
                    sum +=
                        trainer.accumulate(lessons.view(clip, view), Truth::Class(lessons.labels[clip]))?;
                }
                trainer.step()?;
            }
            match stop.observe(sum / learned.len().max(1) as f32) {
                Verdict::Best => best.copy_from_slice(trainer.parameters().values()),
                Verdict::Wait => {}
                Verdict::Stop => break,
            }
        }
        trainer.restore(&best)
    }
}

/// A head of `classes` on the embedding, or on the output of `site` averaged over time with frequency kept.
pub(crate) fn head(site: Option<u32>, classes: usize) -> Readout {
    let pool = ingraft::kernel::head::POOL_HEIGHT;
    match site {
        Some(site) => Readout::Head { site, pool, classes: classes as u32 },
        None => Readout::Head {
            site: NO_SITE,
            pool: pool | ingraft::kernel::head::POOL_WIDTH,
            classes: classes as u32,
        },
    }
}

/// Clips between two steps.
const BATCH: usize = 8;
/// Epochs without progress of the smoothed training loss before training stops.
const PATIENCE: u32 = 15;
