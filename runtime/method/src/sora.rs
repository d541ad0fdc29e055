//! SoRA: sparse low-rank adaptation (Ding et al., 2023).

use ingraft_train::{Revision, Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Revised, Start, Tape};
use crate::row::{ALPHA, Definition, Family, Make, MethodRow, RANK, SettingRow, Settings, TWO_FACTOR, boxed};

/// LoRA with a gate on every rank row, pruned while it trains: `W' = W + s·B·diag(g)·A`, s = α/r.
///
/// After every step each gate moves towards zero by the learning rate times `sparsity`, and stays there once it is reached: the
/// proximal step of an L1 penalty, which gives exact zeros. Tensors: `lora_A` `[r, row]`, `lora_B` `[out, r]`, `gate` `[r]` from
/// one. Starts as the base. Parameters: `r·(out + row) + r`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sora {
    rank: u32,
    alpha: f64,
    sparsity: f64,
}

impl Sora {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self {
            rank: settings.rank()?,
            alpha: settings.positive("alpha")?,
            sparsity: settings.number("sparsity", |v: &f64| *v >= 0.0 && v.is_finite())?,
        })
    }
}

/// Moves every value towards zero by `step`, no further than zero.
pub(crate) fn shrink(values: &mut [f32], step: f32) {
    values.iter_mut().for_each(|v| *v = v.signum() * (v.abs() - step).max(0.0));
}

impl Expression for Sora {
    fn name(&self) -> &'static str {
        "sora"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
        visit("alpha", Setting::Real(self.alpha));
        visit("sparsity", Setting::Real(self.sparsity));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row, rank) = (tape.site().out, tape.site().row(), self.rank as usize);
        let a = tape.parameter("lora_A", rank, row, Start::kaiming(row));
        let b = tape.parameter("lora_B", out, rank, Start::ZERO);
        let gate = tape.steady_parameter("gate", rank, 1, Start::Constant(1.0));
        Ok(Form::two_factor(b * (self.alpha / f64::from(self.rank)), a.times(gate)))
    }

    fn revise(&self, sites: &mut Revised<'_, '_>, at: &Revision) {
        let step = at.learning_rate * self.sparsity as f32;
        sites.each(&mut |site| shrink(site.trained("gate").0, step));
    }
}

/// `sora` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "sora",
    family: Family::Reparameterized,
    settings: &[
        RANK,
        ALPHA,
        SettingRow { name: "sparsity", default: "0.1", expected: "zero or a positive number" },
    ],
    deploy: TWO_FACTOR,
    source: "Sparse Low-rank Adaptation of Pre-trained Language Models (2023)",
    definition: Definition::Inferred,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Sora::new(s))),
};
