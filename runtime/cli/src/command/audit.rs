//! `ingraft audit`: attacks on what training gives away.

mod report;

use std::path::PathBuf;

use ingraft_adapter::PrivacyUnit;
use ingraft_kernel::{Host, NO_SITE};
use ingraft_method::Head;
use ingraft_plan::PlanView;
use ingraft_train::{Clip, Readout, Trainer, Truth};

use crate::aligned::AlignedBytes;
use crate::args::target_names;
use crate::audit::inversion::{FOUND, cosine, invert};
use crate::audit::membership::{Membership, Shadow, coins};
use crate::audit::records::Records;
use crate::audit::text::{Release, Text, TokenSpan, released, setup};
use crate::entropy::OsEntropy;
use crate::plan_file::ArtifactFile;
use crate::training::{self, Course, Private};
use crate::{CliError, Console, target};

use report::{AuditReport, InversionReport, MembershipReport, UtilityReport};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The plan whose head is trained on made-up records; compiled with --head-classes.
    #[arg(value_name = "BASE.plan")]
    plan: PathBuf,
    /// A text model, compiled with --train-from, for the token span attack on a LoRA of its first layer.
    #[arg(long, value_name = "TEXT.plan")]
    text: Option<PathBuf>,
    /// Made-up records; coins choose those that each adapter learns from.
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(40..=100_000))]
    records: u32,
    /// Adapters trained with privacy, and as many without. Every record is a trial against each.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(4..=10_000))]
    runs: u32,
    /// Classes of the records.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..=32))]
    classes: u32,
    /// The privacy loss that each private adapter is allowed.
    #[arg(long, value_name = "EPSILON", default_value_t = training::EPSILON)]
    epsilon: f64,
    /// Single examples whose gradient is inverted, and sentences of the text model.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    examples: u32,
    /// Seed of records, coins and sentences; noise has none.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Where to train.
    #[arg(long, value_name = "NAME", value_parser = target_names(), default_value = target::NATIVE)]
    target: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<(), CliError> {
    let file = ArtifactFile::read(&args.plan)?;
    let plan = file.plan()?;
    let target = target::find(&args.target)?;
    let text = args.text.as_ref().map(|path| ArtifactFile::read(path)).transpose()?;
    let text = text.as_ref().map(|file| file.plan()).transpose()?;
    let text = text.map(|plan| Text::new(plan).ok_or_else(|| not_text(args))).transpose()?;
    let audit = Audit::new(args, plan, &target)?;
    let (private, heads) = audit.membership(true, console)?;
    let (plain, _) = audit.membership(false, console)?;
    let inversion = audit.inversion(&heads)?;
    let release = audit.release;
    let bar = console.bar(1, "tokens");
    let examples = (args.examples as usize, args.seed);
    let span = text.map(|text| text.attack(&target, examples, release, &bar)).transpose()?;
    bar.finish_and_clear();
    let report = audit.report(&private, &plain, inversion, span);
    if args.json { console.json(&report) } else { console.line(&report) }
}

fn not_text(args: &Args) -> CliError {
    CliError::Setting {
        option: "--text",
        value: args.text.as_ref().map_or(String::new(), |path| path.display().to_string()),
        expected:
            "a text model compiled with --train-from all: a table of tokens, a normalization, a linear layer"
                .to_owned(),
    }
}

/// An audit of the head of one plan.
struct Audit<'a> {
    args: &'a Args,
    plan: PlanView<'a>,
    target: &'a Host,
    readout: Readout,
    records: Records,
    /// What a private run of half of the records releases in a step.
    release: Release,
    private: Private,
}

/// Weight and bias of a trained head.
type TrainedHead = (Vec<f32>, Vec<f32>);
/// Which records a head learned from, and the head.
type Learned = (Vec<bool>, TrainedHead);

impl<'a> Audit<'a> {
    fn new(args: &'a Args, plan: PlanView<'a>, target: &'a Host) -> Result<Self, CliError> {
        let readout = Readout::Head { site: NO_SITE, pool: 3, classes: args.classes };
        let setup = setup(&Head, &[], readout);
        let mut memory = AlignedBytes::zeroed(Trainer::memory(&plan, target, &setup)?.total());
        let features = Trainer::bind(plan, target, setup, memory.as_mut_slice())?.feature_count();
        let (count, classes) = (args.records as usize, args.classes as usize);
        let size = training::stated_size(&plan, readout);
        let records = Records::synthetic(count, classes, features, size, args.seed);
        let private = private_run(count / 2, args.epsilon)?;
        let release = Release { bound: private.run.bound, noise: private.run.noise };
        Ok(Self { args, plan, target, readout, records, release, private })
    }

    /// Trains adapters on records that coins choose, and says what gives these away; with the heads.
    fn membership(
        &self,
        private: bool,
        console: &Console<'_>,
    ) -> Result<(Membership, Vec<Learned>), CliError> {
        let bar = console.bar(self.args.runs as usize, if private { "private" } else { "plain" });
        let (mut shadows, mut heads) = (Vec::new(), Vec::new());
        for run in 0..u64::from(self.args.runs) {
            let saw = coins(self.records.labels.len(), self.args.seed, run);
            let head = self.train(private, &saw, run, console)?;
            shadows.push(Shadow::new(&self.records, saw.clone(), &head));
            heads.push((saw, head));
            bar.inc(1);
        }
        bar.finish_and_clear();
        let told = Membership::of(&shadows).ok_or(CliError::NotAClassifier)?;
        Ok((told, heads))
    }

    /// A head as `train` trains it by default, on the records that `saw` says.
    fn train(
        &self,
        private: bool,
        saw: &[bool],
        seed: u64,
        console: &Console<'_>,
    ) -> Result<TrainedHead, CliError> {
        let chosen = || saw.iter().enumerate().filter(|(_, saw)| **saw).map(|(record, _)| record);
        let features = chosen().map(|record| self.records.features[record].clone()).collect();
        let labels: Vec<Vec<usize>> = chosen().map(|record| self.records.labels[record].clone()).collect();
        let run = private.then(|| private_run(labels.len(), self.args.epsilon)).transpose()?;
        let course = Course::new(&Head, &[], self.readout);
        let course = Course { seed, ..course.privately(run.as_ref()) };
        course.train_head(self.plan, self.target, (features, &labels), console)
    }

    /// Inverts gradients of single records, and heads.
    fn inversion(&self, heads: &[Learned]) -> Result<InversionReport, CliError> {
        let setup = setup(&Head, &[], self.readout);
        let mut memory = AlignedBytes::zeroed(Trainer::memory(&self.plan, self.target, &setup)?.total());
        let mut trainer = Trainer::bind(self.plan, self.target, setup, memory.as_mut_slice())?;
        trainer.standardize_as(
            0.0,
            training::stated_deviation(&self.plan, self.readout, trainer.feature_count()),
        );
        let mut entropy = OsEntropy::new();
        let examples = (self.args.examples as usize).min(self.records.labels.len());
        let (mut raw, mut private) = (0u32, 0u32);
        for (features, label) in self.records.features.iter().zip(&self.records.labels).take(examples) {
            trainer.accumulate(Clip::Features(features), Truth::Class(label[0]))?;
            let gradient = trainer.gradients().to_vec();
            trainer.discard();
            let found = |gradient: &[f32]| {
                let inverted = invert(gradient, features.len());
                u32::from(inverted.is_some_and(|found| cosine(&found, features) >= FOUND))
            };
            raw += found(&gradient);
            private += found(&released(&gradient, self.release, &mut entropy)?);
        }
        let share = |found: u32, of: usize| f64::from(found) / of.max(1) as f64;
        let (mut found, mut tried) = (0, 0);
        for (saw, (weight, _)) in heads.iter().take(1) {
            for (features, _) in self.records.features.iter().zip(saw).filter(|(_, saw)| **saw) {
                let alike =
                    |row: &[f32]| cosine(&row.iter().map(|w| f64::from(*w)).collect::<Vec<_>>(), features);
                found += u32::from(weight.chunks_exact(features.len()).any(|row| alike(row).abs() >= FOUND));
                tried += 1;
            }
        }
        Ok(InversionReport {
            examples,
            features: self.records.features.first().map_or(0, Vec::len),
            raw: share(raw, examples),
            private: share(private, examples),
            adapter: share(found, tried),
        })
    }

    fn report(
        &self,
        private: &Membership,
        plain: &Membership,
        inversion: InversionReport,
        token_span: Option<TokenSpan>,
    ) -> AuditReport {
        let chance = 1.0 / f64::from(self.args.classes);
        let utility = UtilityReport {
            chance,
            private: private.accuracy,
            plain: plain.accuracy,
            kept: (private.accuracy - chance) / (plain.accuracy - chance),
        };
        let raw = inversion.raw > REVEALS && token_span.as_ref().is_none_or(|span| span.raw > REVEALS);
        let holds = raw && private.upper_bound() <= HIDES && utility.kept >= KEEPS;
        AuditReport {
            privacy: self.private.mark.into(),
            records: self.records.labels.len(),
            runs: self.args.runs,
            trials: private.trials,
            membership: MembershipReport::new(private),
            membership_plain: MembershipReport::new(plain),
            inversion,
            token_span,
            utility,
            holds,
        }
    }
}

/// A private run over so many clips as `train --private` does it by default.
fn private_run(units: usize, epsilon: f64) -> Result<Private, CliError> {
    let clips = (0..units).map(|clip| vec![clip]).collect();
    let goal = (epsilon, Private::largest_delta(units));
    let (course, bound) = (training::private_steps(None, None, units), f64::from(training::CLIP_NORM));
    Private::new(clips, PrivacyUnit::Clip, goal, course, bound).ok_or_else(|| CliError::Setting {
        option: "--epsilon",
        value: epsilon.to_string(),
        expected: "a number above 0".to_owned(),
    })
}

/// The share that attacks on raw gradients have to find, to be worth anything.
const REVEALS: f64 = 0.9;
/// The most that the upper bound of max(AUC, 1 − AUC) may be against a private adapter.
const HIDES: f64 = 0.55;
/// The share of the gain over chance that a private adapter has to keep.
const KEEPS: f64 = 0.5;
