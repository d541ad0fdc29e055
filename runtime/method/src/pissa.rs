//! PiSSA: principal singular values and vectors adaptation (Meng, Wang & Zhang, 2024).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::row::{ALPHA, Definition, Family, Make, MethodRow, SettingRow, Settings, boxed};

/// Trains the principal part of the weight: `W' = W + s·(B·A − B₀·A₀)`, where s·B₀·A₀ is the
/// best approximation of W of rank r and A, B start as A₀ = √(S/s)·Vᵀ, B₀ = U·√(S/s).
///
/// The published form moves s·B₀·A₀ out of the base; the base here stays as it is, and the
/// difference is two factors of rank 2r. Starts as the base. Parameters: `r·(out + row)`,
/// where r is at most the smaller side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pissa {
    rank: u32,
    alpha: f64,
}

impl Pissa {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        let rank = settings.number("rank", |rank| (1..=128).contains(rank))?;
        Ok(Self { rank, alpha: settings.positive("alpha")? })
    }
}

impl Expression for Pissa {
    fn name(&self) -> &'static str {
        "pissa"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
        visit("alpha", Setting::Real(self.alpha));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let w = tape.weight();
        let scale = self.alpha / f64::from(self.rank);
        let [u, values, vt] = tape.svd(w, self.rank as usize);
        let roots = (values * (1.0 / scale)).square_root();
        let (a0, b0) = (vt.times(roots.transpose()), u.times(roots));
        let a = tape.parameter("lora_A", a0.rows(), a0.columns(), Start::Value(a0));
        let b = tape.parameter("lora_B", b0.rows(), b0.columns(), Start::Value(b0));
        Ok(Form::two_factor(b.beside(b0 * -1.0) * scale, a.above(a0)))
    }
}

/// `pissa` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "pissa",
    family: Family::Reparameterized,
    settings: &[SettingRow { name: "rank", default: "8", expected: "a whole number in 1..=128" }, ALPHA],
    deploy: "two-factor of twice the rank, int8 factors with int16 between them on int8 sites",
    source: "PiSSA: Principal Singular Values and Singular Vectors Adaptation of Large Language Models (2024)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Pissa::new(s))),
};
