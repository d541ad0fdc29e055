//! LoRETTA: low-rank economic tensor-train adaptation (Yang et al., 2024), reparameterization.

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Node, Start, Tape};
use crate::row::{
    ALPHA, Definition, Family, Make, MethodRow, RANK, SettingRow, Settings, TWO_FACTOR, boxed, count,
};

/// LoRA whose factors are tensor trains: `W' = W + s·(T_A·T_B)ᵀ`, T_A `[row, r]`, T_B `[r, out]`, s = α/r.
///
/// A train's cores are `G_k` `[R, n_k, R]`, R = 1 at the ends; the product of all, in row-major order, is the matrix. Its number of
/// elements is split into up to four modes, as even as its prime factors allow (the published tables cover a few sizes
/// only). Published cores all start normal, so that nothing starts as the base; here the last core of T_B starts as
/// zero. Tensors: `loretta_A0`…`A3`, `loretta_B0`…`B3`, `[R, n_k·R]`. Parameters: the sum of `R·n_k·R`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Loretta {
    rank: u32,
    alpha: f64,
    tensor_rank: u32,
}

impl Loretta {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        let tensor_rank = settings.number("tensor_rank", |rank| (1..=64).contains(rank))?;
        Ok(Self { rank: settings.rank()?, alpha: settings.positive("alpha")?, tensor_rank })
    }

    /// The matrix of a train.
    fn train<'t>(
        &self,
        tape: &'t Tape<'t>,
        names: [&'static str; 4],
        [rows, columns]: [usize; 2],
        zero: bool,
    ) -> Node<'t> {
        let (modes, rank) = (modes(rows * columns), self.tensor_rank as usize);
        let last = modes.iter().rposition(|n| *n != 1).unwrap_or(0);
        let spread = libm::pow(1.0 / (rows + columns) as f64, 0.5 / (last + 1) as f64);
        let mut product: Option<Node<'t>> = None;
        for (k, (name, n)) in names.into_iter().zip(modes).enumerate().take(last + 1) {
            let (left, right) = (if k == 0 { 1 } else { rank }, if k == last { 1 } else { rank });
            let start = match zero && k == last {
                true => Start::ZERO,
                false => Start::Normal(spread / libm::sqrt(right as f64)),
            };
            let core = tape.parameter(name, left, n * right, start);
            let next = product.map_or(core, |product| product.matmul(core));
            product = Some(next.reshape(next.rows() * n, right));
        }
        product.map_or_else(|| tape.weight(), |product| product.reshape(rows, columns))
    }
}

/// Up to four factors of `n`, as even as its prime factors allow; ones last.
fn modes(mut n: usize) -> [usize; 4] {
    let mut modes = [1; 4];
    let mut primes = [0usize; usize::BITS as usize];
    let mut count = 0;
    while n > 1 {
        let prime = (2..).take_while(|p| p * p <= n).find(|p| n.is_multiple_of(*p)).unwrap_or(n);
        if let Some(to) = primes.get_mut(count) {
            *to = prime;
        }
        (n, count) = (n / prime, count + 1);
    }
    // The largest primes first, each to the smallest mode.
    for prime in primes.iter().take(count).rev() {
        if let Some(least) = modes.iter_mut().min_by_key(|mode| **mode) {
            *least *= prime;
        }
    }
    modes.sort_by_key(|mode| core::cmp::Reverse(*mode));
    modes
}

impl Expression for Loretta {
    fn name(&self) -> &'static str {
        "loretta"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
        visit("alpha", Setting::Real(self.alpha));
        visit("tensor_rank", Setting::Count(self.tensor_rank));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row, rank) = (tape.site().out, tape.site().row(), self.rank as usize);
        let a =
            self.train(tape, ["loretta_A0", "loretta_A1", "loretta_A2", "loretta_A3"], [row, rank], false);
        let b = self.train(tape, ["loretta_B0", "loretta_B1", "loretta_B2", "loretta_B3"], [rank, out], true);
        Ok(Form::two_factor(b.transpose() * (self.alpha / f64::from(self.rank)), a.transpose()))
    }
}

/// `loretta` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "loretta",
    family: Family::Reparameterized,
    settings: &[
        RANK,
        SettingRow { default: "16", ..ALPHA },
        SettingRow { expected: "a whole number in 1..=64", ..count("tensor_rank", "5") },
    ],
    deploy: TWO_FACTOR,
    source: "LoRETTA: Low-Rank Economic Tensor-Train Adaptation for Ultra-Low-Parameter Fine-Tuning of Large Language Models (2024)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Loretta::new(s))),
};

#[cfg(test)]
mod tests {
    use super::modes;

    #[test]
    fn modes_are_as_even_as_primes_allow() {
        assert_eq!([6144, 56, 7, 1].map(modes), [[12, 8, 8, 8], [7, 2, 2, 2], [7, 1, 1, 1], [1, 1, 1, 1]]);
    }
}
