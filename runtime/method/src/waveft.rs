//! WaveFT: sparse fine-tuning in the wavelet domain (Bilican et al., 2025).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::row::{Definition, FUSED, Family, LOC_SEED, Make, MethodRow, SettingRow, Settings, boxed};
use crate::torch::TorchRng;

/// Trains a few Haar wavelet coefficients of the delta: `W' = W + s·IDWT(C)`, C zero but at n places drawn once.
///
/// The places are the first n of PyTorch's `randperm(out·row)` from `random_loc_seed`, as in HF PEFT, which stores the seed
/// alone; constant `indices` has them as places in C. An odd side is one longer in C, and cut. Starts as the base. Sites of fewer than n weights
/// train a coefficient for each. Parameters: `min(n, out·row)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct WaveFt {
    coefficients: u32,
    scale: f64,
    random_loc_seed: u32,
}

impl WaveFt {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        let coefficients = settings.number("coefficients", |n| *n > 0)?;
        let random_loc_seed = settings.number("random_loc_seed", |_| true)?;
        Ok(Self { coefficients, scale: settings.positive("scale")?, random_loc_seed })
    }
}

impl Expression for WaveFt {
    fn name(&self) -> &'static str {
        "waveft"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("coefficients", Setting::Count(self.coefficients));
        visit("scale", Setting::Real(self.scale));
        visit("random_loc_seed", Setting::Count(self.random_loc_seed));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row) = (tape.site().out, tape.site().row());
        let (rows, columns) = (out.next_multiple_of(2), row.next_multiple_of(2));
        let total = out.saturating_mul(row);
        let count = (self.coefficients as usize).min(total);
        let places = tape.constant("indices", 1, count, |values, _| {
            let drawn = TorchRng::new(self.random_loc_seed.into()).permutation(total, count);
            values.iter_mut().zip(drawn).for_each(|(to, at)| *to = (at / row * columns + at % row) as f64);
        });
        let spectrum = tape.parameter("waveft_spectrum", 1, count, Start::ZERO);
        let delta = spectrum.scatter(places, rows, columns).inverse_haar().crop(out, row);
        Ok(Form::delta(delta * self.scale))
    }
}

/// `waveft` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "waveft",
    family: Family::Reparameterized,
    settings: &[
        SettingRow { name: "coefficients", default: "2592", expected: "a positive whole number" },
        SettingRow { name: "scale", default: "25", expected: "a positive number" },
        LOC_SEED,
    ],
    deploy: FUSED,
    source: "Exploring Sparsity for Parameter Efficient Fine Tuning Using Wavelets (2025)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(WaveFt::new(s))),
};
