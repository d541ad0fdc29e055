//! MELoRA: mini-ensemble low-rank adapters (Ren et al., 2024).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Node, Start, Tape};
use crate::row::{
    ALPHA, Definition, Family, Make, MethodRow, RANK, SettingRow, Settings, TWO_FACTOR, boxed, count,
};

/// Trains low-rank deltas of diagonal blocks: `W' = W + s·blockdiag(B₁·A₁, …, B_n·A_n)`, s = α/r.
///
/// Input slice k feeds output slice k only, so that the rank is up to n·r for LoRA's parameters at rank r. n must divide
/// out and row. Tensors: `lora_A` `[n·r, row/n]`, the Aₖ one below the other, and `lora_B` `[out, r]`, the Bₖ likewise. Starts as
/// the base. Parameters: `r·(out + row)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Melora {
    minis: u32,
    rank: u32,
    alpha: f64,
}

impl Melora {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self {
            minis: settings.count("minis")?,
            rank: settings.rank()?,
            alpha: settings.positive("alpha")?,
        })
    }
}

/// The blocks that stand one below the other in `x`, on the diagonal.
pub(crate) fn block_diagonal(x: Node<'_>, blocks: usize) -> Node<'_> {
    let (rows, columns) = (x.rows(), x.columns());
    let high = (rows / blocks.max(1)).max(1);
    let places = x.tape().fixed(rows, columns, |places, _| {
        for (i, place) in places.iter_mut().enumerate() {
            let (row, column) = (i / columns, i % columns);
            *place = (row * blocks * columns + row / high * columns + column) as f64;
        }
    });
    x.scatter(places, rows, blocks * columns)
}

/// That `setting` of `value` divides `dimension`.
pub(crate) fn divides(setting: &'static str, value: usize, dimension: usize) -> Result<usize, Unfit> {
    let whole = value != 0 && dimension.is_multiple_of(value);
    whole.then_some(dimension / value.max(1)).ok_or(Unfit::Divisor { setting, value, dimension })
}

impl Expression for Melora {
    fn name(&self) -> &'static str {
        "melora"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("minis", Setting::Count(self.minis));
        visit("rank", Setting::Count(self.rank));
        visit("alpha", Setting::Real(self.alpha));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row) = (tape.site().out, tape.site().row());
        let (minis, rank) = (self.minis as usize, self.rank as usize);
        let wide = divides("minis", minis, row)?;
        divides("minis", minis, out)?;
        let a = tape.parameter("lora_A", minis * rank, wide, Start::kaiming(wide));
        let b = tape.parameter("lora_B", out, rank, Start::ZERO);
        let scale = self.alpha / f64::from(self.rank);
        Ok(Form::two_factor(block_diagonal(b, minis) * scale, block_diagonal(a, minis)))
    }
}

/// `melora` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "melora",
    family: Family::Reparameterized,
    settings: &[count("minis", "2"), SettingRow { default: "4", ..RANK }, ALPHA],
    deploy: TWO_FACTOR,
    source: "MELoRA: Mini-Ensemble Low-Rank Adapters for Parameter-Efficient Fine-Tuning (2024)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Melora::new(s))),
};
