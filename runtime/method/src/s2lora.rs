//! S2-LoRA: sparsely shared low-rank adaptation (Liu et al., 2023).

use ingraft_train::{Revision, Setting, Unfit};

use crate::MethodError;
use crate::expression::{Among, Expression, Form, Revised, Start, Tape};
use crate::row::{Definition, Family, Make, MethodRow, RANK, SettingRow, Settings, TWO_FACTOR, boxed};
use crate::sora::shrink;

/// Sites of one shape share their factors, each with coefficients of its own: `W' = W + B·diag(λ)·A`.
///
/// After every step each λ moves towards zero by the learning rate times `sparsity`, no further than zero: the proximal
/// step of an L1 penalty. A and B start normal with deviations 1/√row and 1/√r, λ at zero: starts as the base, and every
/// λ has a gradient. Tensors: `lora_A` `[r, row]` and `lora_B` `[out, r]`, the same at every site of the shape, in files
/// once; `lambda` `[r]`. Parameters: `r` for every site and `r·(out + row)` for every shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct S2Lora {
    rank: u32,
    sparsity: f64,
}

impl S2Lora {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        let sparsity = settings.number("sparsity", |v: &f64| *v >= 0.0 && v.is_finite())?;
        Ok(Self { rank: settings.rank()?, sparsity })
    }
}

impl Expression for S2Lora {
    fn name(&self) -> &'static str {
        "s2lora"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
        visit("sparsity", Setting::Real(self.sparsity));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row, rank) = (tape.site().out, tape.site().row(), self.rank as usize);
        let deviation = |fan_in: usize| Start::Normal(1.0 / libm::sqrt(fan_in.max(1) as f64));
        tape.share_steady(Among::Shape);
        let a = tape.steady_parameter("lora_A", rank, row, deviation(row));
        let b = tape.steady_parameter("lora_B", out, rank, deviation(rank));
        let lambda = tape.parameter("lambda", rank, 1, Start::ZERO);
        Ok(Form::two_factor(b, a.times(lambda)))
    }

    fn revise(&self, sites: &mut Revised<'_, '_>, at: &Revision) {
        let step = at.learning_rate * self.sparsity as f32;
        sites.each(&mut |site| shrink(site.trained("lambda").0, step));
    }
}

/// `s2lora` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "s2lora",
    family: Family::Reparameterized,
    settings: &[
        RANK,
        SettingRow { name: "sparsity", default: "0.01", expected: "zero or a positive number" },
    ],
    deploy: TWO_FACTOR,
    source: "Sparsely Shared LoRA on Whisper for Child Speech Recognition (2023)",
    definition: Definition::Inferred,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(S2Lora::new(s))),
};
