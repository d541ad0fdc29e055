//! FourierFT: discrete Fourier transform adaptation (Gao et al., 2024).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::row::{Definition, FUSED, Family, LOC_SEED, Make, MethodRow, SettingRow, Settings, boxed};
use crate::torch::TorchRng;

/// Trains a few coefficients of the delta's spectrum: `W' = W + s·Re(F⁻¹(S))`, S zero but at n places
/// drawn once, the same for the whole run.
///
/// The places are the first n of PyTorch's `randperm(out·row)` from `random_loc_seed`, as in HF PEFT, which stores the seed
/// alone: sites of one shape have the same. Constant `indices`, in the order of `fourierft_spectrum`.
/// The published start is N(0, 1); here it is zero, so that the adapter starts as the base. Sites of
/// fewer than n weights train a coefficient for each. Parameters: `min(n, out·row)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct FourierFt {
    frequencies: u32,
    scale: f64,
    random_loc_seed: u32,
}

impl FourierFt {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self {
            frequencies: settings.number("frequencies", |n| *n > 0)?,
            scale: settings.positive("scale")?,
            random_loc_seed: settings.number("random_loc_seed", |_| true)?,
        })
    }
}

impl Expression for FourierFt {
    fn name(&self) -> &'static str {
        "fourierft"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("frequencies", Setting::Count(self.frequencies));
        visit("scale", Setting::Real(self.scale));
        visit("random_loc_seed", Setting::Count(self.random_loc_seed));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row) = (tape.site().out, tape.site().row());
        let total = out.saturating_mul(row);
        let count = (self.frequencies as usize).min(total);
        let places = tape.constant("indices", 1, count, |values, _| {
            let drawn = TorchRng::new(self.random_loc_seed.into()).permutation(total, count);
            values.iter_mut().zip(drawn).for_each(|(to, place)| *to = place as f64);
        });
        let spectrum = tape.parameter("fourierft_spectrum", 1, count, Start::ZERO);
        Ok(Form::delta(spectrum.scatter(places, out, row).inverse_fourier() * self.scale))
    }
}

/// `fourierft` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "fourierft",
    family: Family::Reparameterized,
    settings: &[
        SettingRow { name: "frequencies", default: "1000", expected: "a positive whole number" },
        SettingRow { name: "scale", default: "150", expected: "a positive number" },
        LOC_SEED,
    ],
    deploy: FUSED,
    source: "Parameter-Efficient Fine-Tuning with Discrete Fourier Transform (2024)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(FourierFt::new(s))),
};
