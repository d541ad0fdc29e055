//! SQFT: low-rank deltas that keep a sparse or quantized base what it is (Muñoz, Yuan & Jain, 2024).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::row::{ALPHA, Definition, FUSED, Family, Make, MethodRow, RANK, Settings, boxed, flag};

/// LoRA on the weights that are not zero: `W' = W + (s·B·A) ⊙ [W ≠ 0]`, s = α/r.
///
/// With `quantized`, the sum is rounded to the base's own steps, clamped to ±127 of them, with the gradient passed through: what
/// is trained is then what is deployed, without any requantization error (QA-SparsePEFT). On a float base the steps
/// are those of int8 and the start is the base rounded to them. Tensors: `lora_A` `[r, row]`, `lora_B` `[out, r]`;
/// constants `mask` `[out, row]` and `base_scale` `[out]`. Starts as the base. Parameters: `r·(out + row)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sqft {
    rank: u32,
    alpha: f64,
    quantized: bool,
}

impl Sqft {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self {
            rank: settings.rank()?,
            alpha: settings.positive("alpha")?,
            quantized: settings.flag("quantized")?,
        })
    }
}

impl Expression for Sqft {
    fn name(&self) -> &'static str {
        "sqft"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
        visit("alpha", Setting::Real(self.alpha));
        visit("quantized", Setting::Flag(self.quantized));
    }

    fn detached(&self) -> &'static [&'static str] {
        if self.quantized { &["rounding (straight through)"] } else { &[] }
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (w, rank) = (tape.weight(), self.rank as usize);
        let a = tape.parameter("lora_A", rank, w.columns(), Start::kaiming(w.columns()));
        let b = tape.parameter("lora_B", w.rows(), rank, Start::ZERO);
        let mask = tape.derived("mask", w, w.rows(), w.columns(), |w, mask| {
            mask.iter_mut().zip(w.data).for_each(|(to, w)| *to = f64::from(u8::from(*w != 0.0)));
        });
        let delta = (b.matmul(a) * (self.alpha / f64::from(self.rank))).times(mask);
        if !self.quantized {
            return Ok(Form::delta(delta));
        }
        let steps = tape.weight_steps();
        let codes = (w + delta).times(steps.reciprocal()).clamp(-127.0, 127.0).straight_through_round();
        Ok(Form::weight(codes.times(steps)))
    }
}

/// `sqft` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "sqft",
    family: Family::Reparameterized,
    settings: &[RANK, ALPHA, flag("quantized", "false")],
    deploy: FUSED,
    source: "SQFT: Low-cost Model Adaptation in Low-precision Sparse Foundation Models (2024)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Sqft::new(s))),
};
