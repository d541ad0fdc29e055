//! RoSA: robust adaptation (Nikdan et al., 2024).

use alloc::boxed::Box;

use ingraft_train::{Method, Setting};

use crate::row::{ALPHA, Definition, Family, Make, MethodRow, RANK, SHARE, SettingRow, Settings};
use crate::select::Pattern;
use crate::sparse::{Budget, LowRank, Sparse};
use crate::{Lora, MethodError, Score};

/// `rosa` as the list has it: trains two factors and a sparse delta together: `W' = W + s·B·A + S`, s = α/r.
///
/// S is not scaled. Its places are those of the largest mean of squared batch gradients (`grad2`, what the published code calls
/// Fisher's diagonal) or of the mean gradient (`grad`). The published schedule trains the factors for some steps before it
/// looks at gradients. Starts as the base. Parameters: `r·(out + row) + ⌊d·out·row⌋`, at least one weight.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "rosa",
    family: Family::Reparameterized,
    settings: &[
        RANK,
        ALPHA,
        SettingRow { name: "density", default: "0.003", expected: SHARE },
        SettingRow { name: "score", default: "grad2", expected: "grad2 or grad" },
    ],
    deploy: "two-factor and sparse overlay, integers on int8 sites",
    source: "RoSA: Accurate Parameter-Efficient Fine-Tuning via Robust Adaptation (2024)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Measured { score, make },
};

fn score(settings: &Settings<'_>) -> Result<Score, MethodError> {
    settings.one_of("score", &[("grad2", Score::Fisher), ("grad", Score::Gradient)])
}

fn make(settings: &Settings<'_>) -> Result<Box<dyn Method>, MethodError> {
    let (rank, alpha, density) = (settings.rank()?, settings.positive("alpha")?, settings.share("density")?);
    let score = score(settings)?;
    let low_rank = LowRank::Beside(Lora { rank, alpha: alpha as f32, ..Lora::default() });
    let entries = Sparse::new("rosa", score, Pattern::Entries, Budget::Share(density));
    let sparse = Sparse { low_rank, ..entries }.with("rank", Setting::Count(rank));
    let sparse = sparse.with("alpha", Setting::Real(alpha)).with("density", Setting::Real(density));
    let named = if score == Score::Fisher { "grad2" } else { "grad" };
    sparse.with("score", Setting::Name(named)).boxed(settings)
}
