//! SuperTuning: the weights of largest magnitude (HF PEFT 0.21).

use alloc::boxed::Box;

use ingraft_train::{Method, Setting};

use crate::row::{ALPHA, Definition, Family, Make, MethodRow, SettingRow, Settings};
use crate::select::Pattern;
use crate::sparse::{Budget, LowRank, Sparse};
use crate::{Lora, MethodError, Score};

/// `supertuning` as the list has it: trains the weights of largest (`select_top`) or smallest magnitude, those that
/// `sparsity` leaves, and beside them two factors where `rank` is not 0.
///
/// Starts as the base. Parameters: `⌊out·row·(1 − sparsity)⌋ + r·(out + row)`, at least one weight.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "supertuning",
    family: Family::Selective,
    settings: &[
        SettingRow { name: "sparsity", default: "0.99", expected: "a number from 0 to below 1" },
        SettingRow { name: "select_top", default: "true", expected: "true or false" },
        SettingRow { name: "rank", default: "0", expected: "a whole number in 0..=256" },
        ALPHA,
    ],
    deploy: "sparse overlay, int8 steps on int8 sites; two-factor where rank is not 0",
    source: "SuperTuning of HF PEFT 0.21",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Measured { score, make },
};

fn score(settings: &Settings<'_>) -> Result<Score, MethodError> {
    let top = settings.number("select_top", |_: &bool| true)?;
    Ok(if top { Score::Magnitude } else { Score::Smallness })
}

fn make(settings: &Settings<'_>) -> Result<Box<dyn Method>, MethodError> {
    let sparsity = settings.number("sparsity", |sparsity: &f64| (0.0..1.0).contains(sparsity))?;
    let (score, alpha) = (score(settings)?, settings.positive("alpha")?);
    let rank: u32 = settings.number("rank", |rank| (0..=256).contains(rank))?;
    let lora = Lora { rank, alpha: alpha as f32, ..Lora::default() };
    let low_rank = if rank == 0 { LowRank::No } else { LowRank::Beside(lora) };
    let entries = Sparse::new("supertuning", score, Pattern::Entries, Budget::Share(1.0 - sparsity));
    let sparse = Sparse { low_rank, ..entries }.with("sparsity", Setting::Real(sparsity));
    let sparse = sparse.with("select_top", Setting::Flag(score == Score::Magnitude));
    sparse.with("rank", Setting::Count(rank)).with("alpha", Setting::Real(alpha)).boxed(settings)
}
