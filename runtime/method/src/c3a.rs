//! C3A: circular convolution adaptation (Chen et al., 2025).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::row::{Definition, FUSED, Family, Make, MethodRow, Settings, boxed, count};

/// Trains circulant blocks: block (m, n) of the delta has `w_mn[(k − l) mod b]/row` at row l, column k.
///
/// b is the largest common divisor of out and row that is not above `block`. Tensor as in HF PEFT: `c3a_kernel`
/// `[out/b, row/b, b]`, as rows of b. The published start is uniform; here it is zero, so that the adapter starts as
/// the base. Parameters: `out·row/b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct C3a {
    block: u32,
}

impl C3a {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self { block: settings.count("block")? })
    }
}

impl Expression for C3a {
    fn name(&self) -> &'static str {
        "c3a"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("block", Setting::Count(self.block));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row) = (tape.site().out, tape.site().row());
        let fits = |b: &usize| out.is_multiple_of(*b) && row.is_multiple_of(*b);
        let b = (1..=(self.block as usize).min(out).min(row)).rev().find(fits).unwrap_or(1);
        let kernel = tape.parameter("c3a_kernel", out / b * (row / b), b, Start::ZERO);
        let places = tape.fixed(out, row, |places, _| {
            for (i, place) in places.iter_mut().enumerate() {
                let (l, k) = (i / row, i % row);
                *place = ((l / b * (row / b) + k / b) * b + (k % b + b - l % b) % b) as f64;
            }
        });
        Ok(Form::delta(kernel.gather(places) * (1.0 / row.max(1) as f64)))
    }
}

/// `c3a` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "c3a",
    family: Family::Reparameterized,
    settings: &[count("block", "256")],
    deploy: FUSED,
    source: "Parameter-Efficient Fine-Tuning via Circular Convolution (2025)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(C3a::new(s))),
};
