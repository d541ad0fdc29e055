//! OFT: orthogonal fine-tuning (Qiu et al., 2023).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Node, Start, Tape};
use crate::row::{Definition, FUSED, Family, Make, MethodRow, SettingRow, Settings, boxed};

/// Trains a rotation of the input: `y = W·(x·R)`, R block-diagonal, every block `(I − Q)(I + Q)⁻¹` of a skew Q.
///
/// The size of a block is the largest divisor of the row that is not above `block`. With
/// `neumann_terms` R is HF PEFT's series `I + 2Q + 2Q² + … + Qᵗ⁻¹` of that many terms instead, for
/// checkpoints trained so: not a rotation, and to first order the inverse one. Starts as
/// the base. Parameters: `row·(b − 1)/2` for blocks of size b.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Oft {
    block: u32,
    neumann_terms: u32,
}

impl Oft {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self {
            block: settings.number("block", |block| (2..=256).contains(block))?,
            neumann_terms: settings.number("neumann_terms", |terms| matches!(terms, 0 | 2..=16))?,
        })
    }
}

/// The series `I + 2Q + 2Q² + … + Qᵗ⁻¹` of `terms` terms, of every square block of `q`, as HF PEFT sums it: two
/// terms stop at 2·Q, three go as far as four.
pub(crate) fn series<'t>(q: Node<'t>, blocks: usize, terms: u32) -> Node<'t> {
    let mut sum = q * 2.0 + identity(q.tape(), q.rows(), q.columns());
    if terms == 2 {
        return sum;
    }
    let mut power = q.block_matmul(blocks, q);
    sum = sum + power * 2.0;
    for _ in 3..terms.max(4) - 1 {
        power = power.block_matmul(blocks, q);
        sum = sum + power * 2.0;
    }
    sum + power.block_matmul(blocks, q)
}

/// Identities of `size`, one below the other.
pub(crate) fn identity<'t>(tape: &'t Tape<'t>, rows: usize, size: usize) -> Node<'t> {
    tape.fixed(rows, size, |values, _| {
        let ones = values.iter_mut().enumerate().filter(|(i, _)| i / size % size == i % size);
        ones.for_each(|(_, value)| *value = 1.0);
    })
}

impl Expression for Oft {
    fn name(&self) -> &'static str {
        "oft"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("block", Setting::Count(self.block));
        visit("neumann_terms", Setting::Count(self.neumann_terms));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let w = tape.weight();
        let row = w.columns();
        if row < 2 {
            return Err(Unfit::TooSmall { dimension: row, least: 2 });
        }
        let limit = (self.block as usize).min(row);
        let size = (2..=limit).rev().find(|size| row.is_multiple_of(*size));
        let size = size.ok_or(Unfit::Divisor { setting: "block", value: limit, dimension: row })?;
        let (blocks, per_block) = (row / size, size * (size - 1) / 2);
        let triangle = tape.fixed(blocks, per_block, |places, _| upper(size, places));
        let vector = tape.parameter("oft_R", blocks, per_block, Start::ZERO);
        let half = vector.scatter(triangle, row, size);
        let q = half - half.block_transpose(blocks);
        let rotation = match self.neumann_terms {
            0 => q.cayley(),
            terms => series(q, blocks, terms),
        };
        let turned = rotation.block_matmul(blocks, w.transpose());
        Ok(Form::weight(turned.transpose()))
    }
}

/// The places above the diagonal, row by row, of square blocks that stand one below the other.
pub(crate) fn upper(size: usize, places: &mut [f64]) {
    let blocks = (0..).map(|block| block * size * size);
    let above = |first: usize| (0..size).flat_map(move |i| (i + 1..size).map(move |j| first + i * size + j));
    places.iter_mut().zip(blocks.flat_map(above)).for_each(|(to, place)| *to = place as f64);
}

/// `oft` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "oft",
    family: Family::Reparameterized,
    settings: &[
        SettingRow { name: "block", default: "32", expected: "a whole number in 2..=256" },
        SettingRow {
            name: "neumann_terms",
            default: "0",
            expected: "0 for the exact rotation, or a whole number in 2..=16",
        },
    ],
    deploy: FUSED,
    source: "Controlling Text-to-Image Diffusion by Orthogonal Finetuning (2023)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Oft::new(s))),
};
