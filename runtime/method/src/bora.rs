//! BoRA: bi-dimensional weight-decomposed adaptation (Wang et al., 2024).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::row::{ALPHA, Definition, FUSED, Family, Make, MethodRow, RANK, Settings, boxed};

/// Trains a direction as LoRA does, and the lengths of its columns and of its rows:
/// `N = V·diag(m_c/‖V‖_columns)`, `W' = diag(m_r/‖N‖_rows)·N`, `V = W + s·B·A`.
///
/// Columns first, then rows; both lengths count as constants on the way back, as in DoRA. Which comes first, and what
/// the gradient does, is our reading. Tensors: `lora_A` `[r, row]`, `lora_B` `[out, r]`, `bora_m_c` `[row]`,
/// `bora_m_r` `[out]`. Starts as the base. Parameters: `r·(out + row) + out + row`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bora {
    rank: u32,
    alpha: f64,
}

impl Bora {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self { rank: settings.rank()?, alpha: settings.positive("alpha")? })
    }
}

impl Expression for Bora {
    fn name(&self) -> &'static str {
        "bora"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
        visit("alpha", Setting::Real(self.alpha));
    }

    fn detached(&self) -> &'static [&'static str] {
        &["lengths of the columns of V", "lengths of the rows behind them"]
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (w, rank) = (tape.weight(), self.rank as usize);
        let a = tape.parameter("lora_A", rank, w.columns(), Start::kaiming(w.columns()));
        let b = tape.parameter("lora_B", w.rows(), rank, Start::ZERO);
        let columns = tape.steady_parameter("bora_m_c", 1, w.columns(), Start::Value(w.column_norms()));
        let rows = tape.steady_parameter("bora_m_r", w.rows(), 1, Start::Value(w.row_norms()));
        let v = w + b.matmul(a) * (self.alpha / f64::from(self.rank));
        let n = v.times(columns).times(v.column_norms().detach().reciprocal());
        Ok(Form::weight(n.times(rows).times(n.row_norms().detach().reciprocal())))
    }
}

/// `bora` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "bora",
    family: Family::Reparameterized,
    settings: &[RANK, ALPHA],
    deploy: FUSED,
    source: "BoRA: Bi-dimensional Weight-Decomposed Low-Rank Adaptation (2024)",
    definition: Definition::Inferred,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Bora::new(s))),
};
