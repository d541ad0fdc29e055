//! PEQA: parameter-efficient and quantization-aware adaptation (Kim et al., 2023).

use ingraft_kernel::SiteKind;
use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::bitfit::has_bias;
use crate::expression::{Expression, Form, Start, Tape};
use crate::melora::divides;
use crate::row::{Definition, Family, Make, MethodRow, SettingRow, Settings, boxed};

/// Trains the steps of the weight's quantizer, its integers untouched: `W' = s₀·(1 + δ) ⊙ W̄`, s₀ the base's steps.
///
/// One step per output channel, which a plan has even where the file had one for the whole tensor, or with `group` one per so
/// many elements of a row, which must divide it. The base is symmetric, so a step per channel is a scale of the output before
/// the bias, `y = (1 + δ) ⊙ (Wx) + b`, exactly: the terms are a scale and a shift, and integers need none of their own. The
/// published Δs is s₀·δ; δ is trained, so that one learning rate fits all channels. Tensor: `peqa_delta` `[out, row/group]`.
/// Starts as the base. Parameters: `out·row/group`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peqa {
    group: u32,
}

impl Peqa {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self { group: settings.number("group", |_| true)? })
    }
}

impl Expression for Peqa {
    fn name(&self) -> &'static str {
        "peqa"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("group", Setting::Count(self.group));
    }

    fn adapts(&self, kind: SiteKind) -> bool {
        // Whole rows are scaled at the output, whatever the layer.
        if self.group == 0 { has_bias(kind) } else { matches!(kind, SiteKind::Linear | SiteKind::Conv) }
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row) = (tape.site().out, tape.site().row());
        if self.group == 0 {
            let moved = tape.parameter("peqa_delta", out, 1, Start::ZERO);
            let one = tape.fixed(1, 1, |one, _| one.fill(1.0));
            return Ok(Form::affine(moved + one, tape.bias().times(moved) * -1.0));
        }
        let groups = divides("group", self.group as usize, row)?;
        let moved = tape.parameter("peqa_delta", out, groups, Start::ZERO);
        let parts = tape.weight().reshape(out * groups, row / groups.max(1));
        Ok(Form::delta(parts.times(moved.reshape(out * groups, 1)).reshape(out, row)))
    }
}

/// `peqa` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "peqa",
    family: Family::Selective,
    settings: &[SettingRow {
        name: "group",
        default: "0",
        expected: "0 for whole rows, or a divisor of the row",
    }],
    deploy: "scale and shift per output channel; with groups a fused weight",
    source: "Memory-Efficient Fine-Tuning of Compressed Large Language Models via sub-4-bit Integer Quantization (2023)",
    definition: Definition::Inferred,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Peqa::new(s))),
};
