//! VectorFit: singular and bias vector fine-tuning (Hegde, Kaur & Tiwari, 2025).

use ingraft_train::{Revision, Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Revised, Start, Tape};
use crate::row::{Definition, FUSED, Family, Make, MethodRow, SettingRow, Settings, boxed, count};
use crate::schedule::Schedule;

/// Trains the singular values and the bias: `W' = U·diag(σ + δσ)·Vᵀ`, `b' = b + δb`.
///
/// Adaptive freezing: after step `warm_up`, every `interval` steps, `rounds` times, the strength of every vector of all sites (the mean
/// of |δ|, a moving mean of it with β = 0.9 over these checks) is taken, and the `frozen` strongest stay as they are until the next check; the optimizer's
/// moments run on. That over-trained vectors are frozen for a while is the authors' rule, its numbers are our reading.
/// Tensors: `vectorfit_sigma` `[k]`, `vectorfit_bias` `[out]`; constants `U`, `S`, `Vh`. Starts as the base.
/// Parameters: `min(out, row) + out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VectorFit {
    frozen: u32,
    warm_up: u32,
    interval: u32,
    rounds: u32,
}

impl VectorFit {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self {
            frozen: settings.number("frozen", |_| true)?,
            warm_up: settings.number("warm_up", |_| true)?,
            interval: settings.count("interval")?,
            rounds: settings.number("rounds", |_| true)?,
        })
    }
}

/// The trained vectors, their values when last free, and their strength and whether they are frozen.
const VECTORS: [[&str; 3]; 2] =
    [["vectorfit_sigma", "~held_sigma", "~state_sigma"], ["vectorfit_bias", "~held_bias", "~state_bias"]];

impl Expression for VectorFit {
    fn name(&self) -> &'static str {
        "vectorfit"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("frozen", Setting::Count(self.frozen));
        visit("warm_up", Setting::Count(self.warm_up));
        visit("interval", Setting::Count(self.interval));
        visit("rounds", Setting::Count(self.rounds));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let w = tape.weight();
        let [u, _, vt] = tape.svd(w, w.rows().min(w.columns()));
        let sigma = tape.parameter("vectorfit_sigma", 1, vt.rows(), Start::ZERO);
        let bias = tape.parameter("vectorfit_bias", w.rows(), 1, Start::ZERO);
        for ([_, held, state], len) in VECTORS.into_iter().zip([vt.rows(), w.rows()]) {
            tape.state(held, 1, len);
            tape.state(state, 1, 2);
        }
        Ok(Form::two_factor(u.times(sigma), vt).shifted(bias))
    }

    fn revise(&self, sites: &mut Revised<'_, '_>, at: &Revision) {
        sites.each(&mut |site| {
            for [name, held, state] in VECTORS {
                let frozen = site.kept([state, "", ""])[0].get(1).is_some_and(|frozen| *frozen != 0.0);
                let (values, _, held) = site.beside(name, held);
                for (value, held) in values.iter_mut().zip(held) {
                    if frozen { *value = *held as f32 } else { *held = f64::from(*value) }
                }
            }
        });
        let checks = self.checks();
        if checks.is_due(at.step) {
            // The check after the last round sets all free.
            let last = at.step == checks.until;
            self.check(sites, if last { 0 } else { self.frozen as usize });
        }
    }
}

impl VectorFit {
    /// When vectors are frozen, and at the end set free: a check before every round, and one behind the last.
    fn checks(&self) -> Schedule {
        let length = self.interval.saturating_mul(self.rounds.saturating_add(1));
        let until = self.warm_up.saturating_add(length);
        Schedule::periodic(self.interval, until).behind(self.warm_up).counted_from(self.warm_up)
    }

    /// Takes the strengths, and freezes the `count` strongest until the next check.
    fn check(&self, sites: &mut Revised<'_, '_>, count: usize) {
        sites.each(&mut |site| {
            for [name, _, state] in VECTORS {
                let (values, _, state) = site.beside(name, state);
                let size: f64 = values.iter().map(|v| f64::from(v.abs())).sum();
                if let [strength, frozen] = state {
                    *strength = BETA * *strength + (1.0 - BETA) * size / values.len().max(1) as f64;
                    *frozen = 0.0;
                }
            }
        });
        if count == 0 {
            return;
        }
        let least = sites.largest(count, &mut |site, tell| {
            for [_, _, state] in VECTORS {
                site.kept([state, "", ""])[0].first().into_iter().for_each(|strength| tell(*strength as f32));
            }
        });
        let mut left = count;
        sites.each(&mut |site| {
            for [_, _, state] in VECTORS {
                match &mut *site.kept([state, "", ""])[0] {
                    [strength, frozen] if *strength as f32 >= least && left != 0 => {
                        (*frozen, left) = (1.0, left - 1);
                    }
                    _ => {}
                }
            }
        });
    }
}

/// β of the moving mean of strengths.
const BETA: f64 = 0.9;

/// `vectorfit` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "vectorfit",
    family: Family::Reparameterized,
    settings: &[
        SettingRow { name: "frozen", default: "1", expected: "a number of vectors" },
        SettingRow { name: "warm_up", default: "100", expected: "a number of steps" },
        count("interval", "50"),
        SettingRow { name: "rounds", default: "10", expected: "a number of checks" },
    ],
    deploy: FUSED,
    source: "VectorFit: Adaptive Singular & Bias Vector Fine-Tuning of Pre-trained Foundation Models (2025)",
    definition: Definition::Inferred,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(VectorFit::new(s))),
};
