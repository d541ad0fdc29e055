//! Uni-LoRA: one vector is all you need (Li et al., 2025).

use alloc::vec;

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Among, Expression, Form, Revised, Start, Tape};
use crate::row::{Definition, Family, Make, MethodRow, RANK, SettingRow, Settings, TWO_FACTOR, boxed, count};

/// Both factors of every site are values of one trained vector θ: `W' = W + B·A`, where each element of A and B is that of θ
/// at a drawn place, over the root of how often the place was drawn.
///
/// The counts run over all sites, so that the map from θ to all factors keeps lengths. θ starts uniform in ±0.02: the
/// adapter does not start as the base. Tensors: `unilora_theta_d` `[d]`, the same at every site
/// and in files once; constants `unilora_indices_A` and `unilora_scales_A` `[r, row]`, `unilora_indices_B` and
/// `unilora_scales_B` `[out, r]`. Parameters: `d` in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UniLora {
    rank: u32,
    length: u32,
}

/// Places and scales of A, then of B.
const DRAWN: [&str; 4] = ["unilora_indices_A", "unilora_scales_A", "unilora_indices_B", "unilora_scales_B"];

impl UniLora {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self { rank: settings.rank()?, length: settings.count("theta_d_length")? })
    }
}

impl Expression for UniLora {
    fn name(&self) -> &'static str {
        "unilora"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
        visit("theta_d_length", Setting::Count(self.length));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row, rank) = (tape.site().out, tape.site().row(), self.rank as usize);
        let length = self.length as usize;
        tape.share(Among::All);
        let theta = tape.parameter("unilora_theta_d", 1, length, Start::Uniform(0.02));
        let factor = |[indices, scales]: [&'static str; 2], rows, columns| {
            let indices = tape.constant(indices, rows, columns, |places, rng| {
                places.iter_mut().for_each(|place| *place = rng.below(length) as f64);
            });
            // Until `settle` knows how often a place was drawn.
            let scales = tape.constant(scales, rows, columns, |scales, _| scales.fill(1.0));
            theta.gather(indices).times(scales)
        };
        let [indices_a, scales_a, indices_b, scales_b] = DRAWN;
        let down = factor([indices_a, scales_a], rank, row);
        Ok(Form::two_factor(factor([indices_b, scales_b], out, rank), down))
    }

    fn settle(&self, sites: &mut Revised<'_, '_>) {
        let mut counts = vec![0.0f64; self.length as usize];
        sites.each(&mut |site| {
            let [a, b] = site.kept([DRAWN[0], DRAWN[2]]);
            let places = a.iter().chain(&*b).map(|place| *place as usize);
            places.for_each(|place| counts.get_mut(place).into_iter().for_each(|count| *count += 1.0));
        });
        sites.each(&mut |site| {
            let [places_a, scales_a, places_b, scales_b] = site.kept(DRAWN);
            let scales = scales_a.iter_mut().chain(scales_b);
            for (scale, place) in scales.zip(places_a.iter().chain(&*places_b)) {
                let count = counts.get(*place as usize).copied().unwrap_or(1.0);
                *scale = 1.0 / libm::sqrt(count.max(1.0));
            }
        });
    }
}

/// `unilora` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "unilora",
    family: Family::Reparameterized,
    settings: &[SettingRow { default: "4", ..RANK }, count("theta_d_length", "256")],
    deploy: TWO_FACTOR,
    source: "Uni-LoRA: One Vector is All You Need (2025)",
    definition: Definition::Verified,
    starts_as_base: false,
    make: Make::Expression(|s| boxed(UniLora::new(s))),
};
