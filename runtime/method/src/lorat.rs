//! LoRAT: low-rank adaptation with token types, of trackers (Lin et al., 2024).

use ingraft_kernel::SiteKind;
use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::row::{Definition, Family, Make, MethodRow, RANK, SettingRow, Settings, boxed, count, positive};

/// LoRA on every layer, and the embedding of token types trained whole: `W' = W + s·B·A`, s = α/r; `E' = E + Δ`.
///
/// A model that tells tokens apart (background and foreground of a template, search region) adds a row of a small table to each:
/// the product of their types, one-hot, with E. A linear site whose rows are `types` long is such a table. The graph holds E as
/// it begins (published: normal, deviation 0.02) and Δ begins at zero, so the adapter starts as the base. What the published
/// recipe does to positions (one table, of which the template has the upper left part) and its box head are the graph's.
/// Tensors: `lora_A` `[r, row]`, `lora_B` `[out, r]`; at a table `token_types` `[types, out]` alone.
/// Parameters: `r·(out + row)`; `types·out` at a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Lorat {
    rank: u32,
    alpha: f64,
    types: u32,
}

impl Lorat {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self {
            rank: settings.rank()?,
            alpha: settings.positive("alpha")?,
            types: settings.count("types")?,
        })
    }
}

impl Expression for Lorat {
    fn name(&self) -> &'static str {
        "lorat"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
        visit("alpha", Setting::Real(self.alpha));
        visit("types", Setting::Count(self.types));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row, rank) = (tape.site().out, tape.site().row(), self.rank as usize);
        if tape.site().kind == SiteKind::Linear && row == self.types as usize {
            return Ok(Form::delta(tape.parameter("token_types", row, out, Start::ZERO).transpose()));
        }
        let a = tape.parameter("lora_A", rank, row, Start::kaiming(row));
        let b = tape.parameter("lora_B", out, rank, Start::ZERO);
        Ok(Form::two_factor(b * (self.alpha / f64::from(self.rank)), a))
    }
}

/// `lorat` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "lorat",
    family: Family::Reparameterized,
    settings: &[SettingRow { default: "64", ..RANK }, positive("alpha", "64"), count("types", "3")],
    deploy: "two-factor, int8 factors with int16 between them on int8 sites; fused weight at tables of token types",
    source: "Tracking Meets LoRA: Faster Training, Larger Model, Stronger Performance (2024)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Lorat::new(s))),
};
