//! What a study says.

use std::collections::BTreeMap;

use serde::Serialize;

use super::arm::Arm;
use crate::report::{Table, bytes};

/// What `study --json` prints.
#[derive(Debug, Serialize)]
pub(super) struct StudyReport {
    #[serde(flatten)]
    pub(super) facts: Facts,
    /// The methods, the most accurate first, those that were refused last.
    pub(super) methods: Vec<MethodReport>,
}

/// What all methods had in common.
#[derive(Debug, Serialize)]
pub(super) struct Facts {
    /// Content hash of the base.
    pub(super) base_hash: String,
    /// The target's name.
    pub(super) target: String,
    /// Class names.
    pub(super) classes: Vec<String>,
    /// Clips of the data.
    pub(super) clips: usize,
    /// Runs of each method: folds times seeds.
    pub(super) runs: usize,
    /// Epochs, at most.
    pub(super) epochs: u32,
    /// Versions of each clip.
    pub(super) views: u32,
}

/// One method.
#[derive(Debug, Serialize)]
pub(super) struct MethodReport {
    /// Its name.
    pub(super) method: String,
    /// Its settings over the defaults, as text.
    pub(super) settings: BTreeMap<String, String>,
    /// Why it takes no part; null where it does, and then the figures are not.
    pub(super) refused: Option<String>,
    #[serde(flatten)]
    pub(super) figures: Figures,
}

/// The figures of one method.
#[derive(Debug, Default, Serialize)]
pub(super) struct Figures {
    /// Share of judgments that were right, over runs and clips.
    pub(super) accuracy: Option<f64>,
    /// 95 % interval over clips (bootstrap).
    pub(super) interval: Option<[f64; 2]>,
    /// Clips judged.
    pub(super) n: usize,
    /// Accuracy of each run.
    pub(super) by_run: Vec<f64>,
    /// Values trained, the head's included.
    pub(super) trained_parameters: Option<usize>,
    /// Bytes of the adapter file, the largest of all runs.
    pub(super) adapter_bytes: Option<usize>,
    /// Bytes of memory of training, with what is measured before it.
    pub(super) arena_bytes: Option<usize>,
    /// Mean time of measuring and training.
    pub(super) seconds: Option<f64>,
    /// Largest relative error of a delta as written against the trained one (Frobenius).
    pub(super) error: Option<f64>,
    /// Shortest time of one inference with the adapter.
    pub(super) infer_us: Option<f64>,
    /// That over the base's in turns with it, less 1.
    pub(super) overhead: Option<f64>,
    /// Mean training loss by epoch, over the runs that came so far.
    pub(super) losses: Vec<f64>,
    /// Judgments by true class, then by predicted class; the last column counts predictions that are no class of the data.
    pub(super) confusion: Vec<Vec<u64>>,
}

impl StudyReport {
    /// Gathers what `arms` gave.
    pub(super) fn new(facts: Facts, arms: Vec<Arm<'_>>) -> Self {
        let mut methods: Vec<MethodReport> = arms.iter().map(MethodReport::new).collect();
        let accuracy = |method: &MethodReport| method.figures.accuracy.unwrap_or(-1.0);
        methods.sort_by(|a, b| accuracy(b).total_cmp(&accuracy(a)));
        Self { facts, methods }
    }

    /// The methods that took part.
    pub(super) fn measured(&self) -> impl Iterator<Item = &MethodReport> {
        self.methods.iter().filter(|method| method.refused.is_none())
    }

    /// The figures for people.
    pub(super) fn table(&self) -> Table {
        let mut table = Table::new(COLUMNS);
        for method in &self.methods {
            table.row(method.cells());
        }
        table
    }
}

/// Titles of [`MethodReport::cells`].
pub(super) const COLUMNS: [&str; 10] = [
    "method",
    "accuracy",
    "95 % over clips",
    "trained",
    "adapter",
    "memory",
    "s",
    "overhead",
    "error",
    "refused because",
];

impl MethodReport {
    fn new(arm: &Arm<'_>) -> Self {
        let refused = arm.refusal().map(ToString::to_string);
        let figures = if refused.is_none() { Figures::new(arm) } else { Figures::default() };
        Self { method: arm.name().to_owned(), settings: arm.settings(), refused, figures }
    }

    /// Name and settings.
    pub(super) fn title(&self) -> String {
        let settings = self.settings.iter().map(|(name, value)| format!(" {name}={value}"));
        self.method.clone() + &settings.collect::<String>()
    }

    /// The figures as text; empty where there are none.
    pub(super) fn cells(&self) -> [String; 10] {
        let Figures { accuracy, interval, trained_parameters, adapter_bytes, arena_bytes, .. } =
            &self.figures;
        let Figures { seconds, error, overhead, .. } = &self.figures;
        let text = |value: Option<String>| value.unwrap_or_default();
        [
            self.title(),
            text(accuracy.map(|accuracy| format!("{accuracy:.3}"))),
            text(interval.map(|[low, high]| format!("{low:.3} to {high:.3}"))),
            text(trained_parameters.map(|count| count.to_string())),
            text(adapter_bytes.map(bytes)),
            text(arena_bytes.map(bytes)),
            text(seconds.map(|seconds| format!("{seconds:.1}"))),
            text(overhead.map(|overhead| format!("{:+.1} %", 100.0 * overhead))),
            text(error.map(|error| format!("{error:.3}"))),
            text(self.refused.clone()),
        ]
    }
}

impl Figures {
    fn new(arm: &Arm<'_>) -> Self {
        let runs = arm.accuracies.len().max(1) as f64;
        Self {
            accuracy: arm.tally.accuracy(),
            interval: arm.tally.interval().map(|interval| [interval.low, interval.high]),
            n: arm.tally.clips(),
            by_run: arm.accuracies.clone(),
            trained_parameters: Some(arm.parameters),
            adapter_bytes: Some(arm.adapter_bytes),
            arena_bytes: Some(arm.arena_bytes),
            seconds: Some(arm.seconds / runs),
            error: Some(arm.error),
            infer_us: arm.latency.map(|latency| latency.adapter_us),
            overhead: arm.latency.map(|latency| latency.overhead()),
            losses: mean_by_epoch(&arm.losses),
            confusion: arm.confusion.rows(),
        }
    }
}

/// The mean of every epoch over the runs that came so far.
fn mean_by_epoch(runs: &[Vec<f32>]) -> Vec<f64> {
    let epochs = runs.iter().map(Vec::len).max().unwrap_or(0);
    let mean = |epoch: usize| {
        let losses: Vec<f64> =
            runs.iter().filter_map(|run| run.get(epoch)).map(|&loss| loss.into()).collect();
        losses.iter().sum::<f64>() / losses.len().max(1) as f64
    };
    (0..epochs).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_averaged_over_the_runs_that_had_them() {
        assert_eq!(mean_by_epoch(&[vec![3.0, 2.0], vec![1.0]]), [2.0, 2.0]);
        assert!(mean_by_epoch(&[]).is_empty());
    }
}
