//! SMT: sparse matrix tuning (He et al., 2024).

use alloc::boxed::Box;

use ingraft_train::{Method, Setting};

use crate::row::{Definition, Family, Make, MethodRow, OVERLAY, SCOPE, SettingRow, Settings};
use crate::select::{Pattern, Pool};
use crate::sparse::{Budget, Sparse};
use crate::{MethodError, Score};

/// `smt` as the list has it: trains square tiles of the weight, those where the summed gradient is largest.
///
/// `mean_abs` is |mean| of a tile's summed gradient and `abs_mean` the mean of its sizes, as published. So many tiles of each
/// matrix, or of all together. The published warm-up trains every weight before tiles are chosen and leaves the base moved; here
/// gradients are summed without a step. `tile` must divide both sides; published tiles have 256. Starts as the base.
/// Parameters: `n·l²`.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "smt",
    family: Family::Selective,
    settings: &[
        SettingRow { name: "tile", default: "8", expected: "a whole number in 1..=256" },
        SettingRow { name: "tiles", default: "1", expected: "a positive whole number" },
        SettingRow { name: "score", default: "mean_abs", expected: "mean_abs, abs_mean, l1 or l2" },
        SCOPE,
    ],
    deploy: OVERLAY,
    source: "Sparse Matrix in Large Language Model Fine-tuning (2024)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Measured { score: |_| Ok(Score::Sum), make },
};

fn make(settings: &Settings<'_>) -> Result<Box<dyn Method>, MethodError> {
    let side: u32 = settings.number("tile", |tile| (1..=256).contains(tile))?;
    let tiles: u32 = settings.number("tiles", |tiles| *tiles > 0)?;
    let pool = settings.value("score", |text| Pool::ALL.into_iter().find(|pool| pool.name() == text))?;
    let (network, scope) = settings.scope()?;
    let pattern = Pattern::Tiles(side as usize, pool);
    let sparse = Sparse { network, ..Sparse::new("smt", Score::Sum, pattern, Budget::Count(tiles as usize)) };
    let sparse = sparse.with("tile", Setting::Count(side)).with("tiles", Setting::Count(tiles));
    sparse.with("score", Setting::Name(pool.name())).with("scope", Setting::Name(scope)).boxed(settings)
}
