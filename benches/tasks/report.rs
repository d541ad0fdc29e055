//! The figures of one experiment as a row of a Markdown table.

use ingraft_dataset::stats;

/// The outcomes of all runs of an experiment.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    clips: stats::Tally,
    float: (u32, u32),
    seconds: f64,
    runs: u32,
}

/// What does not change from run to run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// The task and how it was split.
    pub(crate) task: String,
    /// The method with its settings.
    pub(crate) method: String,
    /// Which sites were trained, and what the head read.
    pub(crate) sites: String,
    /// Number of trained values, head included.
    pub(crate) parameters: usize,
    /// Bytes of the adapter file.
    pub(crate) adapter: usize,
    /// Bytes of the trainer's memory.
    pub(crate) arena: usize,
    /// Of those, weights as the target packs them.
    pub(crate) packed: usize,
}

impl Tally {
    /// Counts one run: for each judged clip whether the written adapter gets it right, and the trainer's own parameters.
    pub(crate) fn add(&mut self, judged: &[usize], hits: &[bool], float_hits: &[bool], seconds: f64) {
        judged.iter().zip(hits).for_each(|(clip, hit)| self.clips.add(*clip, *hit));
        self.float.0 += float_hits.len() as u32;
        self.float.1 += float_hits.iter().filter(|hit| **hit).count() as u32;
        self.seconds += seconds;
        self.runs += 1;
    }

    /// The mean accuracy over runs and clips.
    pub(crate) fn accuracy(&self) -> f64 {
        self.clips.accuracy().unwrap_or(0.0)
    }

    /// The row; the interval is over clips, each standing for the share of runs that got it right.
    pub(crate) fn row(&self, facts: &Facts) -> String {
        let interval =
            self.clips.interval().map_or(String::new(), |i| format!("{:.3} to {:.3}", i.low, i.high));
        let float = match self.float.0 {
            0 => "–".to_owned(),
            seen => format!("{:.3}", f64::from(self.float.1) / f64::from(seen)),
        };
        let count = |n: usize| if n == 0 { "–".to_owned() } else { n.to_string() };
        format!(
            "| {} | {} | {} | {:.3} | {interval} | {float} | {} | {} | {:.1} | {} | {} | {} | {} |",
            facts.task,
            facts.method,
            facts.sites,
            self.accuracy(),
            self.clips.clips(),
            self.runs,
            self.seconds / f64::from(self.runs.max(1)),
            count(facts.parameters),
            count(facts.adapter),
            count(facts.arena),
            count(facts.packed),
        )
    }
}

/// The head of the table.
pub(crate) const HEADER: &str = "\
| task | method | sites | accuracy | 95 % over clips | trainer's own | clips | runs | s per run | parameters | adapter bytes | arena bytes | of these packed weights |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |";
