//! S²FT: structured sparse fine-tuning (Yang et al., 2024).

use alloc::boxed::Box;

use ingraft_train::{Method, Setting};

use crate::row::{Definition, Family, Make, MethodRow, OVERLAY, SHARE, SettingRow, Settings};
use crate::select::Pattern;
use crate::sparse::{Budget, Sparse};
use crate::{MethodError, Score};

/// `s2ft` as the list has it: trains whole rows (`up`) or whole columns (`down`) of a layer, drawn once.
///
/// The published form renumbers the channels between two layers so that what is trained lies together, which changes no
/// value; an overlay names its places, so nothing is renumbered, and a site needs no partner. Starts as the base.
/// Parameters: `⌊p·out⌋·row` or `out·⌊p·row⌋`, at least one row or column.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "s2ft",
    family: Family::Selective,
    settings: &[
        SettingRow { name: "kind", default: "down", expected: "up or down" },
        SettingRow { name: "ratio", default: "0.05", expected: SHARE },
    ],
    deploy: OVERLAY,
    source: "S²FT: Efficient, Scalable and Generalizable LLM Fine-tuning by Structured Sparsity (2024)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Measured { score: |_| Ok(Score::Random), make },
};

fn make(settings: &Settings<'_>) -> Result<Box<dyn Method>, MethodError> {
    let kinds = [("up", ("up", Pattern::Rows)), ("down", ("down", Pattern::Columns))];
    let ((kind, pattern), ratio) = (settings.one_of("kind", &kinds)?, settings.share("ratio")?);
    let sparse = Sparse::new("s2ft", Score::Random, pattern, Budget::Share(ratio));
    sparse.with("kind", Setting::Name(kind)).with("ratio", Setting::Real(ratio)).boxed(settings)
}
