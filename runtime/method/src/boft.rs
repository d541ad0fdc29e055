//! BOFT: orthogonal butterfly fine-tuning (Liu et al., 2024).

use alloc::vec::Vec;

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Node, Start, Tape};
use crate::row::{Definition, FUSED, Family, Make, MethodRow, SettingRow, Settings, boxed};

/// Trains a rotation of the input that is a product of sparse ones: `W' = diag(s)·W·(P₁·R₁·P₁ᵀ ⋯)ᵀ`.
///
/// R_k is block-diagonal, every block `(I − S)(I + S)⁻¹` with `S = (Q − Qᵀ)/2`; P_k is the k-th block-butterfly
/// permutation. The size of a block is the largest b up to `block` for which `b·2ᵐ⁻¹` divides the row, m
/// factors, b even where there are several. The bias is not scaled. Tensors as in HF PEFT: `boft_R`
/// `[m·row/b, b, b]` as rows of b, and `boft_s` `[out, 1]`. Starts as the base.
/// Parameters: `m·row·b + out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Boft {
    block: u32,
    factors: u32,
}

impl Boft {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self {
            block: settings.number("block", |block| (2..=256).contains(block))?,
            factors: settings.number("factors", |factors| (1..=8).contains(factors))?,
        })
    }
}

/// Where row i of BOFT's k-th permuted order comes from: within spans of `2ᵏ` blocks, the even half-blocks, then the odd.
///
/// `block` is even, and `block·2ᵏ` divides `row`.
pub fn butterfly(row: usize, block: usize, k: usize) -> Vec<usize> {
    let (span, half) = (block << k, block / 2);
    let from = |i: usize| {
        let (start, place) = (i / span * span, i % span);
        let (piece, within) = (place / half, place % half);
        let evens = span / half / 2;
        start + if piece < evens { 2 * piece } else { 2 * (piece - evens) + 1 } * half + within
    };
    (0..row).map(from).collect()
}

/// Rows of `x` in the k-th order, or back from it.
fn permuted<'t>(x: Node<'t>, block: usize, k: usize, back: bool) -> Node<'t> {
    let row = x.rows();
    let order = x.tape().fixed(row, 1, |places, _| {
        for (to, from) in butterfly(row, block, k).into_iter().enumerate() {
            let (at, value) = if back { (from, to) } else { (to, from) };
            places[at] = value as f64;
        }
    });
    x.rows_at(order)
}

impl Expression for Boft {
    fn name(&self) -> &'static str {
        "boft"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("block", Setting::Count(self.block));
        visit("factors", Setting::Count(self.factors));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let w = tape.weight();
        let (row, factors) = (w.columns(), self.factors as usize);
        let limit = (self.block as usize).min(row);
        let fits =
            |b: &usize| row.is_multiple_of(b << (factors - 1)) && (factors == 1 || b.is_multiple_of(2));
        let block = (2..=limit).rev().find(fits);
        let block = block.ok_or(Unfit::Divisor { setting: "block", value: limit, dimension: row })?;
        let q = tape.parameter("boft_R", factors * row, block, Start::ZERO);
        let scale = tape.steady_parameter("boft_s", w.rows(), 1, Start::Constant(1.0));
        let blocks = factors * row / block;
        let rotations = ((q - q.block_transpose(blocks)) * 0.5).cayley();
        let mut turned = w.transpose();
        for k in 0..factors {
            let rows = tape.fixed(row, 1, |rows, _| {
                rows.iter_mut().enumerate().for_each(|(i, to)| *to = (k * row + i) as f64);
            });
            let rotation = rotations.rows_at(rows);
            // The first permutation leaves everything in its place.
            turned = match k {
                0 => rotation.block_matmul(row / block, turned),
                k => {
                    let shuffled = permuted(turned, block, k, true);
                    permuted(rotation.block_matmul(row / block, shuffled), block, k, false)
                }
            };
        }
        Ok(Form::weight(turned.transpose().times(scale)))
    }
}

/// `boft` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "boft",
    family: Family::Reparameterized,
    settings: &[
        SettingRow { name: "block", default: "4", expected: "a whole number in 2..=256" },
        SettingRow { name: "factors", default: "1", expected: "a whole number in 1..=8" },
    ],
    deploy: FUSED,
    source: "Parameter-Efficient Orthogonal Finetuning via Butterfly Factorization (2024)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Boft::new(s))),
};

#[cfg(test)]
mod tests {
    use super::butterfly;

    #[test]
    fn halves_of_blocks_are_sorted_by_parity() {
        assert_eq!(butterfly(8, 4, 0), [0, 1, 2, 3, 4, 5, 6, 7]);
        // As HF PEFT's `block_butterfly_perm(8, 1, 2, 1)`.
        assert_eq!(butterfly(8, 4, 1), [0, 1, 4, 5, 2, 3, 6, 7]);
        assert_eq!(butterfly(8, 2, 1), [0, 2, 1, 3, 4, 6, 5, 7]);
    }
}
