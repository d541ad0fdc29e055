//! What training costs of what was known before.

use std::path::PathBuf;

use ingraft_dataset::Dataset;
use ingraft_dataset::stats::{Confusion, mean};
use ingraft_kernel::Host;
use ingraft_plan::PlanView;
use serde::Serialize;

use super::deployed;
use crate::classes::ClassMap;
use crate::command::eval::Naming;
use crate::input::Reader;
use crate::plan_file::ArtifactFile;
use crate::report::Table;
use crate::{CliError, Console};

/// What was known before.
#[derive(Debug, clap::Args)]
pub(super) struct OldArgs {
    /// Clips of classes that were known before, none of them learned from: how often they are right is told before and
    /// after.
    #[arg(long, value_name = "DIR")]
    old: Option<PathBuf>,
    /// The adapter that knew them; without, it was the base.
    #[arg(long, value_name = "A.adapter", requires = "old")]
    old_adapter: Option<PathBuf>,
}

/// Clips of classes that were known before, and how often they were right.
pub(super) struct Known {
    dataset: Dataset,
    before: Confusion,
}

/// What became of them: a part of `train --json`.
#[derive(Debug, Serialize)]
pub(super) struct Forgetting {
    /// Mean over the old classes of the share of their clips that were right before.
    before: f64,
    /// The same after. A class that the adapter's head does not have is right for none.
    after: f64,
    /// What was lost: `before` less `after`, below 0 where old classes gained.
    forgotten: f64,
    /// Number of old clips.
    n: u64,
    /// Every old class with clips.
    per_class: Vec<ClassForgetting>,
}

/// One old class.
#[derive(Debug, Serialize)]
struct ClassForgetting {
    /// Its name.
    class: String,
    /// Its clips.
    n: u64,
    /// Share of them that were right before.
    before: f64,
    /// The same after.
    after: f64,
}

impl OldArgs {
    /// Judges the old clips as they are before training; `None` where there are none to judge.
    ///
    /// # Errors
    /// [`CliError::UnknownClass`] for a class that was not known, [`CliError::Dataset`] for clips without one label each, and
    /// those of reading them.
    pub(super) fn judge(
        &self,
        (plan, target): (PlanView<'_>, &Host),
        reader: &Reader<'_>,
        console: &Console<'_>,
    ) -> Result<Option<Known>, CliError> {
        let Some(path) = &self.old else { return Ok(None) };
        let dataset = Dataset::open(path)?;
        dataset.labels()?;
        let adapter = self.old_adapter.as_deref().map(ArtifactFile::read).transpose()?;
        let before = judged((plan, target), adapter.as_ref(), reader, &dataset, ClassMap::new, console)?;
        Ok(Some(Known { dataset, before }))
    }
}

impl Known {
    /// Judges the old clips under the trained adapter in `file`.
    pub(super) fn after(
        &self,
        (plan, target): (PlanView<'_>, &Host),
        file: &ArtifactFile,
        reader: &Reader<'_>,
        console: &Console<'_>,
    ) -> Result<Forgetting, CliError> {
        let after = judged((plan, target), Some(file), reader, &self.dataset, ClassMap::partial, console)?;
        Ok(Forgetting::new(self.dataset.classes(), &self.before, &after))
    }
}

/// What the clips of `dataset` are taken for.
fn judged(
    model: (PlanView<'_>, &Host),
    adapter: Option<&ArtifactFile>,
    reader: &Reader<'_>,
    dataset: &Dataset,
    naming: Naming,
    console: &Console<'_>,
) -> Result<Confusion, CliError> {
    let items: Vec<usize> = (0..dataset.items().len()).collect();
    Ok(deployed(model, adapter, reader, ((dataset, &items), naming), console)?.confusion)
}

impl Forgetting {
    fn new(classes: &[String], before: &Confusion, after: &Confusion) -> Self {
        let shares = before.per_class().into_iter().zip(after.per_class()).zip(before.rows());
        let per_class: Vec<ClassForgetting> = classes
            .iter()
            .zip(shares)
            .filter_map(|(class, ((before, after), row))| {
                let (before, after) = (before?, after?);
                Some(ClassForgetting { class: class.clone(), n: row.iter().sum(), before, after })
            })
            .collect();
        let over = |share: fn(&ClassForgetting) -> f64| {
            mean(&per_class.iter().map(share).collect::<Vec<_>>()).unwrap_or(0.0)
        };
        let (was, is) = (over(|class| class.before), over(|class| class.after));
        Self { before: was, after: is, forgotten: was - is, n: before.total(), per_class }
    }

    /// The classes one by one.
    pub(super) fn table(&self) -> Table {
        let mut table = Table::new(["old class", "clips", "before", "after"]);
        for ClassForgetting { class, n, before, after } in &self.per_class {
            table.row([class.clone(), n.to_string(), format!("{before:.4}"), format!("{after:.4}")]);
        }
        table
    }

    /// All of them in a sentence.
    pub(super) fn summary(&self) -> String {
        let Self { before, after, forgotten, n, per_class } = self;
        let classes = per_class.len();
        format!(
            "{before:.4} before, {after:.4} after, {forgotten:+.4} forgotten; mean of {classes}, {n} clips"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_is_the_mean_over_classes_with_clips() {
        let names = ["a", "b", "none"].map(str::to_owned);
        let (mut before, mut after) = (Confusion::new(3), Confusion::new(3));
        // Eight clips of a, all right before, six after; two of b, one right before, none after.
        (0..8).for_each(|_| before.add(0, 0));
        (0..8).for_each(|clip| after.add(0, if clip < 6 { 0 } else { usize::MAX }));
        [1, 0].into_iter().for_each(|taken| before.add(1, taken));
        [0, 0].into_iter().for_each(|taken| after.add(1, taken));
        let found = Forgetting::new(&names, &before, &after);
        assert_eq!((found.before, found.after, found.forgotten, found.n), (0.75, 0.375, 0.375, 10));
        let classes: Vec<_> =
            found.per_class.iter().map(|c| (c.class.as_str(), c.n, c.before, c.after)).collect();
        assert_eq!(classes, [("a", 8, 1.0, 0.75), ("b", 2, 0.5, 0.0)]);
        assert!(
            found.summary().contains("+0.3750 forgotten") && found.table().to_string().lines().count() == 3
        );
    }
}
