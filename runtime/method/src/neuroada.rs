//! NeuroAda: a few weights of every neuron (Zhang et al., 2025).

use alloc::boxed::Box;

use ingraft_train::{Method, Setting};

use crate::row::{Definition, Family, Make, MethodRow, OVERLAY, SettingRow, Settings};
use crate::select::Pattern;
use crate::sparse::{Budget, Sparse};
use crate::{MethodError, Score};

/// `neuroada` as the list has it: trains the k largest weights of every output row.
///
/// With `shared` all rows train the k columns that most rows would have chosen. Starts as the base. Parameters: `k·out`,
/// k at most the row.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "neuroada",
    family: Family::Selective,
    settings: &[
        SettingRow { name: "k", default: "1", expected: "a positive whole number" },
        SettingRow { name: "shared", default: "false", expected: "true or false" },
    ],
    deploy: OVERLAY,
    source: "NeuroAda: Activating Each Neuron's Potential for Parameter-Efficient Fine-Tuning (2025)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Measured { score: |_| Ok(Score::Magnitude), make },
};

fn make(settings: &Settings<'_>) -> Result<Box<dyn Method>, MethodError> {
    let (k, shared): (u32, bool) = (settings.number("k", |k| *k > 0)?, settings.number("shared", |_| true)?);
    let pattern = if shared { Pattern::SharedColumns } else { Pattern::PerRow };
    let sparse = Sparse::new("neuroada", Score::Magnitude, pattern, Budget::Count(k as usize));
    sparse.with("k", Setting::Count(k)).with("shared", Setting::Flag(shared)).boxed(settings)
}
