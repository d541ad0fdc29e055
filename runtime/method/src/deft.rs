//! DEFT: decompositional efficient fine-tuning (Kumar et al., 2025), and PaRa.

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Node, Start, Tape};
use crate::row::{Definition, Family, Make, MethodRow, RANK, SettingRow, Settings, TWO_FACTOR, boxed, flag};

/// Takes a subspace of outputs out of the weight and writes something else there: `W' = W + Q·(R − Pᵀ·W)`.
///
/// P `[out, r]` is trained. By `relu`, Q is P and what is taken out is its positive part; by `qr` both are an orthonormal
/// base of its columns, with the signs of LAPACK. R starts as what is taken out, so that the adapter starts as the
/// base. With `para` nothing is written (PaRa), which starts elsewhere. Tensors as in HF PEFT: `deft_P` `[out, r]`,
/// `deft_R` `[r, row]`. Exactly two factors. Parameters: `r·(out + row)`, r at most out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deft {
    rank: u32,
    decomposition: Decomposition,
    para: bool,
}

/// How P becomes a projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decomposition {
    Relu,
    Qr,
}

impl Decomposition {
    const fn name(self) -> &'static str {
        match self {
            Self::Relu => "relu",
            Self::Qr => "qr",
        }
    }

    /// What is written along, and what is taken out.
    fn sides(self, p: Node<'_>) -> [Node<'_>; 2] {
        match self {
            Self::Relu => [p, p.at_least(0.0)],
            Self::Qr => [p.orthonormal(); 2],
        }
    }
}

impl Deft {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        let all = [Decomposition::Relu, Decomposition::Qr];
        Ok(Self {
            rank: settings.rank()?,
            decomposition: settings.choice("decomposition", &all, Decomposition::name)?,
            para: settings.flag("para")?,
        })
    }
}

impl Expression for Deft {
    fn name(&self) -> &'static str {
        "deft"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
        visit("decomposition", Setting::Name(self.decomposition.name()));
        visit("para", Setting::Flag(self.para));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let w = tape.weight();
        let rank = (self.rank as usize).min(w.rows());
        let p = tape.steady_parameter("deft_P", w.rows(), rank, Start::Normal(0.02));
        let [along, across] = self.decomposition.sides(p);
        let taken = across.transpose().matmul(w);
        if self.para {
            return Ok(Form::two_factor(along * -1.0, taken));
        }
        let r = tape.steady_parameter("deft_R", rank, w.columns(), Start::Value(taken));
        Ok(Form::two_factor(along, r - taken))
    }
}

/// `deft` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "deft",
    family: Family::Reparameterized,
    settings: &[
        RANK,
        SettingRow { name: "decomposition", default: "qr", expected: "relu or qr" },
        flag("para", "false"),
    ],
    deploy: TWO_FACTOR,
    source: "DEFT: Decompositional Efficient Fine-Tuning for Text-to-Image Models (2025)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Deft::new(s))),
};
