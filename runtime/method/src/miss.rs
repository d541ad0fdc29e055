//! MiSS: matrix shard sharing (Kang & Yin, 2024).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::row::{Definition, Family, Make, MethodRow, RANK, SettingRow, Settings, TWO_FACTOR, boxed};

/// Trains one matrix that every shard of r inputs shares: `y = Wx + Dᵀ·Σ x_shard`, the last shard padded.
///
/// Exactly two factors: Dᵀ, and ones where an input's place in its shard is the row. D starts as zero: the
/// adapter starts as the base. With `mini_rank` outputs share m columns of D in turn. Parameters: `r·out` or `r·m`, r at most the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Miss {
    rank: u32,
    mini_rank: u32,
}

impl Miss {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        let mini_rank = settings.number("mini_rank", |n: &u32| *n <= 1 << 20)?;
        Ok(Self { rank: settings.rank()?, mini_rank })
    }
}

impl Expression for Miss {
    fn name(&self) -> &'static str {
        "miss"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
        visit("mini_rank", Setting::Count(self.mini_rank));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row) = (tape.site().out, tape.site().row());
        let rank = (self.rank as usize).min(row);
        let wide = if self.mini_rank == 0 { out } else { self.mini_rank as usize };
        if !out.is_multiple_of(wide) {
            return Err(Unfit::Divisor { setting: "mini_rank", value: wide, dimension: out });
        }
        let d = tape.parameter("miss_block", rank, wide, Start::ZERO);
        let shards = tape.fixed(rank, row, |values, _| {
            values
                .iter_mut()
                .enumerate()
                .for_each(|(i, v)| *v = f64::from(u8::from(i % row % rank == i / row)));
        });
        let rows = tape.fixed(out, 1, |rows, _| {
            rows.iter_mut().enumerate().for_each(|(o, row)| *row = (o % wide) as f64);
        });
        Ok(Form::two_factor(d.transpose().rows_at(rows), shards))
    }
}

/// `miss` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "miss",
    family: Family::Reparameterized,
    settings: &[
        RANK,
        SettingRow {
            name: "mini_rank",
            default: "0",
            expected: "0 for a column for every output, or a divisor of the outputs",
        },
    ],
    deploy: TWO_FACTOR,
    source: "MiSS: Revisiting the Trade-off in LoRA with an Efficient Shard-Sharing Structure (2024)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Miss::new(s))),
};
