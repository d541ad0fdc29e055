//! Training an adapter on clips: views are computed once, epochs run on what the
//! frozen prefix leaves of them, and the result is an adapter file.

mod checkpoint;
mod feeds;
mod lessons;
mod order;
mod private;
mod prototypes;
mod saliency;
mod sites;
mod truths;
mod usefulness;
mod views;

use std::time::Instant;

use clap::ValueEnum;
use indicatif::ProgressBar;
use ingraft_adapter::{Adapter, HeadView, TermSource};
use ingraft_dataset::{Rng, split};
use ingraft_import::{Base, Member, Tensors, stacked};
use ingraft_kernel::{Host, Target};
use ingraft_method::{
    Export, ExportOptions, FactorFormat, Full, Head, Ranges, SiteReport, continue_from, export,
};
use ingraft_plan::PlanView;
use ingraft_train::{
    AdamW, EarlyStop, LearningRate, Method, Moves, Optimizer, Readout, Schedule, ScheduleShape, Setup, Sgd,
    TrainError, TrainMemory, Trainer, Verdict, adapts,
};

use crate::aligned::AlignedBytes;
use crate::backend::Backend;
use crate::{CliError, Console};

pub(crate) use checkpoint::Checkpoint;
use checkpoint::Saved;
pub(crate) use feeds::{Feeds, Kept};
pub(crate) use lessons::{Clips, Lessons, Mixed, Version};
pub(crate) use private::{Private, private_steps, stated_deviation, stated_size};
pub(crate) use sites::{HeadChoice, SiteChoice};
pub(crate) use truths::Objective;
use truths::Truths;
use views::Views;

/// The sites of `plan` that training with `readout` offers to `method`: those
/// chosen, by default the late ones, or all where there are no late ones.
///
/// # Errors
/// [`CliError::NoSites`] when nothing fits the choice, or there is nothing to choose for a method that adapts sites;
/// [`CliError::NotAdapted`] when it adapts none of the chosen ones.
pub(crate) fn sites(
    plan: &PlanView<'_>,
    readout: Readout,
    method: &dyn Method,
    choice: Option<&SiteChoice>,
) -> Result<Vec<u32>, CliError> {
    let reached: Vec<u32> = readout.sites(plan).collect();
    let chosen = match choice {
        Some(choice) => choice.select(plan, &reached),
        None => Some(SiteChoice::Late.select(plan, &reached))
            .filter(|late| !late.is_empty())
            .unwrap_or_else(|| SiteChoice::All.select(plan, &reached)),
    };
    // A head alone adapts no site; what adapts sites, but none of these, would train a head and be called more.
    let head_alone = method.name() == Head.name();
    if chosen.is_empty() {
        return if head_alone && choice.is_none() { Ok(chosen) } else { Err(CliError::NoSites) };
    }
    let adapted = head_alone || chosen.iter().any(|site| adapts(plan, method, *site));
    if adapted { Ok(chosen) } else { Err(CliError::NotAdapted) }
}

/// The stack that what is trained is a member of.
#[derive(Debug)]
pub(crate) struct Stacked<'s> {
    /// Terms of the frozen members, which act beside and leave room for others; `None` where none is frozen.
    pub(crate) terms: Option<Adapter<'s>>,
    /// Content hash of the file that they are of.
    pub(crate) hash: &'s str,
    /// All members, in order.
    pub(crate) members: &'s [Member],
    /// The one that is trained.
    pub(crate) trained: usize,
}

/// Everything that decides a training run beside the clips.
#[derive(Debug)]
pub(crate) struct Course<'c> {
    pub(crate) method: &'c dyn Method,
    /// Sites offered to the method, ascending.
    pub(crate) sites: &'c [u32],
    pub(crate) readout: Readout,
    pub(crate) optimizer: &'c dyn Optimizer,
    pub(crate) adapter: LearningRate,
    pub(crate) head: LearningRate,
    pub(crate) moves: Moves,
    /// What is trained for.
    pub(crate) objective: Objective,
    /// Share of the truth spread over all classes.
    pub(crate) smoothing: f32,
    /// What logits are divided by to learn from the model as it was.
    pub(crate) temperature: f32,
    /// Share of that in the loss.
    pub(crate) teacher_share: f32,
    /// The adapter that training goes on from.
    pub(crate) from: Option<&'c Adapter<'c>>,
    /// The stack that what is trained is a member of.
    pub(crate) on: Option<&'c Stacked<'c>>,
    /// Whether the head starts at the nearest class mean.
    pub(crate) prototypes: bool,
    pub(crate) clip_norm: Option<f32>,
    pub(crate) decay: Decay,
    /// Steps over which the rates rise to their peak; by default a twentieth of all.
    pub(crate) warm_up: Option<u32>,
    pub(crate) epochs: u32,
    /// Clips between two steps.
    pub(crate) batch: usize,
    /// Whether every set of labels is seen as often as any other.
    pub(crate) balance: bool,
    /// Versions of each clip; the first is the clip as it is.
    pub(crate) views: u32,
    /// Epochs without a better criterion before training stops. Without, it runs to the end, and the criterion still says
    /// which parameters are kept: the training loss of a few noisy epochs is no sign that a falling rate leads nowhere.
    pub(crate) patience: Option<u32>,
    /// Share of the training clips whose loss is the criterion; with 0 it is the smoothed training loss.
    pub(crate) hold_out: f64,
    /// How it goes where it is to say little of any one clip.
    pub(crate) private: Option<&'c Private>,
    /// Where the run is kept after every epoch.
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) seed: u64,
}

/// How the learning rates go on from their peak.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Decay {
    /// They stay there.
    Constant,
    /// In a straight line to 0.
    Linear,
    /// As half a cosine to 0.
    Cosine,
}

impl Decay {
    /// The same for training of so many steps.
    fn over(self, steps: u32) -> ScheduleShape {
        match self {
            Self::Constant => ScheduleShape::Constant,
            Self::Linear => ScheduleShape::Linear { steps, floor: 0.0 },
            Self::Cosine => ScheduleShape::Cosine { steps, floor: 0.0 },
        }
    }
}

/// What came of a training run.
#[derive(Debug)]
pub(crate) struct Trained {
    /// The adapter file.
    pub(crate) bytes: Vec<u8>,
    /// The criterion at the parameters kept.
    pub(crate) loss: f32,
    pub(crate) epochs: u32,
    /// Mean training loss of each epoch run here.
    pub(crate) losses: Vec<f32>,
    pub(crate) steps: u32,
    pub(crate) memory: TrainMemory,
    /// Where the optimizer moved what sites learn; `None` on a target in the host's memory.
    pub(crate) moved_by: Option<&'static str>,
    /// Number of trained values, head included.
    pub(crate) parameters: usize,
    /// What became of each trained site.
    pub(crate) sites: Vec<SiteReport>,
    pub(crate) seconds: f64,
}

/// What became of the epochs.
struct Run {
    /// The criterion at the parameters kept.
    loss: f32,
    epochs: u32,
    /// Mean training loss of each.
    losses: Vec<f32>,
}

impl<'c> Course<'c> {
    /// A course with the defaults of `ingraft train`.
    pub(crate) fn new(method: &'c dyn Method, sites: &'c [u32], readout: Readout) -> Self {
        Self {
            method,
            sites,
            readout,
            optimizer: &AdamW::DEFAULT,
            adapter: LearningRate { rate: peak_rate(method), weight_decay: WEIGHT_DECAY },
            head: HEAD,
            moves: Moves::PLAIN,
            objective: Objective::CrossEntropy,
            smoothing: SMOOTHING,
            temperature: TEMPERATURE,
            teacher_share: TEACHER_SHARE,
            from: None,
            on: None,
            prototypes: false,
            clip_norm: Some(CLIP_NORM),
            decay: Decay::Cosine,
            warm_up: None,
            epochs: EPOCHS,
            batch: BATCH as usize,
            balance: false,
            views: 1,
            patience: None,
            hold_out: 0.0,
            private: None,
            checkpoint: None,
            seed: 0,
        }
    }

    /// The same as `private` says, with the defaults of `train --private`.
    pub(crate) fn privately(self, private: Option<&'c Private>) -> Self {
        if private.is_none() {
            return self;
        }
        let head = LearningRate { rate: PRIVATE_HEAD_RATE, ..self.head };
        Self { private, optimizer: &Sgd, head, ..self }
    }

    /// The trainer's setup for this many training clips.
    fn setup(&self, clips: usize) -> Setup<'_> {
        let steps = match self.private {
            Some(private) => private.run.steps,
            None => self.epochs.saturating_mul(clips.div_ceil(self.batch.max(1)) as u32),
        };
        Setup {
            method: self.method,
            sites: self.sites,
            readout: self.readout,
            loss: self.loss(),
            optimizer: self.optimizer,
            adapter: self.adapter,
            head: self.head,
            moves: self.moves,
            schedule: Schedule { shape: self.decay.over(steps), warm_up: self.warm_up.unwrap_or(steps / 20) },
            // Gradients of units are shortened one by one.
            clip_norm: self.clip_norm.filter(|_| self.private.is_none()),
            seed: self.seed,
        }
    }

    /// The memory that this course needs on `target`, to the byte.
    pub(crate) fn memory<T: Target>(&self, plan: &PlanView<'_>, target: &T) -> Result<TrainMemory, CliError> {
        Ok(Trainer::memory(plan, target, &self.setup(1))?)
    }

    /// Trains an adapter of `plan` on `lessons`.
    ///
    /// # Errors
    /// [`CliError::Train`], [`CliError::Export`], and those of reading clips.
    pub(crate) fn train<T: Backend>(
        &self,
        plan: PlanView<'_>,
        target: &T,
        lessons: &Lessons<'_>,
        console: &Console<'_>,
    ) -> Result<Trained, CliError> {
        let started = Instant::now();
        let (learned, judged) = self.sides(lessons)?;
        let setup = self.setup(learned.len());
        let memory = Trainer::memory(&plan, target, &setup)?;
        let (mut store, lanes) = target.store_clips(memory.device(), self.batch)?;
        let session = memory.session.saturating_mul(lanes);
        let memory = TrainMemory { session, ..memory };
        let mut beside = AlignedBytes::zeroed(memory.beside());
        let device = T::memory(&mut store);
        let mut trainer = Trainer::bind_apart(plan, target, setup, device, beside.as_mut_slice())?;
        if let Some(frozen) = self.on.and_then(|on| on.terms.as_ref()) {
            trainer.freeze(frozen)?;
        }
        if let Some(adapter) = self.from {
            continue_from(&mut trainer, adapter)?;
        }
        let bar = console.bar(lessons.labels.len(), "reading");
        let views = Views::compute(&mut trainer, self, (lessons, &learned), &bar)?;
        bar.finish_and_clear();
        self.standardize(&mut trainer, &views, &learned)?;
        let continued = self.from.filter(|adapter| self.continues_head(adapter, lessons));
        if let Some(head) = continued.and_then(TermSource::head) {
            trainer.start_head(head.weight, head.bias)?;
        }
        let mut truths = Truths::new(self, lessons.labels, &views, &mut trainer)?;
        if self.prototypes {
            self.start_at_prototypes(&mut trainer, (lessons, &learned), &views, &mut truths)?;
        }
        let Run { loss, epochs, losses } =
            self.learn(&mut trainer, &views, &mut truths, (&learned, &judged), console)?;
        let export = self.deploy(&mut trainer, &views, lessons)?;
        Ok(Trained {
            bytes: export.bytes,
            loss,
            epochs,
            losses,
            steps: trainer.steps(),
            memory,
            moved_by: (!target.is_host()).then(|| if trainer.moves_apart() { target.name() } else { "host" }),
            parameters: trainer.parameters().values().len(),
            sites: export.sites,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// Has the head see features of mean 0 and deviation 1 over the clips `learned`, or what is stated of them.
    fn standardize<T: Target>(
        &self,
        trainer: &mut Trainer<'_, '_, T>,
        views: &Views,
        learned: &[usize],
    ) -> Result<(), TrainError> {
        if self.private.is_some() {
            let deviation = private::stated_deviation(trainer.plan(), self.readout, trainer.feature_count());
            trainer.standardize_as(0.0, deviation);
            return Ok(());
        }
        for &clip in learned {
            views.of(clip).try_for_each(|view| trainer.observe(view))?;
        }
        trainer.standardize();
        Ok(())
    }

    /// Runs the course and leaves the parameters it ends with.
    fn learn<T: Target>(
        &self,
        trainer: &mut Trainer<'_, '_, T>,
        views: &Views,
        truths: &mut Truths<'_>,
        sides: (&[usize], &[usize]),
        console: &Console<'_>,
    ) -> Result<Run, CliError> {
        let pieces = self.private.map_or(self.epochs, |private| private.run.steps);
        let bar = console.bar(pieces as usize, "training");
        let run = match self.private {
            Some(private) => self.private_steps(trainer, views, truths, private, &bar)?,
            None => self.epochs(trainer, views, truths, sides, &bar)?,
        };
        bar.finish_and_clear();
        Ok(run)
    }

    /// Trains a head on features that are at hand, of one label each; gives its weight and bias on features as they are.
    ///
    /// # Errors
    /// [`CliError::Train`]; [`CliError::Random`].
    pub(crate) fn train_head(
        &self,
        plan: PlanView<'_>,
        target: &Host,
        (features, labels): (Vec<Vec<f32>>, &[Vec<usize>]),
        console: &Console<'_>,
    ) -> Result<FoldedHead, CliError> {
        let learned: Vec<usize> = (0..labels.len()).collect();
        let setup = self.setup(labels.len());
        let mut arena = AlignedBytes::zeroed(Trainer::memory(&plan, target, &setup)?.total());
        let mut trainer = Trainer::bind(plan, target, setup, arena.as_mut_slice())?;
        let views = Views::of_features(features);
        self.standardize(&mut trainer, &views, &learned)?;
        let mut truths = Truths::new(self, labels, &views, &mut trainer)?;
        self.learn(&mut trainer, &views, &mut truths, (&learned, &[]), console)?;
        folded_head(&trainer)
    }

    /// Whether the head of `adapter` is the one that is trained: it reads the same, and tells the same classes apart.
    pub(crate) fn continues_head(&self, adapter: &Adapter<'_>, lessons: &Lessons<'_>) -> bool {
        let Readout::Head { site, pool, .. } = self.readout else { return false };
        let same = |head: HeadView<'_>| {
            (head.site, head.pool) == (site, pool) && head.labels.split('\n').eq(lessons.classes)
        };
        !self.prototypes && adapter.head().is_some_and(same)
    }

    /// The adapter file of what `trainer` learned, or the stack with it.
    fn deploy<T: Target>(
        &self,
        trainer: &mut Trainer<'_, '_, T>,
        views: &Views,
        lessons: &Lessons<'_>,
    ) -> Result<Export, CliError> {
        let mut ranges = Ranges::new(trainer);
        if self.private.is_none() {
            // Ranges are measured on every clip and version the adapter has to hold.
            for clip in 0..lessons.labels.len() {
                let target = trainer.target();
                views.of(clip).try_for_each(|view| trainer.forward(view, &mut ranges.on(target)))?;
            }
        }
        let options = ExportOptions {
            factors: if self.private.is_some() { FactorFormat::Bounded } else { FactorFormat::Int8(&ranges) },
            labels: lessons.classes.to_vec(),
            provenance: lessons.provenance.clone(),
            privacy: self.private.map(|private| private.mark),
            parameters: lessons.parameters,
            stacked_on: self.on.map(|on| on.hash.to_owned()).unwrap_or_default(),
            deltas: lessons.deltas,
            alone: false,
        };
        let whole = export(trainer, &options)?;
        // Without tensors there is nothing to go on from: the terms are all that is wanted.
        let Some(on) = self.on.filter(|_| lessons.parameters) else { return Ok(whole) };
        let alone = export(trainer, &ExportOptions { alone: true, stacked_on: String::new(), ..options })?;
        let mut members = on.members.to_vec();
        if let Some(member) = members.get_mut(on.trained) {
            member.bytes = alone.bytes;
        }
        let base = Base { plan: *trainer.plan(), initializers: Tensors::new() };
        let bytes = stacked(&base, &whole.bytes, &members)
            .map_err(|error| CliError::Import { path: "the stack".into(), error: Box::new(error) })?;
        Ok(Export { bytes, ..whole })
    }

    /// The clips to learn from, and those whose loss says when to stop.
    fn sides(&self, lessons: &Lessons<'_>) -> Result<(Vec<usize>, Vec<usize>), CliError> {
        if self.hold_out == 0.0 {
            return Ok(((0..lessons.labels.len()).collect(), Vec::new()));
        }
        // Clips are alike that have all their labels in common.
        let mut kinds: Vec<&Vec<usize>> = lessons.labels.iter().collect();
        kinds.sort_unstable();
        kinds.dedup();
        let kind = |labels: &Vec<usize>| kinds.binary_search(&labels).unwrap_or(usize::MAX);
        let kinds: Vec<usize> = lessons.labels.iter().map(kind).collect();
        let split = split::hold_out(&kinds, lessons.groups, self.hold_out, self.seed)?;
        Ok((split.train, split.test))
    }

    /// Runs the epochs and leaves the best parameters.
    fn epochs<T: Target>(
        &self,
        trainer: &mut Trainer<'_, '_, T>,
        views: &Views,
        truths: &mut Truths<'_>,
        (learned, judged): (&[usize], &[usize]),
        bar: &ProgressBar,
    ) -> Result<Run, CliError> {
        let smoothing = if judged.is_empty() { 0.7 } else { 0.0 };
        let stop = self.patience.map_or(EarlyStop::never(), EarlyStop::new).smoothing(smoothing);
        let kept = self.checkpoint.as_ref().map(|checkpoint| checkpoint.read(trainer, stop)).transpose()?;
        let start = Saved { epoch: 0, stop, best: trainer.parameters().values().to_vec() };
        let mut saved = kept.flatten().unwrap_or(start);
        bar.inc(u64::from(saved.epoch));
        let first = if saved.stop.is_spent() { self.epochs } else { saved.epoch };
        let mut losses = Vec::new();
        for epoch in first..self.epochs {
            let learned_loss = self.epoch(trainer, views, truths, learned, epoch)?;
            losses.push(learned_loss);
            let criterion = match judged.len() {
                0 => learned_loss,
                count => {
                    let loss = |clip: &usize| trainer.evaluate(views.first(*clip), truths.of(*clip, 0));
                    let losses: Result<Vec<_>, _> = judged.iter().map(loss).collect();
                    losses?.iter().map(|evaluation| evaluation.loss).sum::<f32>() / count as f32
                }
            };
            saved.epoch = epoch + 1;
            bar.inc(1);
            let verdict = saved.stop.observe(criterion);
            if verdict == Verdict::Best {
                saved.best.copy_from_slice(trainer.parameters().values());
            }
            if let Some(checkpoint) = &self.checkpoint {
                checkpoint.write(trainer, &saved)?;
            }
            if verdict == Verdict::Stop {
                break;
            }
        }
        trainer.restore(&saved.best)?;
        Ok(Run { loss: saved.stop.best(), epochs: saved.epoch, losses })
    }

    /// One epoch over `learned` in a seeded order, one version of each clip; gives the mean loss.
    fn epoch<T: Target>(
        &self,
        trainer: &mut Trainer<'_, '_, T>,
        views: &Views,
        truths: &mut Truths<'_>,
        learned: &[usize],
        epoch: u32,
    ) -> Result<f32, TrainError> {
        let mut rng = Rng::stream(self.seed, u64::from(epoch));
        let order = order::draw(learned, truths.labels(), self.balance, &mut rng);
        let mut sum = 0.0;
        for batch in order.chunks(self.batch.max(1)) {
            let drawn: Vec<_> = batch.iter().map(|&clip| (clip, views.draw(clip, &mut rng))).collect();
            let clips = drawn.iter().map(|(clip, view)| views.get(*clip, *view));
            let lessons: Vec<_> = clips.zip(truths.of_batch(&drawn)).collect();
            trainer.accumulate_all(&lessons, |loss| sum += loss)?;
            trainer.step()?;
        }
        Ok(sum / learned.len().max(1) as f32)
    }
}

/// A head on features as they are: its weight and bias.
type FoldedHead = (Vec<f32>, Vec<f32>);

/// The head of `trainer`.
///
/// # Errors
/// [`CliError::NotAClassifier`] without one.
fn folded_head<T: Target>(trainer: &Trainer<'_, '_, T>) -> Result<FoldedHead, CliError> {
    let head = trainer.head().ok_or(CliError::NotAClassifier)?;
    let (mut weight, mut bias) = (head.weight.to_vec(), head.bias.to_vec());
    head.fold(&mut weight, &mut bias).ok_or(CliError::NotAClassifier)?;
    Ok((weight, bias))
}

/// Default of `--lr` for `method`.
fn peak_rate(method: &dyn Method) -> f32 {
    if method.name() == Full.name() { WHOLE_RATE } else { RATE }
}

// Defaults: of rates, smoothing and length of gradients, `benches/record/tasks-2026-11-29.md` has what they were chosen from, of
// the rate of whole weights `train-2026-11-30.md`.

/// Default of `--epochs`.
pub(crate) const EPOCHS: u32 = 60;
/// Default of `--batch`.
pub(crate) const BATCH: u32 = 8;
// Of those under `--private`, `benches/record/privacy-2026-11-29.md` has what they were chosen from.

/// Default of `--epochs` under `--private`.
pub(crate) const PRIVATE_EPOCHS: u32 = 20;
/// Probability of a unit to be in a step under `--private`, without `--batch`.
pub(crate) const PRIVATE_RATE: f64 = 0.5;
/// Default of `--head-lr` under `--private`, for the gradients of length 1 that `--clip-norm` leaves.
const PRIVATE_HEAD_RATE: f32 = 1.0;
/// Default of `--epsilon`.
pub(crate) const EPSILON: f64 = 8.0;
/// Default of `--patience`, where there is one.
pub(crate) const PATIENCE: u32 = 15;
/// Default of `--smoothing`.
pub(crate) const SMOOTHING: f32 = 0.1;
/// Default of `--clip-norm`.
pub(crate) const CLIP_NORM: f32 = 1.0;
/// Default of `--lr` but for whole weights.
pub(crate) const RATE: f32 = 3e-3;
/// Default of `--lr` for whole weights: they want smaller steps than factors that start at zero.
pub(crate) const WHOLE_RATE: f32 = 2e-4;
/// Default of `--weight-decay`.
pub(crate) const WEIGHT_DECAY: f32 = 0.01;
/// Defaults of `--head-lr` and `--head-decay`.
pub(crate) const HEAD: LearningRate = LearningRate { rate: 5e-3, weight_decay: 0.01 };
/// Default of `--temperature`.
pub(crate) const TEMPERATURE: f32 = 2.0;
/// Default of `--teacher-share`.
pub(crate) const TEACHER_SHARE: f32 = 0.5;
