//! The options of `train` and what they mean.

use ingraft_dataset::augment::{Augmentation, Meaning, Recipe};
use ingraft_plan::PlanView;
use ingraft_train::{AdamW, LearningRate, Readout, optimizer};

use super::candidate::{Candidate, Trainee};
use crate::CliError;
use crate::args::{assignment, method_names, optimizer_names};
use crate::training::{self, Course, Decay, HeadChoice, SiteChoice};

/// What is trained.
#[derive(Debug, clap::Args)]
pub(super) struct MethodArgs {
    /// The adaptation method; `ingraft methods` lists them.
    #[arg(long, value_name = "NAME", value_parser = method_names())]
    method: String,
    /// A setting of the method; may be repeated.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = assignment)]
    settings: Vec<(String, String)>,
    #[command(flatten)]
    pub(super) place: PlaceArgs,
}

/// Where it is trained.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct PlaceArgs {
    /// Sites to train: `late`, `all`, or those whose name matches; by default the late ones, or all without any.
    #[arg(long, value_name = "REGEX|late|all", value_parser = SiteChoice::parse)]
    sites: Option<SiteChoice>,
    /// What the new head reads: a site's output or `last` (the last linear layer's input), averaged over all, height,
    /// width, time (frequency kept) or none of its axes; `none` trains for the model's own classes instead.
    #[arg(long, value_name = "SITE[:POOL]|none", value_parser = HeadChoice::parse, default_value = "last:all")]
    head: HeadChoice,
}

/// How it is trained.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct CourseArgs {
    /// Times every clip is seen, at most.
    #[arg(long, value_name = "N", default_value_t = training::EPOCHS)]
    epochs: u32,
    /// Seed of everything that is drawn: start values, order, views.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Learning rate of the method's parameters, at its peak.
    #[arg(long, value_name = "RATE", default_value_t = training::ADAPTER.rate)]
    lr: f32,
    /// Learning rate of the head, at its peak.
    #[arg(long, value_name = "RATE", default_value_t = training::HEAD.rate)]
    head_lr: f32,
    /// How both rates go on from their peak: they stay there, or fall to 0 over all epochs.
    #[arg(long, value_enum, value_name = "NAME", default_value_t = Decay::Cosine)]
    schedule: Decay,
    /// Steps of the optimizer over which both rates rise to their peak; by default a twentieth of all.
    #[arg(long, value_name = "STEPS")]
    warmup: Option<u32>,
    /// Weight decay of the method's parameters.
    #[arg(long, value_name = "DECAY", default_value_t = training::ADAPTER.weight_decay)]
    weight_decay: f32,
    /// Weight decay of the head.
    #[arg(long, value_name = "DECAY", default_value_t = training::HEAD.weight_decay)]
    head_decay: f32,
    /// The optimizer.
    #[arg(long, value_name = "NAME", value_parser = optimizer_names(), default_value = training::OPTIMIZER)]
    optimizer: String,
    /// Clips between two steps of the optimizer.
    #[arg(long, value_name = "N", default_value_t = training::BATCH, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Share of the truth spread over all classes.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    smoothing: f32,
    /// Longest gradient; longer ones are shortened to it.
    #[arg(long, value_name = "LENGTH")]
    clip_norm: Option<f32>,
    /// Epochs without progress before training stops.
    #[arg(long, value_name = "N", default_value_t = training::PATIENCE)]
    patience: u32,
    /// Share of the training clips kept aside to tell progress by; with 0 it is told by the smoothed training loss.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    hold_out: f64,
}

/// How clips are varied.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct AugmentArgs {
    /// Seeded changes of each recording, in order: gain=-6..6, rotate=0.5, shift=0.1, noise=10..30, mix=5..20,
    /// speed=0.9..1.1, pitch=-1..1, crop=0.975.
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
    /// The method with its settings.
    pub(super) fn candidate(&self) -> Candidate<'_> {
        Candidate {
            name: &self.method,
            settings: self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
        }
    }
}

impl CourseArgs {
    /// The seed.
    pub(in crate::command) fn seed(&self) -> u64 {
        self.seed
    }

    /// The most epochs.
    pub(in crate::command) fn epochs(&self) -> u32 {
        self.epochs
    }

    /// The course of training `trainee` on `views` versions of each clip, all drawn by `seed`.
    pub(in crate::command) fn course<'t>(&self, trainee: &'t Trainee, views: u32, seed: u64) -> Course<'t> {
        Course {
            optimizer: optimizer(&self.optimizer).unwrap_or(&AdamW::DEFAULT),
            adapter: LearningRate { rate: self.lr, weight_decay: self.weight_decay },
            head: LearningRate { rate: self.head_lr, weight_decay: self.head_decay },
            smoothing: self.smoothing,
            clip_norm: self.clip_norm,
            decay: self.schedule,
            warm_up: self.warmup,
            epochs: self.epochs,
            batch: self.batch as usize,
            views,
            patience: self.patience,
            hold_out: self.hold_out,
            seed,
            ..Course::new(&*trainee.method, &trainee.sites, trainee.readout)
        }
    }
}

impl AugmentArgs {
    /// The recipe of the versions, and how many there are.
    ///
    /// # Errors
    /// [`CliError::Augment`] for steps that change what the labels say.
    pub(in crate::command) fn recipe(&self) -> Result<(Recipe, u32), CliError> {
        let meaning = if self.pitch_is_label { Meaning::PitchIsLabel } else { Meaning::PitchIsFree };
        let recipe = Recipe::new(self.augment.clone(), meaning).map_err(CliError::Augment)?;
        let default = if self.augment.is_empty() { 1 } else { VIEWS };
        Ok((recipe, self.views.unwrap_or(default)))
    }
}

/// Versions of each clip where there are augmentations.
const VIEWS: u32 = 8;
