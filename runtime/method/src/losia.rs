//! LoSiA: subnet localization (Wang et al., 2025).

use alloc::boxed::Box;

use ingraft_train::{Method, Setting};

use crate::row::{Definition, Family, Make, MethodRow, OVERLAY, SHARE, SettingRow, Settings};
use crate::select::Pattern;
use crate::sparse::{Budget, Sparse};
use crate::{MethodError, Score};

/// `losia` as the list has it: trains the crossing of a share of a matrix's rows and of its columns.
///
/// Weights are scored by what |w·g − ½(w·g)²| is on average over batches, times how much it varies; of three greedy crossings
/// the one of the largest sum is taken. It is localized once, before training; the published method does so again every
/// some steps and starts from random rows and columns. Starts as the base. Parameters: `⌊p·out⌋·⌊p·row⌋`.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "losia",
    family: Family::Selective,
    settings: &[
        SettingRow { name: "fraction", default: "0.125", expected: SHARE },
        SettingRow { name: "beta", default: "0.85", expected: "a number from 0 to below 1" },
    ],
    deploy: OVERLAY,
    source: "LoSiA: Efficient High-Rank Fine-Tuning via Subnet Localization and Optimization (2025)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Measured { score, make },
};

fn beta(settings: &Settings<'_>) -> Result<f64, MethodError> {
    settings.number("beta", |beta: &f64| (0.0..1.0).contains(beta))
}

fn score(settings: &Settings<'_>) -> Result<Score, MethodError> {
    beta(settings).map(Score::Importance)
}

fn make(settings: &Settings<'_>) -> Result<Box<dyn Method>, MethodError> {
    let (fraction, beta) = (settings.share("fraction")?, beta(settings)?);
    let sparse = Sparse::new("losia", Score::Importance(beta), Pattern::Block(fraction), Budget::Share(1.0));
    sparse.with("fraction", Setting::Real(fraction)).with("beta", Setting::Real(beta)).boxed(settings)
}
