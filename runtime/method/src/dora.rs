//! DoRA: weight-decomposed low-rank adaptation (Liu et al., 2024).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::row::{ALPHA, DIRECTED, Definition, Family, Make, MethodRow, RANK, Settings, boxed};

/// Trains the direction of every output row as LoRA does, and its length by itself:
/// `W' = m ⊙ V/‖V‖`, `V = W + s·B·A`, lengths over rows.
///
/// The length ‖V‖ counts as a constant on the way back, as the paper advises and HF PEFT
/// does, so that W' is a low-rank pair under a scale of every row, m/‖V‖, which is computed once a step: no matrix of
/// the weight's size is formed or differentiated. m starts as the lengths of W, B as zero: the adapter starts as the base.
/// The bias is not scaled. Parameters: `r·(out + row) + out`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Dora {
    rank: u32,
    alpha: f64,
}

impl Dora {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self { rank: settings.rank()?, alpha: settings.positive("alpha")? })
    }
}

impl Expression for Dora {
    fn name(&self) -> &'static str {
        "dora"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
        visit("alpha", Setting::Real(self.alpha));
    }

    fn detached(&self) -> &'static [&'static str] {
        &["lengths of the rows of V"]
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row, rank) = (tape.site().out, tape.site().row(), self.rank as usize);
        let a = tape.parameter("lora_A", rank, row, Start::kaiming(row));
        let b = tape.parameter("lora_B", out, rank, Start::ZERO);
        let up = b * (self.alpha / f64::from(self.rank));
        let lengths = tape.moved_row_norms(up, a).detach();
        // B is zero at the start: these are the lengths of W.
        let m = tape.steady_parameter("lora_magnitude_vector", out, 1, Start::Value(lengths));
        Ok(Form::directed(up, a, m.times(lengths.reciprocal())))
    }
}

/// `dora` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "dora",
    family: Family::Reparameterized,
    settings: &[RANK, ALPHA],
    deploy: DIRECTED,
    source: "DoRA: Weight-Decomposed Low-Rank Adaptation (2024)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Dora::new(s))),
};
