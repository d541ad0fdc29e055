//! Bone: block affine adaptation (Kang & Yin, 2024, first version; `bat` in HF PEFT's MiSS).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::row::{Definition, FUSED, Family, Make, MethodRow, RANK, Settings, boxed};

/// Trains an affine map of every block of r rows: `W'_ab = W_ab·(I + B_a) + B_a` for the r × r blocks of W.
///
/// r must divide both sides. B starts as zero: the adapter starts as the base. Parameters: `r·out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bone {
    rank: u32,
}

impl Bone {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self { rank: settings.rank()? })
    }
}

impl Expression for Bone {
    fn name(&self) -> &'static str {
        "bone"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (w, rank) = (tape.weight(), self.rank as usize);
        let (out, row) = (w.rows(), w.columns());
        for dimension in [out, row] {
            if !dimension.is_multiple_of(rank) {
                return Err(Unfit::Divisor { setting: "rank", value: rank, dimension });
            }
        }
        let b = tape.parameter("miss_block", out, rank, Start::ZERO);
        let repeat = tape.constant("repeat", rank, row, |values, _| {
            values
                .iter_mut()
                .enumerate()
                .for_each(|(i, v)| *v = f64::from(u8::from(i % row % rank == i / row)));
        });
        // The blocks of W side by side in a block row, as rows of r values one below the other.
        let pieces = w.reshape(out * (row / rank), rank);
        Ok(Form::delta(pieces.block_matmul(out / rank, b).reshape(out, row) + b.matmul(repeat)))
    }
}

/// `bone` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "bone",
    family: Family::Reparameterized,
    settings: &[RANK],
    deploy: FUSED,
    source: "Bone: Block Affine Transformation as Parameter Efficient Fine-tuning Methods for Large Language Models (2024), first version",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Bone::new(s))),
};
