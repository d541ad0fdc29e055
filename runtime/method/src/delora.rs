//! DeLoRA: decoupled low-rank adaptation (Bini, Girrbach & Akata, 2025).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::row::{Definition, Family, Make, MethodRow, RANK, SettingRow, Settings, TWO_FACTOR, boxed};

/// Trains directions and one strength: `W' = W + B·diag(λ/(r·‖a_i‖·‖b_i‖))·A·diag(w)`, a_i the rows of
/// A, b_i the columns of B, w the lengths of W's columns.
///
/// As in HF PEFT: lengths of a_i and b_i count as at least 10⁻⁴, and B starts as zero, so that the
/// adapter starts as the base. The paper's own start is two random factors less frozen
/// copies of them. Parameters: `r·(out + row) + 1`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Delora {
    rank: u32,
    lambda: f64,
}

impl Delora {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self { rank: settings.rank()?, lambda: settings.positive("lambda")? })
    }
}

impl Expression for Delora {
    fn name(&self) -> &'static str {
        "delora"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
        visit("lambda", Setting::Real(self.lambda));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (w, rank) = (tape.weight(), self.rank as usize);
        let a = tape.parameter("delora_A", rank, w.columns(), Start::kaiming(w.columns()));
        let b = tape.parameter("delora_B", w.rows(), rank, Start::ZERO);
        let lambda = tape.steady_parameter("delora_lambda", 1, 1, Start::Constant(self.lambda));
        let lengths = |norms: crate::expression::Node<'t>| norms.at_least(LEAST_LENGTH).reciprocal();
        let down = a.times(lengths(a.row_norms())).times(w.column_norms());
        let up = b.times(lengths(b.column_norms())).times(lambda) * (1.0 / f64::from(self.rank));
        Ok(Form::two_factor(up, down))
    }
}

/// Where HF PEFT clamps the lengths of directions.
const LEAST_LENGTH: f64 = 1e-4;

/// `delora` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "delora",
    family: Family::Reparameterized,
    settings: &[RANK, SettingRow { name: "lambda", default: "15", expected: "a positive number" }],
    deploy: TWO_FACTOR,
    source: "Decoupling Angles and Strength in Low-rank Adaptation (2025)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Delora::new(s))),
};
