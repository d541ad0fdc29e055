//! ID³: step-by-step unmasking (Agarwal et al., 2024).

use ingraft_train::{Revision, Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Revised, Start, Tape};
use crate::row::{Definition, FUSED, Family, Make, MethodRow, SettingRow, Settings, boxed};
use crate::schedule::Schedule;
use crate::sparse::Budget;

/// Unmasks weights step by step: `W' = W + S`, where every step of the first T lets those weights of all sites train whose
/// gradient is largest beside their size, `|g|/(|w| + ε)^e`, a T-th of the budget at a time.
///
/// What is unmasked stays so; all else is put back to the base after every step, so that it is never moved. While
/// training, every weight has a place in the optimizer; moments of a weight that is unmasked late have seen its gradients
/// before, where the published optimizer starts them anew. Starts as the base. Tensor: `id3_values` `[out, row]`. Parameters
/// that move in the end: the budget, a share of all weights or their number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Id3 {
    budget: f64,
    steps: u32,
    exponent: f64,
    epsilon: f64,
}

/// Calls back with the gradients and the state (sizes of the weights, then 1 where they are unmasked) of every site.
type Sites<'s> = dyn FnMut(&mut dyn FnMut(&[f32], &mut [f64])) + 's;

impl Id3 {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self {
            budget: settings.positive("budget")?,
            steps: settings.number("steps", |steps| *steps > 0)?,
            exponent: settings.number("exponent", |e: &f64| *e >= 0.0 && e.is_finite())?,
            epsilon: settings.positive("epsilon")?,
        })
    }

    /// How many of `total` weights step `step`, from 1, unmasks.
    fn quota(&self, total: usize, step: u32) -> usize {
        let (budget, steps) = (Budget::of(self.budget).units(total), self.steps as usize);
        match Schedule::per_step(self.steps).is_due(step) {
            true => budget / steps + usize::from(step as usize <= budget % steps),
            false => 0,
        }
    }

    /// What the weight of this size with this gradient is worth; its bits are ordered as it is.
    fn score(&self, gradient: f32, size: f64) -> u32 {
        let score = f64::from(gradient.abs()) / libm::pow(size + self.epsilon, self.exponent);
        (score as f32).to_bits()
    }

    /// Unmasks the `quota` best of what is masked, the first of equals.
    fn unmask(&self, quota: usize, sites: &mut Sites<'_>) {
        let each = |sites: &mut Sites<'_>, visit: &mut dyn FnMut(u32, &mut f64)| {
            sites(&mut |gradients, state| {
                let (sizes, masks) = state.split_at_mut(state.len() / 2);
                let masked = gradients.iter().zip(sizes).zip(masks).filter(|(_, mask)| **mask == 0.0);
                masked.for_each(|((gradient, size), mask)| visit(self.score(*gradient, *size), mask));
            });
        };
        let mut least = 0u32;
        for bit in (0..31).rev() {
            let (candidate, mut reached) = (least | 1 << bit, 0);
            each(sites, &mut |score, _| reached += usize::from(score >= candidate));
            if reached >= quota {
                least = candidate;
            }
        }
        let mut above = 0;
        each(sites, &mut |score, _| above += usize::from(score > least));
        let mut ties = quota.saturating_sub(above);
        each(sites, &mut |score, mask| {
            let tie = score == least && ties != 0;
            ties -= usize::from(tie);
            if tie || score > least {
                *mask = 1.0;
            }
        });
    }
}

impl Expression for Id3 {
    fn name(&self) -> &'static str {
        "id3"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("budget", Setting::Real(self.budget));
        visit("steps", Setting::Count(self.steps));
        visit("exponent", Setting::Real(self.exponent));
        visit("epsilon", Setting::Real(self.epsilon));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let w = tape.weight();
        let values = tape.parameter("id3_values", w.rows(), w.columns(), Start::ZERO);
        tape.derived("state", w, 2 * w.rows(), w.columns(), |w, state| {
            state.iter_mut().zip(w.data).for_each(|(size, w)| *size = libm::fabs(*w));
        });
        Ok(Form::delta(values))
    }

    fn revise(&self, sites: &mut Revised<'_, '_>, at: &Revision) {
        let mut total = 0;
        sites.each(&mut |site| total += site.trained("id3_values").0.len());
        let quota = self.quota(total, at.step);
        if quota != 0 {
            self.unmask(quota, &mut |visit| {
                sites.each(&mut |site| {
                    let (_, gradients, state) = site.beside("id3_values", "state");
                    visit(gradients, state);
                });
            });
        }
        sites.each(&mut |site| {
            let (values, _, state) = site.beside("id3_values", "state");
            let masks = state.iter().skip(values.len());
            values
                .iter_mut()
                .zip(masks)
                .filter(|(_, mask)| **mask == 0.0)
                .for_each(|(value, _)| *value = 0.0);
        });
    }
}

/// `id3` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "id3",
    family: Family::Selective,
    settings: &[
        SettingRow { name: "budget", default: "0.02", expected: "a share at most 1, or a number of weights" },
        SettingRow { name: "steps", default: "100", expected: "a positive whole number" },
        SettingRow { name: "exponent", default: "1", expected: "zero or a positive number" },
        SettingRow { name: "epsilon", default: "0.001", expected: "a positive number" },
    ],
    deploy: FUSED,
    source: "Step-by-Step Unmasking for Parameter-Efficient Fine-tuning of Large Language Models (2024)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Id3::new(s))),
};

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use serde_json::Value;

    fn numbers(array: &Value) -> Vec<f64> {
        array["data"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    }

    #[test]
    fn masks_and_steps_are_those_of_the_record() {
        let records = include_str!("../../../tests/golden/methods/records/records.json");
        let cases: Vec<Value> = serde_json::from_str(records).unwrap();
        let cases: Vec<&Value> = cases.iter().filter(|case| case["method"] == "id3").collect();
        assert_eq!(cases.len(), 3);
        for case in cases {
            let set = |name: &str| case["hyper"][name].as_f64().unwrap();
            let id3 = Id3 {
                budget: set("budget"),
                steps: set("steps") as u32,
                exponent: set("exponent"),
                epsilon: set("epsilon"),
            };
            let weight = numbers(&case["weight"]);
            let mut state: Vec<f64> = weight.iter().map(|w| w.abs()).collect();
            state.resize(2 * weight.len(), 0.0);
            let mut values = alloc::vec![0.0; weight.len()];
            let (gradients, masks) =
                (numbers(&case["constants"]["gradients"]), numbers(&case["expected"]["masks"]));
            let each = gradients.chunks(weight.len()).zip(masks.chunks(weight.len()));
            for (step, (gradient, wanted)) in each.enumerate() {
                let narrow: Vec<f32> = gradient.iter().map(|g| *g as f32).collect();
                let quota = id3.quota(weight.len(), step as u32 + 1);
                id3.unmask(quota, &mut |visit| visit(&narrow, &mut state));
                assert_eq!(state[weight.len()..], *wanted, "step {step} of {}", case["hyper"]);
                for (i, value) in values.iter_mut().enumerate() {
                    *value -= set("learning_rate") * gradient[i] * wanted[i];
                }
            }
            for ((w, v), wanted) in weight.iter().zip(&values).zip(numbers(&case["effective_weight"])) {
                assert!((w + v - wanted).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn quotas_add_up_to_the_budget() {
        for (budget, steps) in [(7.0, 3), (2.0, 5), (0.25, 4), (100.0, 7)] {
            let id3 = Id3 { budget, steps, exponent: 1.0, epsilon: 1e-3 };
            let spent: usize = (0..=steps + 2).map(|step| id3.quota(40, step)).sum();
            assert_eq!(spent, Budget::of(budget).units(40));
        }
    }
}
