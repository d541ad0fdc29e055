//! VeRA: vector-based random matrix adaptation (Kopiczko, Blankevoort & Asano, 2024).

use ingraft_tensor::Rng;
use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::row::{Definition, Family, Make, MethodRow, SettingRow, Settings, TWO_FACTOR, boxed};

/// Trains two vectors between frozen random factors: `W' = W + diag(b)·B·diag(d)·A`.
///
/// A and B are drawn from `projection_seed`, uniform in ±√(6/fan_in). An element depends on the
/// seed and its place alone, so all sites share one matrix, cut to their sizes;
/// fan_in is the site's own. b starts as 0, d as `d_initial`: the adapter starts as the
/// base. Parameters: `out + r`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Vera {
    rank: u32,
    d_initial: f64,
    projection_seed: u32,
}

impl Vera {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self {
            rank: settings.rank()?,
            d_initial: settings.positive("d_initial")?,
            projection_seed: settings.number("projection_seed", |_| true)?,
        })
    }

    /// Element (place, k) of shared matrix `which`, for `fan_in`.
    fn draw(&self, which: u64, place: usize, len: usize, fan_in: usize, mut put: impl FnMut(usize, f64)) {
        let mut rng = Rng::stream(u64::from(self.projection_seed), (place as u64) << 1 | which);
        let bound = libm::sqrt(6.0 / fan_in.max(1) as f64);
        (0..len).for_each(|k| put(k, rng.uniform(-bound, bound)));
    }
}

impl Expression for Vera {
    fn name(&self) -> &'static str {
        "vera"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
        visit("d_initial", Setting::Real(self.d_initial));
        visit("projection_seed", Setting::Count(self.projection_seed));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (w, rank) = (tape.weight(), self.rank as usize);
        let (out, row) = (w.rows(), w.columns());
        let a = tape.constant("vera_A", rank, row, |values, _| {
            (0..row).for_each(|j| self.draw(0, j, rank, row, |k, value| values[k * row + j] = value));
        });
        let b = tape.constant("vera_B", out, rank, |values, _| {
            (0..out).for_each(|i| self.draw(1, i, rank, rank, |k, value| values[i * rank + k] = value));
        });
        let lambda_b = tape.parameter("vera_lambda_b", out, 1, Start::ZERO);
        let lambda_d = tape.steady_parameter("vera_lambda_d", rank, 1, Start::Constant(self.d_initial));
        Ok(Form::two_factor(b.times(lambda_b), a.times(lambda_d)))
    }
}

/// `vera` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "vera",
    family: Family::Reparameterized,
    settings: &[
        SettingRow { name: "rank", default: "256", expected: "a whole number in 1..=256" },
        SettingRow { name: "d_initial", default: "0.1", expected: "a positive number" },
        SettingRow { name: "projection_seed", default: "0", expected: "a whole number below 2^32" },
    ],
    deploy: TWO_FACTOR,
    source: "VeRA: Vector-based Random Matrix Adaptation (2024)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Vera::new(s))),
};
