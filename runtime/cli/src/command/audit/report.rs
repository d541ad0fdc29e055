//! The report on an audit.

use core::fmt;

use ingraft_dataset::stats::Separation;
use serde::Serialize;

use crate::audit::membership::Membership;
use crate::audit::text::TokenSpan;
use crate::command::train::private::PrivacyReport;
use crate::report::Table;

/// What `audit --json` prints.
#[derive(Debug, Serialize)]
pub(super) struct AuditReport {
    /// What a private adapter of half of the records promises.
    pub(super) privacy: PrivacyReport,
    /// Made-up records.
    pub(super) records: usize,
    /// Adapters with privacy, and as many without.
    pub(super) runs: u32,
    /// Pairs of a record and a private adapter.
    pub(super) trials: usize,
    /// Membership by private adapters.
    pub(super) membership: MembershipReport,
    /// Membership by adapters trained without.
    pub(super) membership_plain: MembershipReport,
    /// Features from a head.
    pub(super) inversion: InversionReport,
    /// Tokens from a LoRA; null without --text.
    pub(super) token_span: Option<TokenSpan>,
    /// What privacy costs here.
    pub(super) utility: UtilityReport,
    /// Whether attacks work on raw gradients, fail on private adapters, and these keep half of their gain.
    pub(super) holds: bool,
}

/// Two attacks, and the worse for the adapter.
#[derive(Debug, Serialize)]
pub(super) struct MembershipReport {
    /// By the record's loss.
    loss: AttackReport,
    /// By the likelihood ratio of its margin, with all other adapters as reference.
    likelihood: AttackReport,
    /// The larger upper bound.
    upper_bound: f64,
}

/// How well one attack tells members.
#[derive(Debug, Serialize)]
struct AttackReport {
    /// Area under its ROC.
    auc: f64,
    /// What max(AUC, 1 − AUC) is at most, with 95 % confidence.
    upper_bound: f64,
    /// True positives at 1 % false positives.
    true_positive_rate: f64,
}

/// How often features were found (cosine of 0.99 or more).
#[derive(Debug, Serialize)]
pub(super) struct InversionReport {
    /// Records tried.
    pub(super) examples: usize,
    /// Features of each.
    pub(super) features: usize,
    /// Share found from the raw gradient of one.
    pub(super) raw: f64,
    /// Share found from what a private step releases of one.
    pub(super) private: f64,
    /// Share of its records found in a private adapter.
    pub(super) adapter: f64,
}

/// Accuracy on records that were not learned from.
#[derive(Debug, Serialize)]
pub(super) struct UtilityReport {
    /// That of guessing.
    pub(super) chance: f64,
    /// That of private adapters.
    pub(super) private: f64,
    /// That of others.
    pub(super) plain: f64,
    /// Share of the gain over chance that private ones keep.
    pub(super) kept: f64,
}

impl MembershipReport {
    pub(super) fn new(told: &Membership) -> Self {
        let attack = |found: &Separation| AttackReport {
            auc: found.auc,
            upper_bound: found.upper_bound(),
            true_positive_rate: found.true_positive_rate,
        };
        Self {
            loss: attack(&told.loss),
            likelihood: attack(&told.likelihood),
            upper_bound: told.upper_bound(),
        }
    }
}

impl fmt::Display for AuditReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["attack", "against", "result", "at most (95 %)", "TPR at 1 % FPR"]);
        let row = |table: &mut Table, cells: [&str; 5]| table.row(cells.map(str::to_owned));
        let share = |found: f64| format!("{:.1} % found", 100.0 * found);
        if let Some(span) = &self.token_span {
            row(&mut table, ["token span", "raw gradient of one", &share(span.raw), "", ""]);
            row(&mut table, ["token span", "private step on one", &share(span.private), "", ""]);
        }
        let inversion = &self.inversion;
        row(&mut table, ["inversion", "raw gradient of one", &share(inversion.raw), "", ""]);
        row(&mut table, ["inversion", "private step on one", &share(inversion.private), "", ""]);
        row(&mut table, ["inversion", "private adapter", &share(inversion.adapter), "", ""]);
        for (against, membership) in
            [("plain adapter", &self.membership_plain), ("private adapter", &self.membership)]
        {
            for (name, attack) in
                [("membership, loss", &membership.loss), ("membership, likelihood", &membership.likelihood)]
            {
                let cells = [
                    name,
                    against,
                    &format!("AUC {:.4}", attack.auc),
                    &format!("{:.4}", attack.upper_bound),
                    &format!("{:.4}", attack.true_positive_rate),
                ];
                row(&mut table, cells);
            }
        }
        let utility = &self.utility;
        writeln!(f, "{table}\n\n{} trials; {}", self.trials, self.privacy.summary())?;
        writeln!(
            f,
            "accuracy {:.4} private, {:.4} plain, {:.4} by chance: {:.1} % of the gain kept",
            utility.private,
            utility.plain,
            utility.chance,
            100.0 * utility.kept
        )?;
        let holds = if self.holds { "holds" } else { "does not hold" };
        write!(
            f,
            "attacks find over 90 % in raw gradients, private adapters at most 0.55, half of the gain kept: {holds}"
        )
    }
}
