//! EDoRA: weight-decomposed adaptation between singular vectors (Nasiri & Garraghan, 2025).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::row::{ALPHA, DIRECTED, Definition, Family, Make, MethodRow, RANK, SettingRow, Settings, boxed};

/// Trains a core between frozen singular vectors and the lengths of rows: `W' = m ⊙ V/‖V‖`, `V = W + s·U·R·diag(σ)·Vᵀ`.
///
/// Lengths are those of rows; ‖V‖ counts as a constant on the way back. s = α/r. The published R starts normal with
/// deviation 10⁻⁵; here it is zero, so that the adapter starts as the base. Tensors: `edora_R` `[r, r]`,
/// `lora_magnitude_vector` `[out]`; constants `U`, `S`, `Vh`. Parameters: `r² + out`, r at most the smaller side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Edora {
    rank: u32,
    alpha: f64,
}

impl Edora {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self { rank: settings.rank()?, alpha: settings.positive("alpha")? })
    }
}

impl Expression for Edora {
    fn name(&self) -> &'static str {
        "edora"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
        visit("alpha", Setting::Real(self.alpha));
    }

    fn detached(&self) -> &'static [&'static str] {
        &["lengths of the rows of V"]
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let w = tape.weight();
        let [u, values, vt] = tape.svd(w, self.rank as usize);
        let core = tape.parameter("edora_R", vt.rows(), vt.rows(), Start::ZERO);
        let up = u.matmul(core.times(values)) * (self.alpha / f64::from(self.rank));
        let lengths = tape.moved_row_norms(up, vt).detach();
        // R is zero at the start: these are the lengths of W.
        let m = tape.steady_parameter("lora_magnitude_vector", w.rows(), 1, Start::Value(lengths));
        Ok(Form::directed(up, vt, m.times(lengths.reciprocal())))
    }
}

/// `edora` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "edora",
    family: Family::Reparameterized,
    settings: &[RANK, SettingRow { default: "16", ..ALPHA }],
    deploy: DIRECTED,
    source: "EDoRA: Efficient Weight-Decomposed Low-Rank Adaptation via Singular Value Decomposition (2025)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Edora::new(s))),
};
