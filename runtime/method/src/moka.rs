//! MoKA: mixture of Kronecker adapters (Sadeghi et al., 2025).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::lokr::divisors;
use crate::row::{Definition, FUSED, Family, Make, MethodRow, SettingRow, Settings, boxed, positive};

/// Trains a gated sum of Kronecker products of different shapes: `W' = W + s·Σ pₖ·(Aₖ ⊗ Bₖ)`, p = softmax(g).
///
/// out and row are each split in two; component 0 takes the two factors closest to each other, the next the pair after
/// that, around again when there are no more; the smaller factors go to A. Gates do not depend on the input. The paper is known by its
/// abstract: gate form, start and scale are our reading. Tensors: `moka_A0`…, `moka_B0`…, and `moka_gate`
/// `[components]`. B starts as zero: the adapter starts as the base. Parameters: `Σ (a₁·a₂ + b₁·b₂) + components`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Moka {
    components: u32,
    scale: f64,
}

impl Moka {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        let components = settings.number("components", |n| (1..=NAMES.len() as u32).contains(n))?;
        Ok(Self { components, scale: settings.positive("scale")? })
    }
}

impl Expression for Moka {
    fn name(&self) -> &'static str {
        "moka"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("components", Setting::Count(self.components));
        visit("scale", Setting::Real(self.scale));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row, components) = (tape.site().out, tape.site().row(), self.components as usize);
        let gate = tape.steady_parameter("moka_gate", components, 1, Start::ZERO);
        let shares = gate.transpose().softmax().transpose();
        let mut sum = None;
        for (k, [a, b]) in NAMES.into_iter().take(components).enumerate() {
            let ([a1, b1], [a2, b2]) = (pair(out, k), pair(row, k));
            let a = tape.parameter(a, a1, a2, Start::kaiming(a2));
            let b = tape.parameter(b, b1, b2, Start::ZERO);
            let own = tape.fixed(1, 1, |rows, _| rows.fill(k as f64));
            let term = a.times(shares.rows_at(own)).kronecker(b);
            sum = Some(sum.map_or(term, |sum| sum + term));
        }
        let sum = sum.ok_or(Unfit::Expression { out, row })?;
        Ok(Form::delta(sum * self.scale))
    }
}

/// The `k`-th pair of factors of `n`, the closest first, the smaller first in it.
fn pair(n: usize, k: usize) -> [usize; 2] {
    let count = divisors(n).count().max(1);
    let smaller = divisors(n).nth(count - 1 - k % count).unwrap_or(1);
    [smaller, n / smaller]
}

const NAMES: [[&str; 2]; 8] = [
    ["moka_A0", "moka_B0"],
    ["moka_A1", "moka_B1"],
    ["moka_A2", "moka_B2"],
    ["moka_A3", "moka_B3"],
    ["moka_A4", "moka_B4"],
    ["moka_A5", "moka_B5"],
    ["moka_A6", "moka_B6"],
    ["moka_A7", "moka_B7"],
];

/// `moka` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "moka",
    family: Family::Reparameterized,
    settings: &[
        SettingRow { name: "components", default: "2", expected: "a whole number in 1..=8" },
        positive("scale", "1"),
    ],
    deploy: FUSED,
    source: "MoKA: Mixture of Kronecker Adapters (2025)",
    definition: Definition::Inferred,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Moka::new(s))),
};

#[cfg(test)]
mod tests {
    use super::pair;

    #[test]
    fn pairs_go_from_the_closest_to_the_furthest_and_around() {
        assert_eq!([0, 1, 2, 3].map(|k| pair(12, k)), [[3, 4], [2, 6], [1, 12], [3, 4]]);
        assert_eq!([0, 1].map(|k| pair(7, k)), [[1, 7], [1, 7]]);
    }
}
