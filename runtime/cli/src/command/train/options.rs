//! The options of `train` and what they mean.

use std::path::PathBuf;

use ingraft_adapter::Adapter;
use ingraft_dataset::augment::{Augmentation, Meaning, Recipe};
use ingraft_method::{ContinueError, Head, METHODS, score_for};
use ingraft_plan::PlanView;
use ingraft_train::{GaLore, LearningRate, Method as _, Moves, Optimizer, Readout, optimizer};

use super::candidate::{Candidate, Trainee};
use crate::CliError;
use crate::args::{assignment, method_names, optimizer_names};
use crate::training::{self, Course, Decay, HeadChoice, Objective, Private, SiteChoice};

/// What is trained.
#[derive(Debug, clap::Args)]
pub(super) struct MethodArgs {
    /// The adaptation method; `ingraft methods` lists them. With --from it is that of the adapter, with --private else `head`.
    #[arg(long, value_name = "NAME", value_parser = method_names(), required_unless_present_any = ["from", "private"])]
    method: Option<String>,
    /// Go on training this adapter: its method, settings and sites, its parameters as the start, and its head where it is one
    /// for the same classes. Of a stack, the one member that is not frozen, beside the others.
    #[arg(long, value_name = "A.adapter")]
    pub(super) from: Option<PathBuf>,
    /// A setting of the method; may be repeated.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = assignment)]
    settings: Vec<(String, String)>,
    /// Train beside this adapter, which acts and stays as it is: the result is a stack of both, this one frozen. While one is
    /// trained the other is merged into one weight a site.
    #[arg(long, value_name = "A.adapter", conflicts_with = "from")]
    pub(super) on: Option<PathBuf>,
    #[command(flatten)]
    pub(super) place: PlaceArgs,
}

/// Where it is trained.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct PlaceArgs {
    /// Sites to train: `late`, `all`, `useful` (those worth most within --memory), or those whose name matches; by default the
    /// late ones, or all without any.
    #[arg(long, value_name = "REGEX|late|all|useful", value_parser = SiteChoice::parse)]
    sites: Option<SiteChoice>,
    /// What the new head reads: a site's output or `last` (the last linear layer's input), averaged over all, height,
    /// width, time (frequency kept) or none of its axes; `none` trains for the model's own classes instead.
    #[arg(long, value_name = "SITE[:POOL]|none", value_parser = HeadChoice::parse, default_value = "last:all")]
    head: HeadChoice,
}

/// How it is trained.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::command) struct CourseArgs {
    /// Times every clip is seen, at most; 60 by default, 20 with --private.
    #[arg(long, value_name = "N")]
    epochs: Option<u32>,
    /// Seed of everything that is drawn: start values, order, views.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Learning rate of the method's parameters, at its peak; 0.003 by default, 0.0002 for `full`.
    #[arg(long, value_name = "RATE")]
    lr: Option<f32>,
    /// Learning rate of the head, at its peak; 0.005 by default, 1 with --private.
    #[arg(long, value_name = "RATE")]
    head_lr: Option<f32>,
    /// How both rates go on from their peak: they stay there, or fall to 0 over all epochs.
    #[arg(long, value_enum, value_name = "NAME", default_value_t = Decay::Cosine)]
    schedule: Decay,
    /// Steps of the optimizer over which both rates rise to their peak; by default a twentieth of all.
    #[arg(long, value_name = "STEPS")]
    warmup: Option<u32>,
    /// Weight decay of the method's parameters.
    #[arg(long, value_name = "DECAY", default_value_t = training::WEIGHT_DECAY)]
    weight_decay: f32,
    /// Weight decay of the head.
    #[arg(long, value_name = "DECAY", default_value_t = training::HEAD.weight_decay)]
    head_decay: f32,
    /// The optimizer; adamw by default, sgd with --private.
    #[arg(long, value_name = "NAME", value_parser = optimizer_names())]
    optimizer: Option<String>,
    /// Directions that `galore` and `natural-galore` keep of each matrix; 4 by default.
    #[arg(long, value_name = "RANK", value_parser = clap::value_parser!(u32).range(1..))]
    subspace: Option<u32>,
    /// Steps of them between two searches for these directions; 200 by default.
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u32).range(1..))]
    subspace_every: Option<u32>,
    /// The learning rate of factors that write an output, in those of all else (LoRA+).
    #[arg(long, value_name = "RATIO", default_value_t = 1.0)]
    up_ratio: f32,
    /// Penalty on the size of every parameter that decays towards the base, as a soft threshold: small ones become zero.
    #[arg(long, value_name = "PENALTY", default_value_t = 0.0)]
    soft_threshold: f32,
    /// Clips between two steps of the optimizer; 8 by default. With --private, units expected in a step; a quarter by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    /// See every class as often as any other, however many clips there are of it.
    #[arg(long)]
    pub(super) balance: bool,
    /// What is trained for: one class of all (cross-entropy); every label on its own (bce) or as a number (mse), where a
    /// clip may have several or none; or the class and what the model said before training (distill, with --head none).
    #[arg(long, value_name = "NAME", value_enum, default_value = "cross-entropy")]
    loss: Objective,
    /// Share of the truth spread over all classes (cross-entropy).
    #[arg(long, value_name = "SHARE", default_value_t = training::SMOOTHING)]
    smoothing: f32,
    /// What logits are divided by to learn from the model as it was (distill).
    #[arg(long, value_name = "T", default_value_t = training::TEMPERATURE)]
    temperature: f32,
    /// Share of that in the loss (distill).
    #[arg(long, value_name = "SHARE", default_value_t = training::TEACHER_SHARE)]
    teacher_share: f32,
    /// Start the head at the nearest class mean; with --epochs 0 that is the adapter.
    #[arg(long)]
    pub(super) prototypes: bool,
    /// Longest gradient; longer ones are shortened to it (inf: none is).
    #[arg(long, value_name = "LENGTH", default_value_t = training::CLIP_NORM)]
    pub(super) clip_norm: f32,
    /// Epochs without progress before training stops; 15 by default with --hold-out or --schedule constant, else it runs to
    /// the end: while rates fall, most is learned late.
    #[arg(long, value_name = "N")]
    pub(super) patience: Option<u32>,
    /// Share of the training clips kept aside to tell progress by; with 0 it is told by the smoothed training loss.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub(super) hold_out: f64,
}

/// How clips are varied.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct AugmentArgs {
    /// Seeded changes of each recording, in order: gain=-6..6, rotate=0.5, shift=0.1, noise=10..30, mix=5..20,
    /// speed=0.9..1.1, pitch=-1..1, crop=0.975, or mixup=0.4, which mixes its labels with another clip's too, by shares
    /// from Beta(0.4, 0.4); of its spectrogram: time-mask=0.2, frequency-mask=0.2; or of each picture: flip,
    /// window=0.7..1, colour=0.3. Clips that are held out or judged are mixed into none.
    #[arg(long, value_name = "STEP", value_delimiter = ',')]
    augment: Vec<Augmentation>,
    /// Versions kept of each clip, the first as it is; 8 by default with --augment, else 1.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=1024))]
    views: Option<u32>,
    /// Pitch and speed are what the labels say: refuse to change them.
    #[arg(long)]
    pitch_is_label: bool,
}

impl PlaceArgs {
    /// The sites asked for.
    pub(in crate::command) fn sites(&self) -> Option<&SiteChoice> {
        self.sites.as_ref()
    }

    /// How clips become logits of this many classes.
    ///
    /// # Errors
    /// [`CliError::Setting`].
    pub(in crate::command) fn readout(
        &self,
        plan: &PlanView<'_>,
        classes: usize,
    ) -> Result<Readout, CliError> {
        self.head.resolve(plan, classes)
    }
}

impl MethodArgs {
    /// The method with its settings, over those of the adapter it goes on from.
    ///
    /// # Errors
    /// [`CliError::Continue`] for an adapter that was not trained here, or chose what it trains by data.
    pub(super) fn candidate<'a>(&'a self, from: Option<&Adapter<'a>>) -> Result<Candidate<'a>, CliError> {
        let given = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let Some(adapter) = from else {
            let name = self.method.as_deref().unwrap_or(Head.name());
            return Ok(Candidate { name, settings: given.collect() });
        };
        let held = adapter.hyper().lines().filter_map(|line| line.split_once('='));
        let row = METHODS.iter().find(|row| row.name == adapter.method());
        let known = |name: &str| row.is_some_and(|row| row.settings.iter().any(|own| own.name == name));
        if row.is_none() || !held.clone().all(|(name, _)| known(name)) {
            return Err(ContinueError::Foreign(adapter.method().to_owned()).into());
        }
        let name = self.method.as_deref().unwrap_or(adapter.method());
        let settings: Vec<(&str, &str)> = held.filter(|_| name == adapter.method()).chain(given).collect();
        if score_for(name, &settings)?.is_some() {
            return Err(ContinueError::Chosen(name.to_owned()).into());
        }
        Ok(Candidate { name, settings })
    }
}

impl CourseArgs {
    /// The seed.
    pub(in crate::command) fn seed(&self) -> u64 {
        self.seed
    }

    /// The same at seed 0.
    pub(in crate::command) fn at_any_seed(&self) -> Self {
        Self { seed: 0, ..self.clone() }
    }

    /// Whether a clip may have several labels, or none.
    pub(in crate::command) fn takes_several(&self) -> bool {
        self.loss.takes_several()
    }

    /// The subspace optimizer asked for, if one is.
    pub(in crate::command) fn subspace(&self) -> Option<GaLore> {
        let named = [GaLore::DEFAULT, GaLore::NATURAL]
            .into_iter()
            .find(|rule| Some(rule.name()) == self.optimizer.as_deref())?;
        let (rank, every) = (self.subspace.unwrap_or(named.rank), self.subspace_every.unwrap_or(named.every));
        Some(GaLore { rank, every, ..named })
    }

    /// The optimizer asked for, if one is; it is `subspace` where that is one.
    pub(in crate::command) fn optimizer<'o>(
        &self,
        subspace: Option<&'o GaLore>,
    ) -> Option<&'o dyn Optimizer> {
        match subspace {
            Some(rule) => Some(rule),
            None => self.optimizer.as_deref().and_then(optimizer),
        }
    }

    /// Refuses options that contradict each other.
    ///
    /// # Errors
    /// [`CliError::Setting`].
    pub(in crate::command) fn check(&self, readout: Readout) -> Result<(), CliError> {
        let refused = |option, value: String, expected: &str| {
            Err(CliError::Setting { option, value, expected: expected.to_owned() })
        };
        let subspace = self.subspace.or(self.subspace_every);
        if let (Some(value), None) = (subspace, self.subspace()) {
            return refused(
                "--subspace",
                value.to_string(),
                "belongs to --optimizer galore or natural-galore",
            );
        }
        if self.loss == Objective::Distill && readout != Readout::Logits {
            return refused(
                "--loss",
                "distill".to_owned(),
                "a new head has no model to learn from; give --head none",
            );
        }
        if self.prototypes && readout == Readout::Logits {
            return refused(
                "--head",
                "none".to_owned(),
                "--prototypes start a new head; leave one of the two out",
            );
        }
        let inside = |value: f32, from: f32, to: f32| value >= from && value <= to;
        for (option, value, fits, expected) in [
            ("--up-ratio", self.up_ratio, inside(self.up_ratio, 1e-6, 1e6), "a number above 0"),
            ("--soft-threshold", self.soft_threshold, inside(self.soft_threshold, 0.0, 1e6), "0 or more"),
            ("--clip-norm", self.clip_norm, self.clip_norm > 0.0, "a length above 0, or inf"),
            ("--smoothing", self.smoothing, inside(self.smoothing, 0.0, 1.0), "a share, from 0 to 1"),
            ("--temperature", self.temperature, inside(self.temperature, 1e-3, 1e3), "from 0.001 to 1000"),
            (
                "--teacher-share",
                self.teacher_share,
                inside(self.teacher_share, 0.0, 1.0),
                "a share, from 0 to 1",
            ),
        ] {
            if !fits {
                return refused(option, value.to_string(), expected);
            }
        }
        Ok(())
    }

    /// The most epochs.
    pub(in crate::command) fn epochs(&self) -> u32 {
        self.epochs.unwrap_or(training::EPOCHS)
    }

    /// The probability of each of so many units to be in a step of a private run, and its steps.
    pub(super) fn private_steps(&self, units: usize) -> (f64, u32) {
        training::private_steps(self.batch, self.epochs, units)
    }

    /// The course of training `trainee`, privately where `private` says how, with `optimizer`, where one was asked for, on `views`
    /// versions of each clip, all drawn by `seed`.
    pub(in crate::command) fn course<'t>(
        &self,
        trainee: &'t Trainee,
        (optimizer, private): (Option<&'t dyn Optimizer>, Option<&'t Private>),
        views: u32,
        seed: u64,
    ) -> Course<'t> {
        let watched = self.hold_out > 0.0 || matches!(self.schedule, Decay::Constant);
        let defaults = Course::new(&*trainee.method, &trainee.sites, trainee.readout).privately(private);
        let rate = self.lr.unwrap_or(defaults.adapter.rate);
        Course {
            optimizer: optimizer.unwrap_or(defaults.optimizer),
            moves: Moves { up_ratio: self.up_ratio, soft_threshold: self.soft_threshold },
            adapter: LearningRate { rate, weight_decay: self.weight_decay },
            head: LearningRate {
                rate: self.head_lr.unwrap_or(defaults.head.rate),
                weight_decay: self.head_decay,
            },
            objective: self.loss,
            smoothing: self.smoothing,
            temperature: self.temperature,
            teacher_share: self.teacher_share,
            prototypes: self.prototypes,
            clip_norm: self.clip_norm.is_finite().then_some(self.clip_norm),
            decay: self.schedule,
            warm_up: self.warmup,
            epochs: self.epochs(),
            batch: self.batch.unwrap_or(training::BATCH) as usize,
            balance: self.balance,
            views,
            patience: self.patience.or(watched.then_some(training::PATIENCE)),
            hold_out: self.hold_out,
            seed,
            ..defaults
        }
    }
}

impl AugmentArgs {
    /// The recipe of the versions that `course` learns from, and how many there are.
    ///
    /// # Errors
    /// [`CliError::Augment`] for steps that change what the labels say; [`CliError::Setting`] for mixed labels where a
    /// teacher says the rest.
    pub(in crate::command) fn recipe(&self, course: &CourseArgs) -> Result<(Recipe, u32), CliError> {
        let meaning = if self.pitch_is_label { Meaning::PitchIsLabel } else { Meaning::PitchIsFree };
        let recipe = Recipe::new(self.augment.clone(), meaning).map_err(CliError::Augment)?;
        if let Some(step) = recipe.mixes_labels().filter(|_| course.loss == Objective::Distill) {
            return Err(CliError::Setting {
                option: "--augment",
                value: step.to_string(),
                expected: "--loss distill learns from one class of each clip; leave one of the two out"
                    .to_owned(),
            });
        }
        let default = if self.augment.is_empty() { 1 } else { VIEWS };
        Ok((recipe, self.views.unwrap_or(default)))
    }
}

/// Versions of each clip where there are augmentations.
const VIEWS: u32 = 8;
