//! AdaLoRA: adaptive budget allocation (Zhang et al., 2023).

use ingraft_train::{Revision, Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Revised, Start, Tape};
use crate::row::{
    ALPHA, Definition, Family, Make, MethodRow, RANK, SettingRow, Settings, TWO_FACTOR, boxed, count,
};
use crate::schedule::Schedule;

/// Trains a delta shaped like a singular value decomposition, and prunes its values over all sites:
/// `W' = W + s·B·diag(E)·A`, s = α/(r + 10⁻⁵).
///
/// A triplet's importance is that of E and the mean of those of its row of A and column of B; that of a parameter is the moving
/// mean of |θ·∂θ| times the moving mean of what that strays by, both with β = 0.85. From step `warm_up` to `final` steps before `steps` the
/// budget falls from r to `target_rank` per site, by the cube, and every `interval` steps the E of the least important
/// triplets of all sites become zero; after that what is pruned stays. After every step A and B are drawn to
/// orthonormal rows and columns by the gradient of `‖A·Aᵀ − I‖² + ‖Bᵀ·B − I‖²` times `orthogonality`, apart from the
/// optimizer. Tensors as in HF PEFT: `lora_A` `[r, row]`, `lora_B` `[out, r]`, normal with deviation 0.02, `lora_E` `[r, 1]` from zero.
/// Starts as the base. Parameters: `r·(out + row) + r`; twice as many moving means, in f64.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct AdaLora {
    rank: u32,
    alpha: f64,
    target_rank: u32,
    warm_up: u32,
    last: u32,
    interval: u32,
    steps: u32,
    orthogonality: f64,
}

impl AdaLora {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        let rank = settings.rank()?;
        Ok(Self {
            rank,
            alpha: settings.positive("alpha")?,
            target_rank: settings.number("target_rank", |target| (1..=rank).contains(target))?,
            warm_up: settings.number("warm_up", |_| true)?,
            last: settings.number("final", |_| true)?,
            interval: settings.count("interval")?,
            steps: settings.count("steps")?,
            orthogonality: settings.number("orthogonality", |v: &f64| *v >= 0.0 && v.is_finite())?,
        })
    }

    /// When triplets are pruned; at its end what is pruned is settled.
    fn schedule(&self) -> Schedule {
        Schedule::periodic(self.interval, self.steps.saturating_sub(self.last)).behind(self.warm_up)
    }

    /// Triplets that `sites` sites keep at `step`; `None` when none are pruned then.
    fn budget(&self, sites: usize, step: u32) -> Option<usize> {
        let (initial, target) = (sites * self.rank as usize, sites * self.target_rank as usize);
        let schedule = self.schedule();
        let left = schedule.left(step);
        let above = libm::floor((initial - target) as f64 * left * left * left) as usize;
        // The end prunes whether or not an interval ends with it.
        let due = schedule.is_due(step) || (step == schedule.until && schedule.spans(step));
        due.then_some(target + above)
    }
}

/// Moves the two moving means of `|value·gradient|`; `means` has the mean, then what it strays by, of every value.
pub(crate) fn observe(values: &[f32], gradients: &[f32], scale: f32, means: &mut [f64]) {
    let (mean, stray) = means.split_at_mut(values.len().min(means.len()));
    for ((value, gradient), (mean, stray)) in values.iter().zip(gradients).zip(mean.iter_mut().zip(stray)) {
        let importance = f64::from((value * gradient * scale).abs());
        *mean = BETA * *mean + (1.0 - BETA) * importance;
        *stray = BETA * *stray + (1.0 - BETA) * libm::fabs(importance - *mean);
    }
}

/// Importance of the value at `at`.
pub(crate) fn importance(means: &[f64], at: usize) -> f64 {
    means.get(at).copied().unwrap_or(0.0) * means.get(means.len() / 2 + at).copied().unwrap_or(0.0)
}

/// Draws `count` vectors, element i of vector k at `k·stride + i·step`, to be orthonormal: one step of `rate`.
fn orthogonalize(values: &mut [f32], count: usize, len: usize, [stride, step]: [usize; 2], rate: f32) {
    let mut products = [0.0f32; MAX_RANK];
    for k in 0..count.min(MAX_RANK) {
        for (j, product) in products.iter_mut().enumerate().take(count) {
            let pairs = (0..len).map(|i| values[k * stride + i * step] * values[j * stride + i * step]);
            *product = pairs.sum::<f32>() - f32::from(u8::from(j == k));
        }
        for i in 0..len {
            let along = products.iter().take(count).enumerate();
            let slope: f32 = along.map(|(j, product)| product * values[j * stride + i * step]).sum();
            values[k * stride + i * step] -= 4.0 * rate * slope;
        }
    }
}

impl Expression for AdaLora {
    fn name(&self) -> &'static str {
        "adalora"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
        visit("alpha", Setting::Real(self.alpha));
        visit("target_rank", Setting::Count(self.target_rank));
        visit("warm_up", Setting::Count(self.warm_up));
        visit("final", Setting::Count(self.last));
        visit("interval", Setting::Count(self.interval));
        visit("steps", Setting::Count(self.steps));
        visit("orthogonality", Setting::Real(self.orthogonality));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row, rank) = (tape.site().out, tape.site().row(), self.rank as usize);
        let a = tape.parameter("lora_A", rank, row, Start::Normal(0.02));
        let b = tape.parameter("lora_B", out, rank, Start::Normal(0.02));
        let e = tape.parameter("lora_E", rank, 1, Start::ZERO);
        for (name, len) in [("~means_A", rank * row), ("~means_B", out * rank), ("~means_E", rank)] {
            tape.state(name, 2, len);
        }
        tape.state("~scores", rank, 1);
        tape.constant("~kept", rank, 1, |kept, _| kept.fill(1.0));
        let scale = self.alpha / (f64::from(self.rank) + 1e-5);
        Ok(Form::two_factor(b * scale, a.times(e)))
    }

    fn revise(&self, sites: &mut Revised<'_, '_>, at: &Revision) {
        let (rank, mut count) = (self.rank as usize, 0);
        let rate = at.learning_rate * self.orthogonality as f32;
        let settled = self.schedule().until;
        sites.each(&mut |site| {
            count += 1;
            for (name, means) in [("lora_A", "~means_A"), ("lora_B", "~means_B"), ("lora_E", "~means_E")] {
                let (values, gradients, means) = site.beside(name, means);
                if at.step < settled {
                    observe(values, gradients, at.gradient, means);
                }
            }
            let (a, _) = site.trained("lora_A");
            let row = a.len() / rank.max(1);
            orthogonalize(a, rank, row, [row, 1], rate);
            let (b, _) = site.trained("lora_B");
            let out = b.len() / rank.max(1);
            orthogonalize(b, rank, out, [1, rank], rate);
        });
        if let Some(budget) = self.budget(count, at.step) {
            self.prune(sites, budget);
        }
        sites.each(&mut |site| {
            let (e, _, kept) = site.beside("lora_E", "~kept");
            let fixed = at.step >= settled;
            e.iter_mut().zip(kept).filter(|(_, kept)| fixed && **kept == 0.0).for_each(|(e, _)| *e = 0.0);
        });
    }
}

impl AdaLora {
    /// Zeroes all but the `budget` most important triplets of all sites.
    fn prune(&self, sites: &mut Revised<'_, '_>, budget: usize) {
        let rank = self.rank as usize;
        sites.each(&mut |site| {
            let [a, b, _] = site.kept(["~means_A", "~means_B", "~means_E"]);
            let (row, out) = (a.len() / 2 / rank.max(1), b.len() / 2 / rank.max(1));
            let mut shares = [0.0f64; MAX_RANK];
            for (k, share) in shares.iter_mut().enumerate().take(rank) {
                let of_a: f64 = (0..row).map(|i| importance(a, k * row + i)).sum();
                let of_b: f64 = (0..out).map(|o| importance(b, o * rank + k)).sum();
                *share = of_a / row.max(1) as f64 + of_b / out.max(1) as f64;
            }
            let [scores, e, _] = site.kept(["~scores", "~means_E", "~kept"]);
            for (k, (score, share)) in scores.iter_mut().zip(shares).enumerate() {
                *score = importance(e, k) + share;
            }
        });
        let least = sites.largest(budget, &mut |site, tell| {
            site.kept(["~scores", "~means_E", "~kept"])[0].iter().for_each(|score| tell(*score as f32));
        });
        let mut left = budget;
        sites.each(&mut |site| {
            let [scores, _, kept] = site.kept(["~scores", "~means_E", "~kept"]);
            for (score, kept) in scores.iter().zip(kept) {
                let keep = *score as f32 >= least && left != 0;
                left -= usize::from(keep);
                *kept = f64::from(u8::from(keep));
            }
            let (e, _, kept) = site.beside("lora_E", "~kept");
            e.iter_mut().zip(kept).for_each(|(e, kept)| *e *= *kept as f32);
        });
    }
}

/// β of both moving means.
const BETA: f64 = 0.85;
/// The largest rank.
const MAX_RANK: usize = 256;

/// `adalora` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "adalora",
    family: Family::Reparameterized,
    settings: &[
        SettingRow { default: "12", ..RANK },
        ALPHA,
        SettingRow { name: "target_rank", default: "8", expected: "a whole number in 1..=rank" },
        SettingRow { name: "warm_up", default: "100", expected: "a number of steps" },
        SettingRow { name: "final", default: "200", expected: "a number of steps" },
        count("interval", "10"),
        count("steps", "1000"),
        SettingRow { name: "orthogonality", default: "0.1", expected: "zero or a positive number" },
    ],
    deploy: TWO_FACTOR,
    source: "AdaLoRA: Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning (2023)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(AdaLora::new(s))),
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Settings;

    fn method() -> AdaLora {
        let given =
            [("rank", "12"), ("target_rank", "4"), ("warm_up", "10"), ("final", "20"), ("steps", "110")];
        AdaLora::new(&Settings { row: &ROW, given: &given, saliency: None }).unwrap()
    }

    #[test]
    fn the_budget_falls_by_the_cube_and_is_met_in_the_end() {
        let method = method();
        // Between steps 10 and 90: halfway there an eighth of what is to go is left.
        assert_eq!(method.budget(3, 10), None);
        assert_eq!(method.budget(3, 50), Some(12 + 3));
        assert_eq!(method.budget(3, 55), None);
        assert_eq!(method.budget(3, 90), Some(12));
        assert_eq!(method.budget(3, 91), None);
    }

    #[test]
    fn vectors_become_orthonormal() {
        let mut values = [0.9f32, 0.1, 0.2, -0.2, 1.1, 0.0];
        (0..400).for_each(|_| orthogonalize(&mut values, 2, 3, [3, 1], 0.05));
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let (a, b) = values.split_at(3);
        assert!((dot(a, a) - 1.0).abs() < 1e-4 && (dot(b, b) - 1.0).abs() < 1e-4 && dot(a, b).abs() < 1e-4);
    }

    #[test]
    fn moving_means_weigh_what_strays() {
        let mut means = [0.0; 4];
        observe(&[2.0, 0.5], &[-1.0, 0.0], 0.5, &mut means);
        assert!((means[0] - 0.15).abs() < 1e-7 && (means[2] - 0.15 * 0.85).abs() < 1e-7);
        assert_eq!((importance(&means, 0), importance(&means, 1)), (means[0] * means[2], 0.0));
    }
}
