//! LoKI: low-damage knowledge implanting (Wang et al., 2025).

use alloc::boxed::Box;

use ingraft_train::{Method, Setting};

use crate::row::{Definition, Family, Make, MethodRow, SettingRow, Settings};
use crate::select::Pattern;
use crate::sparse::{Budget, Sparse};
use crate::{MethodError, Score};

/// `loki` as the list has it: trains those whole rows of a weight, and their biases, that matter least to what the model answers.
///
/// Outputs of a layer are scored by integrated gradients of the model's own answer, in every training clip; the `quota` in percent of
/// them that are least in a clip, signed, are that clip's choice, and those chosen most often are trained, as many in every
/// layer. Published for the second layer of feed-forward blocks; here for the sites it is given. Starts as the base.
/// Parameters, k = ⌊q·out/100⌋, at least one: `k·row` weights, and `out` shifts of which k ever move.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "loki",
    family: Family::Selective,
    settings: &[SettingRow { name: "quota", default: "10", expected: "a percentage above 0, at most 100" }],
    deploy: "sparse overlay, int8 steps on int8 sites; shift per output channel",
    source: "LoKI: Low-damage Knowledge Implanting of Large Language Models (2025)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Measured { score, make },
};

fn quota(settings: &Settings<'_>) -> Result<f64, MethodError> {
    settings.number("quota", |quota: &f64| *quota > 0.0 && *quota <= 100.0)
}

fn score(settings: &Settings<'_>) -> Result<Score, MethodError> {
    quota(settings).map(Score::Attribution)
}

fn make(settings: &Settings<'_>) -> Result<Box<dyn Method>, MethodError> {
    let quota = quota(settings)?;
    let rows = Sparse::new("loki", Score::Attribution(quota), Pattern::Rows, Budget::Percent(quota));
    Sparse { biases: true, ..rows }.with("quota", Setting::Real(quota)).boxed(settings)
}
