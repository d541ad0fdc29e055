//! One training run: from lessons to an adapter file.

use std::time::Instant;

use ingraft::kernel::NO_SITE;
use ingraft::method::{ExportOptions, FactorFormat, Ranges, export};
use ingraft::plan::PlanView;
use ingraft::train::{
    EarlyStop, LearningRate, Loss, Method, Moves, Optimizer, Readout, Schedule, ScheduleShape, Setup,
    TrainError, TrainMemory, Trainer, Truth, Verdict, optimizer,
};
use ingraft_dataset::Rng;

use crate::Failure;
use crate::base::target;
use crate::lessons::Lessons;
use crate::pass::Pass;
use crate::support::AlignedBytes;

/// How fast and how long to train: the part of a recipe that the grid chooses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Course {
    /// Learning rate of the terms of sites.
    pub(crate) rate: f32,
    /// Learning rate of the head.
    pub(crate) head_rate: f32,
    /// Weight decay of the head: beside terms that of AdamW; of a head alone the strength of the penalty,
    /// as the baseline's `l2`.
    pub(crate) head_decay: f32,
    /// Times every clip is seen, at most.
    pub(crate) epochs: u32,
    /// Epochs of the head alone before terms join it, so that their first gradients come through a head that
    /// means something (Kumar et al., 2022).
    pub(crate) head_first: u32,
    /// Examples between two steps.
    pub(crate) batch: usize,
    /// How the rates go on from their peak.
    pub(crate) decay: Decay,
    /// Share of all steps over which the rates rise to it.
    pub(crate) warm_up: f32,
    /// Share of the target that goes to all classes alike.
    pub(crate) smoothing: f32,
    /// In what the optimizer keeps its state.
    pub(crate) state: State,
}

/// In what an optimizer keeps its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    F32,
    Bf16,
    Int8,
}

impl State {
    /// The format of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let all = [("f32", Self::F32), ("bf16", Self::Bf16), ("int8", Self::Int8)];
        all.into_iter().find(|(its, _)| *its == name).map(|(_, state)| state)
    }

    /// The optimizer of a head alone, and that of terms and head.
    fn optimizers(self) -> [&'static dyn Optimizer; 2] {
        let names = match self {
            Self::F32 => ["adam", "adamw"],
            Self::Bf16 => ["adam-bf16", "adamw-bf16"],
            Self::Int8 => ["adam-int8", "adamw-int8"],
        };
        names.map(|name| optimizer(name).expect("one of the list"))
    }
}

/// How rates go on from their peak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decay {
    /// They stay there.
    Constant,
    /// In a straight line to 0.
    Linear,
    /// As half a cosine to 0.
    Cosine,
}

impl Decay {
    /// The decay of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let all = [("constant", Self::Constant), ("linear", Self::Linear), ("cosine", Self::Cosine)];
        all.into_iter().find(|(its, _)| *its == name).map(|(_, decay)| decay)
    }

    fn over(self, steps: u32) -> ScheduleShape {
        match self {
            Self::Constant => ScheduleShape::Constant,
            Self::Linear => ScheduleShape::Linear { steps, floor: 0.0 },
            Self::Cosine => ScheduleShape::Cosine { steps, floor: 0.0 },
        }
    }
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

/// A head on standardized features.
#[derive(Clone, Debug)]
pub(crate) struct Weights {
    /// `[classes, features]`.
    pub(crate) weight: Vec<f32>,
    /// `[classes]`.
    pub(crate) bias: Vec<f32>,
}

/// What came of a run without an adapter file.
#[derive(Clone, Debug)]
pub(crate) struct Tried {
    /// For each judged clip, whether it is got right.
    pub(crate) hits: Vec<bool>,
    /// The head, where there is one.
    pub(crate) head: Option<Weights>,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub(crate) struct Trained {
    /// The adapter file.
    pub(crate) bytes: Vec<u8>,
    /// For each judged clip, whether the trainer's own f32 parameters get it right.
    pub(crate) float_hits: Vec<bool>,
    /// The head, where there is one.
    pub(crate) head: Option<Weights>,
    /// Number of trained values, head included.
    pub(crate) parameters: usize,
    /// The trainer's memory.
    pub(crate) memory: TrainMemory,
    /// Seconds of training, prefix and judging excluded.
    pub(crate) seconds: f64,
}

impl Course {
    /// Nothing moves.
    pub(crate) const IDLE: Self = Self {
        rate: 0.0,
        head_rate: 0.0,
        head_decay: 0.0,
        epochs: 0,
        head_first: 0,
        batch: 8,
        decay: Decay::Cosine,
        warm_up: 0.05,
        smoothing: 0.0,
        state: State::F32,
    };

    /// Early stopping by the training loss. Under a schedule that falls to 0 it does not end training: most of what is
    /// learned is learned towards the end of it, when the loss has long stopped falling for its noise.
    fn early_stop(&self) -> EarlyStop {
        let watched = self.decay == Decay::Constant;
        let stop = if watched { EarlyStop::new(PATIENCE) } else { EarlyStop::never() };
        stop.smoothing(0.7)
    }

    /// The trainer's setup for epochs of so many examples.
    ///
    /// A head alone minimizes what the baseline minimizes: the penalty is a part of the gradient, in the
    /// baseline's proportion to the number of examples, and no gradient is clipped.
    pub(crate) fn setup<'s>(
        &self,
        subject: &Subject<'s>,
        method: &'s dyn Method,
        examples: usize,
        seed: u64,
    ) -> Setup<'s> {
        let steps = self.epochs * examples.div_ceil(self.batch) as u32;
        let warm_up = (steps as f32 * self.warm_up) as u32;
        let [adam, adamw] = self.state.optimizers();
        let (optimizer, head_decay, clip_norm) = match subject.sites {
            [] => (adam, self.head_decay / examples as f32, None),
            _ => (adamw, self.head_decay, Some(1.0)),
        };
        Setup {
            method,
            sites: subject.sites,
            readout: subject.readout,
            loss: Loss::CrossEntropy { smoothing: self.smoothing },
            optimizer,
            adapter: LearningRate { rate: self.rate, weight_decay: 0.01 },
            head: LearningRate { rate: self.head_rate, weight_decay: head_decay },
            moves: Moves::PLAIN,
            schedule: Schedule { shape: self.decay.over(steps), warm_up },
            clip_norm,
            seed,
        }
    }

    /// Trains on the clips `learned`, writes the adapter and judges the parameters on `judged`.
    pub(crate) fn train(
        &self,
        plan: PlanView<'_>,
        subject: &Subject<'_>,
        lessons: &Lessons,
        (learned, judged): (&[usize], &[usize]),
        seed: u64,
    ) -> Result<Trained, Failure> {
        let started = Instant::now();
        self.fit(plan, subject, lessons, (learned, seed), |trainer, memory| {
            let seconds = started.elapsed().as_secs_f64();
            let mut ranges = Ranges::new(trainer);
            for &clip in learned {
                lessons.views(clip).try_for_each(|view| trainer.forward(view, &mut ranges))?;
            }
            let options = ExportOptions { factors: FactorFormat::Int8(&ranges), ..ExportOptions::default() };
            let bytes = export(trainer, &options)?.bytes;
            let parameters = trainer.fetched().values().len();
            let (float_hits, head) = (hits(trainer, lessons, judged)?, weights(trainer));
            Ok(Trained { bytes, float_hits, head, parameters, memory, seconds })
        })
    }

    /// Trains on the clips `learned` and judges the parameters on `judged`, without an adapter file.
    pub(crate) fn try_out(
        &self,
        plan: PlanView<'_>,
        subject: &Subject<'_>,
        lessons: &Lessons,
        (learned, judged): (&[usize], &[usize]),
        seed: u64,
    ) -> Result<Tried, Failure> {
        self.fit(plan, subject, lessons, (learned, seed), |trainer, _| {
            Ok(Tried { hits: hits(trainer, lessons, judged)?, head: weights(trainer) })
        })
    }

    /// Trains on the clips `learned` and gives the trainer, and the account of its memory, to `then`.
    fn fit<R>(
        &self,
        plan: PlanView<'_>,
        subject: &Subject<'_>,
        lessons: &Lessons,
        (learned, seed): (&[usize], u64),
        then: impl FnOnce(&mut Trainer<'_, '_>, TrainMemory) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        let method = ingraft::method::build(subject.method, subject.settings)?;
        let pass = Pass { lessons, learned, alone: subject.sites.is_empty() };
        let setup = self.setup(subject, &*method, pass.examples(), seed);
        let memory = Trainer::memory(&plan, target(), &setup)?;
        let mut arena = AlignedBytes::zeroed(memory.total());
        let mut trainer = Trainer::bind(plan, target(), setup, arena.as_mut())?;
        if let Readout::Head { .. } = subject.readout {
            pass.observe(&mut trainer)?;
            self.start(&mut trainer, lessons, learned, seed)?;
        }
        // The training loss of a head alone is not all it minimizes, the penalty is missing: it runs to the end.
        self.epochs(&mut trainer, &pass, (!pass.alone).then(|| self.early_stop()), seed)?;
        then(&mut trainer, memory)
    }

    /// Trains the head alone on the features of the untouched base and puts it in front of the terms.
    fn start(
        &self,
        trainer: &mut Trainer<'_, '_>,
        lessons: &Lessons,
        learned: &[usize],
        seed: u64,
    ) -> Result<(), Failure> {
        let (plan, readout) = (*trainer.plan(), trainer.setup().readout);
        if self.head_first == 0 || trainer.setup().sites.is_empty() {
            return Ok(());
        }
        let method = ingraft::method::build("head", &[])?;
        let subject = Subject { method: "head", settings: &[], sites: &[], readout };
        let pass = Pass { lessons, learned, alone: true };
        let course = Course { epochs: self.head_first, state: self.state, ..ALONE };
        let setup = course.setup(&subject, &*method, pass.examples(), seed);
        let mut arena = AlignedBytes::zeroed(Trainer::memory(&plan, target(), &setup)?.total());
        let mut head = Trainer::bind(plan, target(), setup, arena.as_mut())?;
        pass.observe(&mut head)?;
        course.epochs(&mut head, &pass, Some(course.early_stop()), seed)?;
        let mut values = trainer.fetched().values().to_vec();
        values.iter_mut().zip(head.fetched().values()).for_each(|(to, from)| *to = *from);
        Ok(trainer.restore(&values)?)
    }

    /// Runs the epochs and keeps the parameters that `stop` holds best by the training loss, or the last.
    fn epochs(
        &self,
        trainer: &mut Trainer<'_, '_>,
        pass: &Pass<'_>,
        mut stop: Option<EarlyStop>,
        seed: u64,
    ) -> Result<(), TrainError> {
        let mut best = trainer.fetched().values().to_vec();
        for epoch in 0..self.epochs {
            let order = pass.order(&mut Rng::stream(seed, u64::from(epoch)));
            let mut sum = 0.0;
            for batch in order.chunks(self.batch) {
                for &(clip, view) in batch {
                    let truth = Truth::Class(pass.lessons.labels[clip]);
                    sum += trainer.accumulate(pass.example(clip, view), truth)?;
                }
                trainer.step()?;
            }
            let loss = sum / order.len().max(1) as f32;
            match stop.as_mut().map_or(Verdict::Best, |stop| stop.observe(loss)) {
                Verdict::Best => best.copy_from_slice(trainer.fetched().values()),
                Verdict::Wait => {}
                Verdict::Stop => break,
            }
        }
        trainer.restore(&best)
    }
}

fn weights(trainer: &Trainer<'_, '_>) -> Option<Weights> {
    let head = trainer.head()?;
    Some(Weights { weight: head.weight.to_vec(), bias: head.bias.to_vec() })
}

/// For each of `judged`, whether the present parameters of `trainer` get it right.
fn hits(trainer: &mut Trainer<'_, '_>, lessons: &Lessons, judged: &[usize]) -> Result<Vec<bool>, TrainError> {
    let hit = |&clip: &usize| {
        let truth = Truth::Class(lessons.labels[clip]);
        trainer.evaluate(lessons.view(clip, 0), truth).map(|found| found.class == lessons.labels[clip])
    };
    judged.iter().map(hit).collect()
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

/// How a head is trained before terms join it.
const ALONE: Course = Course { head_rate: 1e-3, head_decay: 1.0, ..Course::IDLE };
/// Epochs without progress of the smoothed training loss before training stops.
const PATIENCE: u32 = 15;
