//! SPT: sensitivity-aware fine-tuning (He et al., 2023).

use alloc::boxed::Box;

use ingraft_train::{Method, Setting};

use crate::row::{Definition, Family, Make, MethodRow, RANK, SettingRow, Settings};
use crate::select::Pattern;
use crate::sparse::{Budget, LowRank, Sparse};
use crate::{Lora, MethodError, Score};

/// `spt` as the list has it: spends one budget over all weights by their squared gradients; a matrix with enough of them gets two
/// factors, the others train their own.
///
/// Enough is r·(out + row)/α. A matrix with none stays as it is. Starts as the base. Parameters: `r·(out + row)`
/// at matrices with factors, the chosen weights elsewhere; the budget is what was chosen before that.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "spt",
    family: Family::Selective,
    settings: &[
        SettingRow { name: "budget", default: "0.02", expected: "a share at most 1, or a number of weights" },
        SettingRow { name: "alpha", default: "5", expected: "a positive number" },
        RANK,
        SettingRow { name: "lora_alpha", default: "8", expected: "a positive number" },
    ],
    deploy: "sparse overlay or two-factor, integers on int8 sites",
    source: "Sensitivity-Aware Visual Parameter-Efficient Fine-Tuning (2023)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Measured { score: |_| Ok(Score::Fisher), make },
};

fn make(settings: &Settings<'_>) -> Result<Box<dyn Method>, MethodError> {
    let (budget, threshold) = (settings.positive("budget")?, settings.positive("alpha")?);
    let (rank, alpha) = (settings.rank()?, settings.positive("lora_alpha")?);
    let low_rank = LowRank::Instead(Lora { rank, alpha: alpha as f32, ..Lora::default() }, threshold);
    let entries = Sparse::new("spt", Score::Fisher, Pattern::Entries, Budget::of(budget));
    let sparse = Sparse { low_rank, network: true, ..entries }.with("budget", Setting::Real(budget));
    let sparse = sparse.with("alpha", Setting::Real(threshold)).with("rank", Setting::Count(rank));
    sparse.with("lora_alpha", Setting::Real(alpha)).boxed(settings)
}
