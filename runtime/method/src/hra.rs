//! HRA: Householder reflection adaptation (Yuan, Liu & Xu, 2024).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::row::{Definition, FUSED, Family, Make, MethodRow, SettingRow, Settings, boxed};

/// Trains r reflections of the input: `W' = W·H₁⋯H_r`, `H_k = I − 2·û_k·û_kᵀ`.
///
/// r is even and the columns of U start in equal pairs, whose reflections cancel: the adapter starts as the base.
/// Parameters: `r·row`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hra {
    rank: u32,
}

impl Hra {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self {
            rank: settings.number("rank", |rank: &u32| (2..=256).contains(rank) && rank.is_multiple_of(2))?,
        })
    }
}

impl Expression for Hra {
    fn name(&self) -> &'static str {
        "hra"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (w, pairs) = (tape.weight(), self.rank as usize / 2);
        let row = w.columns();
        let bound = 1.0 / libm::sqrt(pairs as f64);
        let half = tape.fixed(row, pairs, |values, rng| {
            values.iter_mut().for_each(|value| *value = rng.uniform(-bound, bound));
        });
        let twice = tape.constant("twice", row, 2, |values, _| values.fill(1.0));
        let start = Start::Value(half.khatri_rao(twice));
        let u = tape.steady_parameter("hra_u", row, 2 * pairs, start);
        Ok(Form::weight(w.reflect(1, u)))
    }
}

/// `hra` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "hra",
    family: Family::Reparameterized,
    settings: &[SettingRow { name: "rank", default: "8", expected: "an even number in 2..=256" }],
    deploy: FUSED,
    source: "Bridging The Gap between Low-rank and Orthogonal Adaptation via Householder Reflection Adaptation (2024)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Hra::new(s))),
};
