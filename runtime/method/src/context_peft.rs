//! Context-PEFT: adapters by the domain of the input (Hadji-Kyriacou & Arandjelović, 2023).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::row::{
    ALPHA, Definition, Family, Make, MethodRow, RANK, SettingRow, Settings, TWO_FACTOR, boxed, count, flag,
};

/// The adapter of one domain among several: `y = W·x + b + s·B_c·A_c·x + β_c`, s = α/r.
///
/// Where a whole input is of one domain (image, text, audio) its adapter is a plain pair of factors, and a shift with
/// `bias`; only those of `domain` are trained. Tensors: `lora_A` `[D·r, row]`, the A_c one below the other, `lora_B` `[D·out, r]`
/// likewise, `context_bias` `[D, out]`. Starts as the base. Parameters: `D·r·(out + row)`, and `D·out` with `bias`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ContextPeft {
    domains: u32,
    domain: u32,
    rank: u32,
    alpha: f64,
    bias: bool,
}

impl ContextPeft {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        let domains = settings.count("domains")?;
        Ok(Self {
            domains,
            domain: settings.number("domain", |domain| *domain < domains)?,
            rank: settings.rank()?,
            alpha: settings.positive("alpha")?,
            bias: settings.flag("bias")?,
        })
    }
}

impl Expression for ContextPeft {
    fn name(&self) -> &'static str {
        "context-peft"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("domains", Setting::Count(self.domains));
        visit("domain", Setting::Count(self.domain));
        visit("rank", Setting::Count(self.rank));
        visit("alpha", Setting::Real(self.alpha));
        visit("bias", Setting::Flag(self.bias));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row) = (tape.site().out, tape.site().row());
        let (domains, domain, rank) = (self.domains as usize, self.domain as usize, self.rank as usize);
        let a = tape.parameter("lora_A", domains * rank, row, Start::kaiming(row));
        let b = tape.parameter("lora_B", domains * out, rank, Start::ZERO);
        let own = |len: usize| {
            tape.fixed(len, 1, |rows, _| {
                rows.iter_mut().enumerate().for_each(|(i, row)| *row = (domain * len + i) as f64);
            })
        };
        let form =
            Form::two_factor(b.rows_at(own(out)) * (self.alpha / f64::from(self.rank)), a.rows_at(own(rank)));
        if !self.bias {
            return Ok(form);
        }
        let bias = tape.parameter("context_bias", domains, out, Start::ZERO);
        Ok(form.shifted(bias.rows_at(own(1)).transpose()))
    }
}

/// `context-peft` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "context-peft",
    family: Family::Reparameterized,
    settings: &[
        count("domains", "2"),
        SettingRow { name: "domain", default: "0", expected: "a whole number below domains" },
        RANK,
        ALPHA,
        flag("bias", "false"),
    ],
    deploy: TWO_FACTOR,
    source: "Context-PEFT: Efficient Multi-Modal, Multi-Task Fine-Tuning (2023)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(ContextPeft::new(s))),
};
