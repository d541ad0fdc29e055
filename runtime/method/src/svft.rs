//! SVFT: singular vector fine-tuning (Lingam et al., 2024).

use core::cmp::Ordering;

use ingraft_tensor::Rng;
use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::row::{Definition, FUSED, Family, Make, MethodRow, SettingRow, Settings, boxed};
use crate::select::best;

/// Trains a sparse matrix between the singular vectors of the weight: `W' = W + U·(σ(η)·M)·Vᵀ`, η one gate.
///
/// Values start normal with variance 2 over their number and η as 0, as published: the adapter does not
/// start as the base. Parameters: k or `k·(2d + 1) − d·(d + 1)` values for k = min(out, row) and d
/// diagonals on either side, and 1. The random and top-k patterns have as many values as the banded one, and equal places add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Svft {
    pattern: Pattern,
    off_diagonals: u32,
}

/// Which values of M are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pattern {
    /// The diagonal.
    Plain,
    /// The diagonal and some beside it.
    Banded,
    /// Drawn once, with repetitions.
    Random,
    /// Where left and right singular vectors are most alike, or, of a matrix that is not square, the largest of those
    /// that are.
    TopK,
}

impl Svft {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        let pattern = |text: &str| {
            [Pattern::Plain, Pattern::Banded, Pattern::Random, Pattern::TopK]
                .into_iter()
                .find(|pattern| pattern.name() == text)
        };
        Ok(Self {
            pattern: settings.value("pattern", pattern)?,
            off_diagonals: settings.number("off_diagonals", |d| *d > 0)?,
        })
    }

    /// Diagonals on either side that count at a matrix of `k` by `k`.
    fn width(&self, k: usize) -> usize {
        match self.pattern {
            Pattern::Plain => 0,
            Pattern::Banded | Pattern::Random | Pattern::TopK => {
                (self.off_diagonals as usize).min(k.saturating_sub(1))
            }
        }
    }

    /// Writes the places of the trained values.
    fn places(&self, k: usize, values: &mut [f64], rng: &mut Rng) {
        let width = self.width(k);
        let near = |row: usize| row.saturating_sub(width)..(row + width + 1).min(k);
        let band = (0..k).flat_map(|row| near(row).map(move |column| row * k + column));
        match self.pattern {
            Pattern::Plain | Pattern::Banded => {
                values.iter_mut().zip(band).for_each(|(to, at)| *to = at as f64)
            }
            Pattern::Random => values.iter_mut().for_each(|to| *to = rng.below(k * k) as f64),
            // Chosen by singular vectors instead.
            Pattern::TopK => {}
        }
    }
}

impl Pattern {
    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Banded => "banded",
            Self::Random => "random",
            Self::TopK => "top_k",
        }
    }
}

impl Expression for Svft {
    fn name(&self) -> &'static str {
        "svft"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("pattern", Setting::Name(self.pattern.name()));
        visit("off_diagonals", Setting::Count(self.off_diagonals));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let w = tape.weight();
        let k = w.rows().min(w.columns());
        let [u, _, vt] = tape.svd(w, k);
        let width = self.width(k);
        let count = k * (2 * width + 1) - width * (width + 1);
        let places = match self.pattern {
            Pattern::TopK => {
                let alike = match w.rows().cmp(&w.columns()) {
                    Ordering::Less => u,
                    Ordering::Equal => u.matmul(vt.transpose()),
                    Ordering::Greater => vt,
                };
                tape.derived("indices", alike, 1, count, |alike, places| {
                    let chosen = best(alike.data, count);
                    places.iter_mut().zip(chosen).for_each(|(to, place)| *to = place as f64);
                })
            }
            _ => tape.constant("indices", 1, count, |values, rng| self.places(k, values, rng)),
        };
        let values = tape.parameter("svft_m", 1, count, Start::Normal(libm::sqrt(2.0 / count.max(1) as f64)));
        let gate = tape.steady_parameter("svft_gate", 1, 1, Start::ZERO);
        let m = values.times(gate.sigmoid()).scatter(places, k, k);
        Ok(Form::delta(u.matmul(m).matmul(vt)))
    }
}

/// `svft` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "svft",
    family: Family::Reparameterized,
    settings: &[
        SettingRow { name: "pattern", default: "banded", expected: "plain, banded, random or top_k" },
        SettingRow { name: "off_diagonals", default: "2", expected: "a positive whole number" },
    ],
    deploy: FUSED,
    source: "SVFT: Parameter-Efficient Fine-Tuning with Singular Vectors (2024)",
    definition: Definition::Verified,
    starts_as_base: false,
    make: Make::Expression(|s| boxed(Svft::new(s))),
};
