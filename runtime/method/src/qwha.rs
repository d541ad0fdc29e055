//! QWHA: quantization-aware Walsh-Hadamard adaptation (Jeon et al., 2025).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::mask::draw;
use crate::row::{Definition, FUSED, Family, Make, MethodRow, RANK, Settings, boxed, positive};

/// Trains a few coefficients of every row's Walsh-Hadamard spectrum: `W' = W + λ/(√out·n)·F·H`, H of size n.
///
/// n is the row, or the next power of two, where the product is cut: the published sizes of other Hadamard matrices are padded
/// here. F is `[out, n]`, zero but at `r·(out + row)` places drawn once. The published start solves for the error of the base's
/// quantization, which needs the weights before it; a plan keeps the quantized ones alone, so coefficients start
/// as zero, the base. Tensors: `qwha_values` `[P]`; constant `indices`, places in F. Parameters: `P = min(r·(out + row), out·n)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Qwha {
    rank: u32,
    scale: f64,
}

impl Qwha {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self { rank: settings.rank()?, scale: settings.positive("scale")? })
    }
}

impl Expression for Qwha {
    fn name(&self) -> &'static str {
        "qwha"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
        visit("scale", Setting::Real(self.scale));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row) = (tape.site().out, tape.site().row());
        let size = row.next_power_of_two();
        let total = out.saturating_mul(size);
        let count = (self.rank as usize).saturating_mul(out + row).min(total);
        let places = tape.constant("indices", 1, count, |values, rng| draw(total, rng, values));
        let values = tape.parameter("qwha_values", 1, count, Start::ZERO);
        let spectrum = values.scatter(places, out, size).walsh_hadamard().crop(out, row);
        Ok(Form::delta(spectrum * (self.scale / (libm::sqrt(out.max(1) as f64) * size as f64))))
    }
}

/// `qwha` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "qwha",
    family: Family::Reparameterized,
    settings: &[RANK, positive("scale", "0.25")],
    deploy: FUSED,
    source: "QWHA: Quantization-Aware Walsh-Hadamard Adaptation for Parameter-Efficient Fine-Tuning on Large Language Models (2025)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Qwha::new(s))),
};
