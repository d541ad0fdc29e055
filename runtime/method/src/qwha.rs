//! QWHA: quantization-aware Walsh-Hadamard adaptation (Jeon et al., 2025).

use alloc::string::String;
use alloc::vec::Vec;

use ingraft_train::{Setting, Unfit};

use crate::expression::{Expression, Form, Revised, Start, Tape};
use crate::mask::draw;
use crate::rounding::Rounded;
use crate::row::{Definition, FUSED, Family, Make, MethodRow, RANK, SettingRow, Settings, boxed, positive};
use crate::{MethodError, Score};

/// Trains a few coefficients of every row's Walsh-Hadamard spectrum: `W' = W + λ/(√out·n)·F·H`, H of size n.
///
/// n is the row, or the next power of two, where the product is cut: the published sizes of other Hadamard matrices are padded
/// here. F is `[out, n]`, zero but at `r·(out + row)` places. With `start=zero` they are drawn once and coefficients start as
/// zero, the base. With `start=error`, as published, places and coefficients are those that give most of the error of the base's
/// quantization back on the inputs that the training clips bring ([`Score::Rounding`]); that needs the weights before it, which
/// a plan does not keep, so [`crate::build_on`] is given them, and the adapter does not start as the base. Tensors:
/// `qwha_values` `[P]`; constant `indices`, places in F. Parameters: `P = min(r·(out + row), out·n)`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Qwha {
    rank: u32,
    scale: f64,
    corrects: bool,
    /// Places and coefficients of sites, by name.
    starts: Vec<(String, Vec<(usize, f64)>)>,
}

impl Qwha {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        let (rank, scale) = (settings.rank()?, settings.positive("scale")?);
        let corrects = corrects(settings)?;
        let mut made = Self { rank, scale, corrects, starts: Vec::new() };
        if let Some(saliency) = settings.saliency.filter(|_| corrects) {
            let start = |site: &Rounded| {
                let [out, row] = site.shape();
                let unit = scale / libm::sqrt(out.max(1) as f64);
                let spectrum = site.spectrum(made.count(out, row)).into_iter();
                (site.name.clone(), spectrum.map(|(at, value)| (at, value / unit)).collect())
            };
            made.starts = saliency.rounded.iter().map(start).collect();
        }
        Ok(made)
    }

    /// P.
    fn count(&self, out: usize, row: usize) -> usize {
        let total = out.saturating_mul(row.next_power_of_two());
        (self.rank as usize).saturating_mul(out + row).min(total)
    }
}

fn corrects(settings: &Settings<'_>) -> Result<bool, MethodError> {
    settings.one_of("start", &[("zero", false), ("error", true)])
}

fn score(settings: &Settings<'_>) -> Result<Score, MethodError> {
    Ok(if corrects(settings)? { Score::Rounding } else { Score::Random })
}

impl Expression for Qwha {
    fn name(&self) -> &'static str {
        "qwha"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
        visit("scale", Setting::Real(self.scale));
        visit("start", Setting::Name(if self.corrects { "error" } else { "zero" }));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row) = (tape.site().out, tape.site().row());
        let size = row.next_power_of_two();
        let (total, count) = (out.saturating_mul(size), self.count(out, row));
        let places = tape.constant("indices", 1, count, |values, rng| draw(total, rng, values));
        let values = tape.parameter("qwha_values", 1, count, Start::ZERO);
        let spectrum = values.scatter(places, out, size).walsh_hadamard().crop(out, row);
        Ok(Form::delta(spectrum * (self.scale / (libm::sqrt(out.max(1) as f64) * size as f64))))
    }

    /// Not at the start of a site: places that were found there would pass for such as follow from the weight, and stay out of files.
    fn settle(&self, sites: &mut Revised<'_, '_>) {
        sites.each(&mut |site| {
            let start = self.starts.iter().find(|(name, _)| name == site.name());
            let Some((_, start)) = start else { return };
            let (values, _, places) = site.beside("qwha_values", "indices");
            // Coefficients beyond what a spectrum of the row can use stand at places not taken, as zeros.
            let taken = |place: &usize| start.binary_search_by_key(place, |(at, _)| *at).is_err();
            let rest = (0..).filter(taken).map(|place| (place, 0.0));
            for ((value, place), (at, start)) in
                values.iter_mut().zip(places).zip(start.iter().copied().chain(rest))
            {
                (*value, *place) = (start as f32, at as f64);
            }
        });
    }
}

/// `qwha` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "qwha",
    family: Family::Reparameterized,
    settings: &[
        RANK,
        positive("scale", "0.25"),
        SettingRow { name: "start", default: "zero", expected: "zero or error" },
    ],
    deploy: FUSED,
    source: "QWHA: Quantization-Aware Walsh-Hadamard Adaptation for Parameter-Efficient Fine-Tuning on Large Language Models (2025)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::MeasuredExpression { score, make: |s| boxed(Qwha::new(s)) },
};
