//! TinyLoRA: learning to reason in few parameters (Morris et al., 2026).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::row::{Definition, Family, Make, MethodRow, RANK, SettingRow, Settings, TWO_FACTOR, boxed, count};

/// Trains a few coefficients of fixed cores between singular vectors: `W' = W + U·√σ·(Σ vᵢ·Pᵢ)·√σ·Vᵀ`.
///
/// The first r singular triplets of W are constants, as are the P, normal with deviation 1/√r. A vector per site, as
/// HF PEFT has it by default. v starts uniform in ±0.02, as there: the adapter does not start as the
/// base. Tensors: `tinylora_v` `[u]`; constants `U`, `S`, `Vh` and `tinylora_P` `[u, r·r]`.
/// Parameters: `u`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TinyLora {
    rank: u32,
    coefficients: u32,
}

impl TinyLora {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self { rank: settings.rank()?, coefficients: settings.count("coefficients")? })
    }
}

impl Expression for TinyLora {
    fn name(&self) -> &'static str {
        "tinylora"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
        visit("coefficients", Setting::Count(self.coefficients));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let [u, values, vt] = tape.svd(tape.weight(), self.rank as usize);
        let (rank, count, roots) = (vt.rows(), self.coefficients as usize, values.square_root());
        let v = tape.parameter("tinylora_v", 1, count, Start::Uniform(0.02));
        let cores = tape.normal("tinylora_P", count, rank * rank, 1.0 / libm::sqrt(rank.max(1) as f64));
        let core = v.matmul(cores).reshape(rank, rank);
        Ok(Form::two_factor(u.times(roots).matmul(core), vt.times(roots.transpose())))
    }
}

/// `tinylora` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "tinylora",
    family: Family::Reparameterized,
    settings: &[SettingRow { default: "2", ..RANK }, count("coefficients", "64")],
    deploy: TWO_FACTOR,
    source: "Learning to Reason in 13 Parameters (2026)",
    definition: Definition::Verified,
    starts_as_base: false,
    make: Make::Expression(|s| boxed(TinyLora::new(s))),
};
