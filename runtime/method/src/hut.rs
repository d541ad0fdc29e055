//! HUT: Hadamard updated transformation (Zhang et al., 2024).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::row::{ALPHA, Definition, FUSED, Family, Make, MethodRow, RANK, SettingRow, Settings, boxed};

/// Transforms the weight instead of adding to it: `W' = W ⊙ (1 + s·B₁·A₁)`, and `+ s·B₂·A₂` in the form `scale-shift`.
///
/// The paper is known by its abstract: a Hadamard product and two low-rank matrices; both readings are here, s = α/r. The
/// first keeps the zeros of a pruned weight. Tensors: `hut_A1` `[r, row]`, `hut_B1` `[out, r]`, `hut_A2`,
/// `hut_B2` likewise. Starts as the base. Parameters: `r·(out + row)`, or twice that.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Hut {
    form: Kind,
    rank: u32,
    alpha: f64,
}

/// What the two low-rank matrices are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The factors of one scale.
    Scale,
    /// A scale and a shift.
    ScaleShift,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Scale => "scale",
            Self::ScaleShift => "scale-shift",
        }
    }
}

impl Hut {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self {
            form: settings.choice("form", &[Kind::Scale, Kind::ScaleShift], Kind::name)?,
            rank: settings.rank()?,
            alpha: settings.positive("alpha")?,
        })
    }
}

impl Expression for Hut {
    fn name(&self) -> &'static str {
        "hut"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("form", Setting::Name(self.form.name()));
        visit("rank", Setting::Count(self.rank));
        visit("alpha", Setting::Real(self.alpha));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (w, rank) = (tape.weight(), self.rank as usize);
        let product = |a, b| {
            let a = tape.parameter(a, rank, w.columns(), Start::kaiming(w.columns()));
            tape.parameter(b, w.rows(), rank, Start::ZERO).matmul(a) * (self.alpha / f64::from(self.rank))
        };
        let scaled = w.times(product("hut_A1", "hut_B1"));
        Ok(Form::delta(match self.form {
            Kind::Scale => scaled,
            Kind::ScaleShift => scaled + product("hut_A2", "hut_B2"),
        }))
    }
}

/// `hut` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "hut",
    family: Family::Reparameterized,
    settings: &[
        SettingRow { name: "form", default: "scale-shift", expected: "scale or scale-shift" },
        RANK,
        ALPHA,
    ],
    deploy: FUSED,
    source: "HUT: A More Computation Efficient Fine-Tuning Method With Hadamard Updated Transformation (2024)",
    definition: Definition::Inferred,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Hut::new(s))),
};
