//! PaCA: partial connection adaptation (Woo et al., 2025).

use alloc::boxed::Box;

use ingraft_train::{Method, Setting};

use crate::row::{ALPHA, Definition, Family, Make, MethodRow, OVERLAY, RANK, Settings};
use crate::select::Pattern;
use crate::sparse::{Budget, Sparse};
use crate::{MethodError, Score};

/// `paca` as the list has it: trains r whole columns of the weight, drawn once.
///
/// The published parameter is `P = W_S/s`, s = α/r, of which s·P takes the columns' place; the delta that is trained
/// here moves as it would have ([`ingraft_train::Optimizer`]). A column is an element of a row, kernel positions of a convolution
/// included. Starts as the base. Parameters: `out·r`.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "paca",
    family: Family::Selective,
    settings: &[RANK, ALPHA],
    deploy: OVERLAY,
    source: "PaCA: Partial Connection Adaptation for Efficient Fine-Tuning (2025)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Measured { score: |_| Ok(Score::Random), make },
};

fn make(settings: &Settings<'_>) -> Result<Box<dyn Method>, MethodError> {
    let (rank, alpha) = (settings.rank()?, settings.positive("alpha")?);
    let columns = Sparse::new("paca", Score::Random, Pattern::Columns, Budget::Count(rank as usize));
    let sparse = Sparse { scale: (alpha / f64::from(rank)) as f32, ..columns };
    sparse.with("rank", Setting::Count(rank)).with("alpha", Setting::Real(alpha)).boxed(settings)
}
