//! DoRA: weight-decomposed low-rank adaptation (Liu et al., 2024).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::row::{ALPHA, Definition, FUSED, Family, Make, MethodRow, RANK, Settings, boxed};

/// Trains the direction of every output row as LoRA does, and its length by itself:
/// `W' = m ⊙ V/‖V‖`, `V = W + s·B·A`, lengths over rows.
///
/// The length ‖V‖ counts as a constant on the way back, as the paper advises and HF PEFT
/// does. m starts as the lengths of W, B as zero: the adapter starts as the base.
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
        let (w, rank) = (tape.weight(), self.rank as usize);
        let a = tape.parameter("lora_A", rank, w.columns(), Start::kaiming(w.columns()));
        let b = tape.parameter("lora_B", w.rows(), rank, Start::ZERO);
        let lengths = Start::Value(w.row_norms());
        let m = tape.steady_parameter("lora_magnitude_vector", w.rows(), 1, lengths);
        let v = w + b.matmul(a) * (self.alpha / f64::from(self.rank));
        Ok(Form::weight(v.times(m).times(v.row_norms().detach().reciprocal())))
    }
}

/// `dora` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "dora",
    family: Family::Reparameterized,
    settings: &[RANK, ALPHA],
    deploy: FUSED,
    source: "DoRA: Weight-Decomposed Low-Rank Adaptation (2024)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Dora::new(s))),
};
