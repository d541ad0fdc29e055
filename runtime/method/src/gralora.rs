//! GraLoRA: granular low-rank adaptation (Jung et al., 2025).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::melora::divides;
use crate::row::{
    ALPHA, Definition, Family, Make, MethodRow, RANK, SettingRow, Settings, TWO_FACTOR, boxed, count,
};

/// Trains a low-rank delta of every block of a k by k grid: block (j, n) is `s·(A_n[:, j-th part]·B_j[n-th part, :])ᵀ`.
///
/// Parts are r/k wide; k must divide r, out and row. With `hybrid_rank` h a plain pair of that rank is added. As in HF PEFT r
/// does not count h, and s = α/(r + h). Exactly two factors of rank k·r + h. Tensors as there: `gralora_A` `[k, row/k, r]` and
/// `gralora_B` `[k, r, out/k]`, as rows of the last; `gralora_A_general` `[h, row]`, `gralora_B_general` `[out, h]`. Starts
/// as the base. Parameters: `(r + h)·(out + row)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct GraLora {
    grid: u32,
    rank: u32,
    hybrid_rank: u32,
    alpha: f64,
}

impl GraLora {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self {
            grid: settings.count("grid")?,
            rank: settings.rank()?,
            hybrid_rank: settings.number("hybrid_rank", |rank| *rank <= 256)?,
            alpha: settings.positive("alpha")?,
        })
    }
}

impl Expression for GraLora {
    fn name(&self) -> &'static str {
        "gralora"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("grid", Setting::Count(self.grid));
        visit("rank", Setting::Count(self.rank));
        visit("hybrid_rank", Setting::Count(self.hybrid_rank));
        visit("alpha", Setting::Real(self.alpha));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row) = (tape.site().out, tape.site().row());
        let (k, r, h) = (self.grid as usize, self.rank as usize, self.hybrid_rank as usize);
        let part = divides("grid", k, r)?;
        let (wide, high) = (divides("grid", k, row)?, divides("grid", k, out)?);
        let a = tape.parameter("gralora_A", row, r, Start::kaiming(wide));
        let b = tape.parameter("gralora_B", k * r, high, Start::ZERO);
        // Rank row (j, n, c) reads input slice n by column j·part + c of A and writes output slice j by row n·part + c of B.
        let down = tape.fixed(row, r, |places, _| {
            for (i, place) in places.iter_mut().enumerate() {
                let (input, column) = (i / r, i % r);
                let rank_row = (column / part * k + input / wide) * part + column % part;
                *place = (rank_row * row + input) as f64;
            }
        });
        let up = tape.fixed(k * r, high, |places, _| {
            for (i, place) in places.iter_mut().enumerate() {
                let (j, within, y) = (i / high / r, i / high % r, i % high);
                *place = ((j * high + y) * k * r + (j * k + within / part) * part + within % part) as f64;
            }
        });
        let scale = self.alpha / f64::from(self.rank + self.hybrid_rank);
        let (up, down) = (b.scatter(up, out, k * r) * scale, a.scatter(down, k * r, row));
        if h == 0 {
            return Ok(Form::two_factor(up, down));
        }
        let a = tape.parameter("gralora_A_general", h, row, Start::kaiming(row));
        let b = tape.parameter("gralora_B_general", out, h, Start::ZERO);
        Ok(Form::two_factor(up.beside(b * scale), down.above(a)))
    }
}

/// `gralora` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "gralora",
    family: Family::Reparameterized,
    settings: &[
        count("grid", "2"),
        RANK,
        SettingRow { name: "hybrid_rank", default: "0", expected: "a whole number in 0..=256" },
        ALPHA,
    ],
    deploy: TWO_FACTOR,
    source: "GraLoRA: Granular Low-Rank Adaptation for Parameter-Efficient Fine-Tuning (2025)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(GraLora::new(s))),
};
