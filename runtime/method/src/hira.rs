//! HiRA: Hadamard high-rank adaptation (Huang et al., 2025).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::row::{Definition, FUSED, Family, Make, MethodRow, RANK, Settings, boxed};

/// Trains a low-rank modulation of every weight: `W' = W + W ⊙ (B·A)`. No scale.
///
/// A weight that is zero stays zero. B starts as zero: the adapter starts as the base.
/// Parameters: `r·(out + row)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hira {
    rank: u32,
}

impl Hira {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self { rank: settings.rank()? })
    }
}

impl Expression for Hira {
    fn name(&self) -> &'static str {
        "hira"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (w, rank) = (tape.weight(), self.rank as usize);
        let a = tape.parameter("hira_A", rank, w.columns(), Start::kaiming(w.columns()));
        let b = tape.parameter("hira_B", w.rows(), rank, Start::ZERO);
        Ok(Form::delta(b.matmul(a).times(w)))
    }
}

/// `hira` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "hira",
    family: Family::Reparameterized,
    settings: &[RANK],
    deploy: FUSED,
    source: "HiRA: Parameter-Efficient Hadamard High-Rank Adaptation for Large Language Models (2025)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Hira::new(s))),
};
