//! ABBA: Hadamard product adaptation (Singhal et al., 2025).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::row::{Definition, Family, Make, MethodRow, SettingRow, Settings, boxed, positive};

/// Trains the elementwise product of two low-rank matrices: `W' = W + s·(B₁·A₁) ⊙ (B₂·A₂)`, s = √(α₁·α₂).
///
/// Exactly two factors of rank r₁·r₂, row-wise Kronecker products of the B and of the A. The first pair starts
/// as the best approximation of W of its rank, A₂ as Kaiming has it (uniform in ±√(6/row)), B₂ as zero: the adapter starts as
/// the base. Tensors: `abba_A1` `[r₁, row]`, `abba_B1` `[out, r₁]`, `abba_A2`, `abba_B2` likewise.
/// Parameters: `(r₁ + r₂)·(out + row)`, r₁ at most the smaller side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Abba {
    rank: [u32; 2],
    alpha: [f64; 2],
}

impl Abba {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        let rank = |name| settings.number(name, |rank| (1..=256).contains(rank));
        Ok(Self {
            rank: [rank("rank1")?, rank("rank2")?],
            alpha: [settings.positive("alpha1")?, settings.positive("alpha2")?],
        })
    }
}

impl Expression for Abba {
    fn name(&self) -> &'static str {
        "abba"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank1", Setting::Count(self.rank[0]));
        visit("rank2", Setting::Count(self.rank[1]));
        visit("alpha1", Setting::Real(self.alpha[0]));
        visit("alpha2", Setting::Real(self.alpha[1]));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (w, [_, rank2]) = (tape.weight(), self.rank.map(|rank| rank as usize));
        let [u, values, vt] = tape.svd(w, self.rank[0] as usize);
        let (rank1, roots) = (vt.rows(), values.square_root());
        let start = Start::Value(vt.times(roots.transpose()));
        let a1 = tape.steady_parameter("abba_A1", rank1, w.columns(), start);
        let b1 = tape.steady_parameter("abba_B1", w.rows(), rank1, Start::Value(u.times(roots)));
        let bound = libm::sqrt(6.0 / w.columns().max(1) as f64);
        let a2 = tape.parameter("abba_A2", rank2, w.columns(), Start::Uniform(bound));
        let b2 = tape.parameter("abba_B2", w.rows(), rank2, Start::ZERO);
        let down = a1.transpose().khatri_rao(a2.transpose()).transpose();
        let scale = libm::sqrt(self.alpha[0] * self.alpha[1]);
        Ok(Form::two_factor(b1.khatri_rao(b2) * scale, down))
    }
}

/// `abba` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "abba",
    family: Family::Reparameterized,
    settings: &[
        SettingRow { name: "rank1", default: "4", expected: "a whole number in 1..=256" },
        SettingRow { name: "rank2", default: "4", expected: "a whole number in 1..=256" },
        positive("alpha1", "4"),
        positive("alpha2", "4"),
    ],
    deploy: "two-factor of the product of the ranks, int8 factors with int16 between them on int8 sites",
    source: "ABBA: Highly Expressive Hadamard Product Adaptation for Large Language Models (2025)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Abba::new(s))),
};
