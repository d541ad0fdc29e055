//! `train --private`: what it protects, what it is refused beside, what it is expected to cost.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};

use clap::ValueEnum;
use ingraft_adapter::{Adapter, Privacy, PrivacyUnit};
use ingraft_dataset::{Dataset, augment::Recipe};
use serde::Serialize;

use super::candidate::Candidate;
use super::options::CourseArgs;
use crate::training::{self, Private};
use crate::{CliError, Console};

/// Training that says little of any one clip.
#[derive(Debug, clap::Args)]
pub(super) struct PrivateArgs {
    /// Train with differential privacy (DP-SGD), so that the adapter can be shared: `export --share`. A head alone, unless
    /// --method says more.
    #[arg(long)]
    pub(super) private: bool,
    /// The privacy loss ε allowed to the whole run.
    #[arg(long, value_name = "EPSILON", requires = "private", default_value_t = training::EPSILON)]
    epsilon: f64,
    /// The δ it is for; by default, and at most, one by the square of the number of units.
    #[arg(long, value_name = "DELTA", requires = "private")]
    delta: Option<f64>,
    /// What is protected as one: a clip, or all clips of a group, by the column `group` of labels.csv.
    #[arg(long, value_name = "UNIT", requires = "private", value_enum, default_value = "clip")]
    unit: Unit,
    /// Accept the expected loss of accuracy where there are few units.
    #[arg(long, requires = "private")]
    yes: bool,
}

/// What is protected as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Unit {
    Clip,
    Group,
}

impl From<Unit> for PrivacyUnit {
    fn from(unit: Unit) -> Self {
        match unit {
            Unit::Clip => Self::Clip,
            Unit::Group => Self::Group,
        }
    }
}

/// What `--private` is given beside its own options.
pub(super) struct Beside<'b> {
    pub(super) course: &'b CourseArgs,
    pub(super) candidate: &'b Candidate<'b>,
    pub(super) augment: &'b Recipe,
    pub(super) from: Option<&'b Adapter<'b>>,
    /// Whether there is `--on`, `--checkpoint`, and `--replay`.
    pub(super) on: bool,
    pub(super) checkpoint: bool,
    pub(super) replay: bool,
    /// Whether sites are chosen by the clips.
    pub(super) useful: bool,
}

impl PrivateArgs {
    /// How the clips `learned` of `dataset`, whose items are of these groups, are learned privately; `None` without
    /// `--private`.
    ///
    /// # Errors
    /// [`CliError::NotPrivate`], [`CliError::Setting`], [`CliError::Unconfirmed`].
    pub(super) fn private(
        &self,
        beside: &Beside<'_>,
        (dataset, learned): (&Dataset, &[usize]),
        groups: &[usize],
        console: &mut Console<'_>,
    ) -> Result<Option<Private>, CliError> {
        if !self.private {
            return Ok(None);
        }
        self.check(beside)?;
        let private = self.plan(beside, (dataset, learned), groups)?;
        self.confirm(&private, console)?;
        Ok(Some(private))
    }

    /// Refuses whatever looks at the clips by another way than bounded gradients.
    ///
    /// # Errors
    /// [`CliError::NotPrivate`].
    fn check(&self, beside: &Beside<'_>) -> Result<(), CliError> {
        let course = beside.course;
        let chooses = beside.candidate.chooses_by_data()?;
        for (option, reads, advice) in [
            ("--prototypes", course.prototypes, "starts at the means of the training clips; leave it out"),
            ("--balance", course.balance, "takes clips by their labels; leave it out"),
            ("--hold-out", course.hold_out > 0.0, "chooses the epoch by clips kept aside; leave it out"),
            ("--patience", course.patience.is_some(), "stops by the loss on the clips; leave it out"),
            (
                "--augment",
                beside.augment.mixes().is_some(),
                "mixes clips of two units; leave `mix` and `mixup` out",
            ),
            ("--method", chooses, "chooses what it trains by the clips; take another, such as head or lora"),
            (
                "--sites",
                beside.useful,
                "`useful` chooses sites by the clips; take `late`, `all` or a pattern",
            ),
            ("--on", beside.on, "would put an adapter of other clips into this one; leave it out"),
            ("--replay", beside.replay, "keeps clips, and learns from those of others; leave it out"),
            (
                "--checkpoint",
                beside.checkpoint,
                "would spend the privacy of a step again when it goes on; leave it out",
            ),
        ] {
            if reads {
                return Err(CliError::NotPrivate { option, advice });
            }
        }
        match beside.from.map(Adapter::privacy) {
            Some(None) => Err(CliError::NotPrivate {
                option: "--from",
                advice: "goes on from an adapter trained without --private, which cannot be made private behind it; \
                         start anew",
            }),
            Some(Some(before)) if before.unit != self.unit.into() => Err(CliError::NotPrivate {
                option: "--unit",
                advice: "is not what the adapter it goes on from protects; take the same",
            }),
            _ => Ok(()),
        }
    }

    /// The private run over the clips `learned` of `dataset`, which are of these groups.
    ///
    /// # Errors
    /// [`CliError::Setting`] for an ε or δ out of range, or groups that the data does not declare.
    fn plan(
        &self,
        beside: &Beside<'_>,
        (dataset, learned): (&Dataset, &[usize]),
        groups: &[usize],
    ) -> Result<Private, CliError> {
        let setting = |option, value: String, expected: String| CliError::Setting { option, value, expected };
        let declared =
            || learned.iter().any(|item| dataset.items().get(*item).is_some_and(|i| i.group.is_some()));
        if self.unit == Unit::Group && !declared() {
            let expected =
                "the data declares no groups: give labels.csv a column `group`, or take --unit clip";
            return Err(setting("--unit", "group".to_owned(), expected.to_owned()));
        }
        let units = self.units(learned, groups);
        let most = Private::largest_delta(units.len());
        let delta = self.delta.unwrap_or(most);
        if !(delta > 0.0 && delta <= most) {
            let expected =
                format!("above 0 and at most {most:.3e}, one by the square of {} units", units.len());
            return Err(setting("--delta", delta.to_string(), expected));
        }
        let bound = f64::from(beside.course.clip_norm);
        if !bound.is_finite() {
            let expected = "a length: under --private it is the most that one unit can do".to_owned();
            return Err(setting("--clip-norm", bound.to_string(), expected));
        }
        let (rate, steps) = beside.course.private_steps(units.len());
        let fits = self.epsilon.is_finite() && self.epsilon > 0.0;
        let run = Private::new(units, self.unit.into(), (self.epsilon, delta), (rate, steps), bound);
        let run = run.filter(|_| fits).ok_or_else(|| {
            let expected = format!("a number above 0 that {steps} steps can keep to");
            setting("--epsilon", self.epsilon.to_string(), expected)
        })?;
        let before = beside.from.and_then(Adapter::privacy);
        Ok(before.map_or(run.clone(), |before| run.after(&before)))
    }

    /// The clips of each unit, by their place among those learned.
    fn units(&self, learned: &[usize], groups: &[usize]) -> Vec<Vec<usize>> {
        if self.unit == Unit::Clip {
            return (0..learned.len()).map(|clip| vec![clip]).collect();
        }
        let mut units: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (clip, item) in learned.iter().enumerate() {
            units.entry(groups.get(*item).copied().unwrap_or(usize::MAX)).or_default().push(clip);
        }
        units.into_values().collect()
    }

    /// Where units are few, says what that costs and asks whether to go on.
    ///
    /// # Errors
    /// [`CliError::Unconfirmed`].
    fn confirm(&self, private: &Private, console: &mut Console<'_>) -> Result<(), CliError> {
        let units = private.units.len();
        if units >= FEW {
            return Ok(());
        }
        console.note(format_args!(
            "{units} units are few for differential privacy: below {FEW}, noise costs much accuracy. {MEASURED}"
        ));
        if self.yes {
            return Ok(());
        }
        console.note("train all the same? [y/N]");
        let mut answer = String::new();
        let read = BufReader::new(console.take_stdin()).read_line(&mut answer);
        let agreed = read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes");
        if agreed { Ok(()) } else { Err(CliError::Unconfirmed { units }) }
    }
}

/// Fewer units than these are told what they lose.
const FEW: usize = 500;
/// What `benches/record/privacy-2026-11-29.md` measured.
const MEASURED: &str = "Measured on a head and clips not learned from: uav_detect (59 clips) is right for 0.90 without, 0.77 at \
                        epsilon 8 and at 50; esc10_cc0 (98 clips) 0.82 without, 0.88 at 8, 0.90 at 50.";

/// What an adapter promises of privacy, as `--json` prints it.
#[derive(Clone, Debug, Serialize)]
pub(in crate::command) struct PrivacyReport {
    /// ε over all runs.
    epsilon: f64,
    /// δ it is for, over all runs.
    delta: f64,
    /// `clip` or `group`.
    unit: &'static str,
    /// Number of units.
    units: u32,
    /// Steps of the last run.
    steps: u32,
    /// Probability of a unit to be in a step.
    rate: f64,
    /// Deviation of the noise, in units of the bound.
    noise: f64,
    /// The longest gradient of a unit.
    bound: f64,
    /// Training runs.
    runs: u32,
}

impl PrivacyReport {
    /// It in one line.
    pub(in crate::command) fn summary(&self) -> String {
        let runs = if self.runs > 1 { format!("; {} runs added up", self.runs) } else { String::new() };
        format!(
            "epsilon {:.3} at delta {:.2e} for each {} of {}{runs}",
            self.epsilon, self.delta, self.unit, self.units
        )
    }
}

impl From<Privacy> for PrivacyReport {
    fn from(privacy: Privacy) -> Self {
        let Privacy { epsilon, delta, unit, units, steps, rate, noise, bound, runs } = privacy;
        Self { epsilon, delta, unit: unit.name(), units, steps, rate, noise, bound, runs }
    }
}
