//! MiSS: matrix shard sharing (Kang & Yin, 2024).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::row::{Definition, Family, Make, MethodRow, RANK, Settings, TWO_FACTOR, boxed};

/// Trains one matrix that every shard of r inputs shares: `y = Wx + Dᵀ·Σ x_shard`, the last shard padded.
///
/// Exactly two factors: Dᵀ, and ones where an input's place in its shard is the row. D starts as zero: the
/// adapter starts as the base. Parameters: `r·out`, r at most the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Miss {
    rank: u32,
}

impl Miss {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self { rank: settings.rank()? })
    }
}

impl Expression for Miss {
    fn name(&self) -> &'static str {
        "miss"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row) = (tape.site().out, tape.site().row());
        let rank = (self.rank as usize).min(row);
        let d = tape.parameter("miss_block", rank, out, Start::ZERO);
        let shards = tape.fixed(rank, row, |values, _| {
            values
                .iter_mut()
                .enumerate()
                .for_each(|(i, v)| *v = f64::from(u8::from(i % row % rank == i / row)));
        });
        Ok(Form::two_factor(d.transpose(), shards))
    }
}

/// `miss` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "miss",
    family: Family::Reparameterized,
    settings: &[RANK],
    deploy: TWO_FACTOR,
    source: "MiSS: Revisiting the Trade-off in LoRA with an Efficient Shard-Sharing Structure (2024)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Miss::new(s))),
};
