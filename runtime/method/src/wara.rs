//! WaRA: wavelet low-rank adaptation (2025), of the weight.

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::row::{ALPHA, Definition, FUSED, Family, Make, MethodRow, RANK, Settings, boxed};

/// Trains a low-rank matrix in every sub-band of the delta's wavelet coefficients: `W' = W + s·IDWT(C)`, `C_b = B_b·A_b`, s = α/r.
///
/// One level of the Haar transform, over outputs and row; an odd side is one longer in C, and cut. Of the paper's wordings this
/// is the abstract's; factors per sub-band, scale and start are our reading. Tensors: `wara_A_ll` `[r, ⌈row/2⌉]`, `wara_B_ll` `[⌈out/2⌉, r]`
/// and likewise for `lh` (top right), `hl` (bottom left) and `hh`. Starts as the base.
/// Parameters: `4·r·(⌈out/2⌉ + ⌈row/2⌉)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Wara {
    rank: u32,
    alpha: f64,
}

impl Wara {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self { rank: settings.rank()?, alpha: settings.positive("alpha")? })
    }
}

impl Expression for Wara {
    fn name(&self) -> &'static str {
        "wara"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
        visit("alpha", Setting::Real(self.alpha));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row, rank) = (tape.site().out, tape.site().row(), self.rank as usize);
        let (high, wide) = (out.div_ceil(2), row.div_ceil(2));
        let band = |a, b| {
            let a = tape.parameter(a, rank, wide, Start::kaiming(wide));
            tape.parameter(b, high, rank, Start::ZERO).matmul(a)
        };
        let top = band("wara_A_ll", "wara_B_ll").beside(band("wara_A_lh", "wara_B_lh"));
        let bottom = band("wara_A_hl", "wara_B_hl").beside(band("wara_A_hh", "wara_B_hh"));
        let delta = top.above(bottom).inverse_haar().crop(out, row);
        Ok(Form::delta(delta * (self.alpha / f64::from(self.rank))))
    }
}

/// `wara` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "wara",
    family: Family::Reparameterized,
    settings: &[RANK, ALPHA],
    deploy: FUSED,
    source: "WaRA: Wavelet Low Rank Adaptation (2025)",
    definition: Definition::Inferred,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Wara::new(s))),
};
