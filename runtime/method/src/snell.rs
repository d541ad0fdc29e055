//! SNELL and SNELLA: sparse deltas from distances between factors (Shen et al., 2024 and 2025).

use ingraft_train::{Revision, Setting, Unfit};

use crate::MethodError;
use crate::adalora::{importance, observe};
use crate::expression::{Expression, Form, Node, Revised, Start, Tape};
use crate::row::{Definition, FUSED, Family, Make, MethodRow, SettingRow, Settings, boxed};
use crate::schedule::Schedule;

/// Trains points p_i for inputs and q_o for outputs in two spaces of half the rank; the delta is the sparse difference of their
/// distances: `D = 0.1·(‖q_o − p_i‖₁ − ‖q_o − p_i‖₂)`, what is above the quantile τ of its sizes kept.
///
/// In `reference` mode, as in the authors' code, what is kept counts times its own size, `S = D·|D|`, with size and choice
/// constant on the way back; in `hard` mode it is D itself. τ = 0 is D as it is. Starts small and random, not as the base.
/// Tensors: `In_Qs` `[2·row, r/2]` and `Out_Qs` `[2·out, r/2]`. Parameters: `r·(out + row)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Snell {
    rank: u32,
    tau: f64,
    hard: bool,
}

/// SNELL with a mix of its distances, `D + α·softmax(D/γ) + β`, softmax over outputs, and one number of kept weights for all
/// sites.
///
/// Every step moves averages of `|θ·∂L/∂θ|` of the factors and of what it strays by; a site's score is their product's mean. The
/// number of kept weights of all sites falls from `1 − tau` to `1 − target` of them over `steps`, cubically, and every `interval`
/// steps is shared by score, no site beyond its size. Parameters: `r·(out + row) + 3`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Snella {
    own: Snell,
    target: f64,
    steps: u32,
    interval: u32,
}

impl Snell {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self {
            rank: settings.number("rank", |rank: &u32| (2..=256).contains(rank) && rank.is_multiple_of(2))?,
            tau: settings.number("tau", below_one)?,
            hard: settings.one_of("mode", &[("reference", false), ("hard", true)])?,
        })
    }

    fn visit(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
        visit("tau", Setting::Real(self.tau));
        visit("mode", Setting::Name(if self.hard { "hard" } else { "reference" }));
    }

    /// D, `[row, out]`.
    fn distances<'t>(&self, tape: &'t Tape<'t>) -> Node<'t> {
        let (out, row, half) = (tape.site().out, tape.site().row(), self.rank as usize / 2);
        let inputs = tape.parameter("In_Qs", 2 * row, half, Start::kaiming(row * half));
        let outputs = tape.parameter("Out_Qs", 2 * out, half, Start::kaiming(out * half));
        let ones = |rows, columns| tape.fixed(rows, columns, |ones, _| ones.fill(1.0));
        let [along, across, sum] = [ones(row, 1), ones(1, out), ones(half, 1)];
        let distance = |head: usize| {
            let of = |points: Node<'t>, len: usize| {
                points.rows_at(tape.fixed(len, 1, |rows, _| {
                    rows.iter_mut().enumerate().for_each(|(i, to)| *to = (head * len + i) as f64);
                }))
            };
            let (p, q) = (of(inputs, row), of(outputs, out));
            let lengths = |x: Node<'t>| x.times(x).matmul(sum);
            let squares = lengths(p).beside(along).matmul(across.above(lengths(q).transpose()));
            (squares - p.matmul(q.transpose()) * 2.0).square_root()
        };
        (distance(0) - distance(1)) * 0.1
    }

    /// What counts as constant on the way back.
    fn parts_held(&self) -> &'static [&'static str] {
        if self.tau == 0.0 {
            &[]
        } else if self.hard {
            &["which weights are kept"]
        } else {
            &["which weights are kept", "the size that what is kept is multiplied by"]
        }
    }

    /// The delta that is left of `dense` `[row, out]`.
    fn kept<'t>(&self, dense: Node<'t>, share: Node<'t>) -> Node<'t> {
        if self.tau == 0.0 {
            return dense.transpose();
        }
        let mask = dense.above_quantile(share).detach();
        let kept = dense.times(mask);
        let kept = if self.hard { kept } else { kept.times(dense.times(dense).square_root().detach()) };
        kept.transpose()
    }
}

impl Snella {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        let own = Snell::new(settings)?;
        Ok(Self {
            own,
            target: settings.number("target", below_one)?,
            steps: settings.number("steps", |steps| *steps > 0)?,
            interval: settings.number("interval", |steps| *steps > 0)?,
        })
    }

    /// When the kept are shared out.
    fn schedule(&self) -> Schedule {
        Schedule::periodic(self.interval, self.steps)
    }

    /// How many of `total` weights are kept after `step` steps.
    fn budget(&self, total: usize, step: u32) -> usize {
        let left = self.schedule().left(step);
        let [first, last] = [self.own.tau, self.target].map(|share| (1.0 - share) * total as f64);
        (last + (first - last) * left * left * left) as usize
    }
}

fn below_one(share: &f64) -> bool {
    (0.0..1.0).contains(share)
}

impl Expression for Snell {
    fn name(&self) -> &'static str {
        "snell"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        self.visit(visit);
    }

    fn detached(&self) -> &'static [&'static str] {
        self.parts_held()
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let share = tape.fixed(1, 1, |share, _| share.fill(self.tau));
        Ok(Form::delta(self.kept(self.distances(tape), share)))
    }
}

impl Expression for Snella {
    fn name(&self) -> &'static str {
        "snella"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        self.own.visit(visit);
        visit("target", Setting::Real(self.target));
        visit("steps", Setting::Count(self.steps));
        visit("interval", Setting::Count(self.interval));
    }

    fn detached(&self) -> &'static [&'static str] {
        self.own.parts_held()
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row, half) = (tape.site().out, tape.site().row(), self.own.rank as usize / 2);
        let plain = self.own.distances(tape);
        let one = |name, value| tape.steady_parameter(name, 1, 1, Start::Constant(value));
        let [alpha, gamma, beta] = [one("alpha", 1.0), one("gamma", 1.0), one("beta", 0.0)];
        let level = tape.fixed(row, out, |ones, _| ones.fill(1.0)).times(beta);
        let dense = plain + plain.times(gamma.reciprocal()).softmax().times(alpha) + level;
        let share = tape.constant("tau", 1, 1, |share, _| share.fill(self.own.tau));
        tape.constant("means_In", 2, 2 * row * half, |_, _| ());
        tape.constant("means_Out", 2, 2 * out * half, |_, _| ());
        Ok(Form::delta(self.own.kept(dense, share)))
    }

    fn revise(&self, sites: &mut Revised<'_, '_>, at: &Revision) {
        let (mut total, half) = (0, self.own.rank as usize / 2);
        let side = |means: &[f64]| means.len() / 4 / half.max(1);
        sites.each(&mut |site| {
            for (name, means) in [("In_Qs", "means_In"), ("Out_Qs", "means_Out")] {
                let (values, gradients, means) = site.beside(name, means);
                observe(values, gradients, at.gradient, means);
            }
            let [inputs, outputs, _] = site.kept(["means_In", "means_Out", "tau"]);
            total += side(inputs) * side(outputs);
        });
        if self.own.tau == 0.0 || !self.schedule().is_due(at.step) {
            return;
        }
        // Meanwhile the place of each share holds the number that is kept.
        allocate(self.budget(total, at.step), &mut |visit| {
            sites.each(&mut |site| {
                let [inputs, outputs, count] = site.kept(["means_In", "means_Out", "tau"]);
                let (score, size) = (score(inputs) + score(outputs), side(inputs) * side(outputs));
                count.iter_mut().for_each(|count| visit(score, size, count));
            });
        });
        sites.each(&mut |site| {
            let [inputs, outputs, share] = site.kept(["means_In", "means_Out", "tau"]);
            let size = (side(inputs) * side(outputs)).max(1);
            share.iter_mut().for_each(|share| *share = 1.0 - *share / size as f64);
        });
    }
}

/// The mean importance of a factor's values.
fn score(means: &[f64]) -> f64 {
    let len = means.len() / 2;
    (0..len).map(|at| importance(means, at)).sum::<f64>() / len.max(1) as f64
}

/// Calls back with score, size and number of every layer.
type Layers<'l> = dyn FnMut(&mut dyn FnMut(f64, usize, &mut f64)) + 'l;

/// Shares `budget` among layers by score, none beyond its size: whole shares, what is left again among those with
/// room, and what is less than one each to the highest scores, the first of equals. Where no layer has a score all are equal.
fn allocate(budget: usize, layers: &mut Layers<'_>) {
    layers(&mut |_, _, count| *count = 0.0);
    let mut left = budget;
    loop {
        let (mut room, mut open, mut scores) = (0, 0.0, 0.0);
        layers(&mut |score, size, count| {
            if (*count as usize) < size {
                (room, open, scores) = (room + size - *count as usize, open + 1.0, scores + score);
            }
        });
        left = left.min(room);
        if left == 0 {
            return;
        }
        let mut spent = 0;
        layers(&mut |score, size, count| {
            let own = if scores > 0.0 { score / scores } else { 1.0 / open };
            let share = ((left as f64 * own) as usize).min(size - *count as usize);
            *count += share as f64;
            spent += share;
        });
        left -= if spent == 0 { one_each(left, layers) } else { spent.min(left) };
    }
}

/// Gives one to as many as `wanted` layers with room, the highest scores first; gives how many there were.
fn one_each(wanted: usize, layers: &mut Layers<'_>) -> usize {
    let mut last: Option<(f64, usize)> = None;
    for given in 0..wanted {
        let (mut best, mut index) = (None::<(f64, usize)>, 0);
        layers(&mut |score, size, count| {
            let behind = last.is_none_or(|(s, i)| score < s || (score == s && index > i));
            if behind && (*count as usize) < size && best.is_none_or(|(s, _)| score > s) {
                best = Some((score, index));
            }
            index += 1;
        });
        let Some((_, chosen)) = best else { return given };
        index = 0;
        layers(&mut |_, _, count| {
            *count += f64::from(u8::from(index == chosen));
            index += 1;
        });
        last = best;
    }
    wanted
}

/// `snell` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "snell",
    family: Family::Reparameterized,
    settings: &[RANK_EVEN, TAU, MODE],
    deploy: FUSED,
    source: "Expanding Sparse Tuning for Low Memory Usage (2024)",
    definition: Definition::Verified,
    starts_as_base: false,
    make: Make::Expression(|s| boxed(Snell::new(s))),
};

/// `snella` as the list has it.
pub(crate) const ALLOCATED: MethodRow = MethodRow {
    name: "snella",
    family: Family::Reparameterized,
    settings: &[
        RANK_EVEN,
        TAU,
        MODE,
        SettingRow { name: "target", default: "0.9", expected: "a number from 0 to below 1" },
        SettingRow { name: "steps", default: "1000", expected: "a positive whole number" },
        SettingRow { name: "interval", default: "50", expected: "a positive whole number" },
    ],
    deploy: FUSED,
    source: "Kernelized Sparse Fine-Tuning with Bi-level Parameter Competition for Vision Models (2025)",
    definition: Definition::Verified,
    starts_as_base: false,
    make: Make::Expression(|s| boxed(Snella::new(s))),
};

const RANK_EVEN: SettingRow =
    SettingRow { name: "rank", default: "8", expected: "an even number in 2..=256" };
const TAU: SettingRow = SettingRow { name: "tau", default: "0.3", expected: "a number from 0 to below 1" };
const MODE: SettingRow = SettingRow { name: "mode", default: "reference", expected: "reference or hard" };

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// The case of the records with an allocation.
    fn record() -> serde_json::Value {
        let records = include_str!("../../../tests/golden/methods/records/records.json");
        let cases: Vec<serde_json::Value> = serde_json::from_str(records).unwrap();
        cases.into_iter().find(|case| !case["expected"]["kept"].is_null()).unwrap()
    }

    fn numbers(array: &serde_json::Value) -> Vec<f64> {
        array["data"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    }

    fn allocated(scores: &[f64], sizes: &[usize], budget: usize) -> Vec<f64> {
        let mut counts: Vec<f64> = scores.iter().map(|_| 7.0).collect();
        allocate(budget, &mut |visit| {
            let layers = scores.iter().zip(sizes).zip(&mut counts);
            layers.for_each(|((score, size), count)| visit(*score, *size, count));
        });
        counts
    }

    #[test]
    fn budgets_and_shares_are_those_of_the_record() {
        let case = record();
        let (constants, expected, hyper) = (&case["constants"], &case["expected"], &case["hyper"]);
        let sizes: Vec<usize> = numbers(&constants["layer_sizes"]).iter().map(|v| *v as usize).collect();
        let (init, target) = (hyper["init"].as_f64().unwrap(), hyper["target"].as_f64().unwrap());
        let snella = Snella { own: Snell { rank: 2, tau: init, hard: true }, target, steps: 4, interval: 1 };
        let total = sizes.iter().sum();
        let progress = hyper["progress"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap() * 4.0);
        let scores = numbers(&expected["layer_scores"]);
        let wanted = numbers(&expected["kept"]);
        for (step, (budget, kept)) in
            progress.zip(numbers(&expected["budgets"]).into_iter().zip(wanted.chunks(sizes.len())))
        {
            assert_eq!(snella.budget(total, step as u32) as f64, budget);
            assert_eq!(allocated(&scores, &sizes, budget as usize), kept);
        }
        // Scores of factors: moving averages over three gradients.
        let (factor, gradients) = (numbers(&constants["factor"]), numbers(&constants["factor_gradients"]));
        let layer = factor.len() / sizes.len();
        let found: Vec<f64> = (0..sizes.len())
            .map(|l| {
                let values: Vec<f32> = factor[l * layer..][..layer].iter().map(|v| *v as f32).collect();
                let mut means = alloc::vec![0.0; 2 * layer];
                for gradient in gradients.chunks(factor.len()) {
                    let own: Vec<f32> = gradient[l * layer..][..layer].iter().map(|v| *v as f32).collect();
                    observe(&values, &own, 1.0, &mut means);
                }
                super::score(&means)
            })
            .collect();
        let sum: f64 = found.iter().sum();
        for (found, wanted) in found.iter().zip(&scores) {
            assert!((found / sum - wanted).abs() < 1e-7, "{found} {wanted}");
        }
    }

    #[test]
    fn allocation_is_exact_whatever_the_scores() {
        assert_eq!(allocated(&[1.0, 1.0, 2.0], &[10, 10, 3], 12), [5.0, 4.0, 3.0]);
        assert_eq!(allocated(&[0.0, 0.0], &[4, 2], 5), [3.0, 2.0]);
        assert_eq!(allocated(&[0.0, 1.0, 0.0], &[4, 2, 4], 5), [2.0, 2.0, 1.0]);
        assert_eq!(allocated(&[3.0, 1.0], &[1, 1], 9), [1.0, 1.0]);
    }
}
