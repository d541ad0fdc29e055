//! BEFT: bias-efficient fine-tuning (2025).

use ingraft_kernel::SiteKind;
use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::bitfit::has_bias;
use crate::expression::{Expression, Form, Start, Tape};
use crate::row::{Definition, Family, Make, MethodRow, Settings, boxed};

/// Trains a bias that is added to the output of chosen sites: `y = Wx + b + β`, β from 0.
///
/// The paper chooses value projections; choose them with `--sites`. Tensor as in HF PEFT: `beft_bias` `[1, out]`. Starts as
/// the base. Parameters: `out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beft;

impl Beft {
    pub(crate) fn new(_: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self)
    }
}

impl Expression for Beft {
    fn name(&self) -> &'static str {
        "beft"
    }

    fn settings(&self, _: &mut dyn FnMut(&'static str, Setting)) {}

    fn adapts(&self, kind: SiteKind) -> bool {
        has_bias(kind)
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let bias = tape.parameter("beft_bias", 1, tape.site().out, Start::ZERO);
        Ok(Form::shift(bias.transpose()))
    }
}

/// `beft` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "beft",
    family: Family::Selective,
    settings: &[],
    deploy: "shift per output channel",
    source: "BEFT: Bias-Efficient Fine-Tuning of Language Models (2025)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Beft::new(s))),
};
