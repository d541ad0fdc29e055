//! RandLoRA: full rank from random bases (Albert et al., 2025).

use ingraft_tensor::Rng;
use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::row::{Definition, FUSED, Family, Make, MethodRow, SettingRow, Settings, boxed, positive};

/// Trains what scales n frozen random pairs of rank r: `W' = W + (α/r)·B·(λ ⊙ A ⊙ γ)`, transposed where out is the smaller side.
///
/// n = ⌈min(out, row)/r⌉, so that the delta has full rank. B is `[max, n·r]`; A, `[r, min]`, serves every pair: row (k, j) of the
/// second factor is `λ_kj·A_k ⊙ γ_j`. Both are drawn from `projection_seed`, with variance 1; an element depends on the seed
/// and its place alone, so all sites share them. Tensors as in HF PEFT: `randlora_lambda` `[r, n]`, from zero, and `randlora_gamma`
/// `[n, min]`; constants `randlora_A`, `randlora_B`. Starts as the base. Parameters: `n·(r + min(out, row))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RandLora {
    rank: u32,
    alpha: f64,
    projection_seed: u32,
}

impl RandLora {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self {
            rank: settings.rank()?,
            alpha: settings.positive("alpha")?,
            projection_seed: settings.number("projection_seed", |_| true)?,
        })
    }

    /// Element `k` of row or column `place` of shared matrix `which`, for all of `len`.
    fn draw(&self, which: u64, place: usize, len: usize, mut put: impl FnMut(usize, f64)) {
        let mut rng = Rng::stream(u64::from(self.projection_seed), (place as u64) << 1 | which);
        let bound = libm::sqrt(3.0);
        (0..len).for_each(|k| put(k, rng.uniform(-bound, bound)));
    }
}

impl Expression for RandLora {
    fn name(&self) -> &'static str {
        "randlora"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
        visit("alpha", Setting::Real(self.alpha));
        visit("projection_seed", Setting::Count(self.projection_seed));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row, rank) = (tape.site().out, tape.site().row(), self.rank as usize);
        let (least, most) = (out.min(row), out.max(row));
        let bases = least.div_ceil(rank);
        let a = tape.constant("randlora_A", rank, least, |values, _| {
            (0..least).for_each(|j| self.draw(0, j, rank, |k, value| values[k * least + j] = value));
        });
        let width = bases * rank;
        let b = tape.constant("randlora_B", most, width, |values, _| {
            (0..most).for_each(|i| self.draw(1, i, width, |k, value| values[i * width + k] = value));
        });
        let lambda = tape.parameter("randlora_lambda", rank, bases, Start::ZERO);
        let level = Start::Constant(1.0 / bases.max(least).max(1) as f64);
        let gamma = tape.steady_parameter("randlora_gamma", bases, least, level);
        // Row (k, j): A once for every base, γ once for every rank, λ for both.
        let repeat = |of: fn(usize, usize) -> usize| {
            tape.fixed(width, 1, |rows, _| {
                rows.iter_mut().enumerate().for_each(|(i, row)| *row = of(i, bases) as f64);
            })
        };
        let second = a.rows_at(repeat(|i, bases| i / bases)).times(lambda.reshape(width, 1));
        let second = second.times(gamma.rows_at(repeat(|i, bases| i % bases)));
        let delta = b.matmul(second) * (self.alpha / f64::from(self.rank));
        Ok(Form::delta(if row <= out { delta } else { delta.transpose() }))
    }
}

/// `randlora` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "randlora",
    family: Family::Reparameterized,
    settings: &[
        SettingRow { name: "rank", default: "32", expected: "a whole number in 1..=256" },
        positive("alpha", "640"),
        SettingRow { name: "projection_seed", default: "0", expected: "a whole number below 2^32" },
    ],
    deploy: FUSED,
    source: "RandLoRA: Full-rank parameter-efficient fine-tuning of large models (2025)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(RandLora::new(s))),
};
