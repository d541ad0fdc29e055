//! Membership: was a record among those learned from?
//!
//! Many adapters are trained, each on the records that coins choose, half of them. An attack scores every record against
//! every adapter; each pair is a trial, whose truth is the coin. Two attacks: the loss of the record (Yeom et al. 2018), and the
//! likelihood ratio of its margin under adapters that saw it and that did not, from all other runs (Carlini et al. 2022,
//! "Membership Inference Attacks From First Principles", online, one variance).

use ingraft_dataset::Rng;
use ingraft_dataset::stats::Separation;

use super::records::Records;

/// One adapter: which records it saw, and how it answers every one.
#[derive(Clone, Debug)]
pub(crate) struct Shadow {
    pub(crate) saw: Vec<bool>,
    /// By record: how far the true class's logit is above the log of the others' sum, which is the logit of its probability.
    pub(crate) margins: Vec<f64>,
    /// Share of the records it did not see that it gets right.
    pub(crate) accuracy: f64,
}

/// What attacks make of adapters.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    pub(crate) trials: usize,
    pub(crate) loss: Separation,
    pub(crate) likelihood: Separation,
    /// Mean accuracy of the adapters on records they did not see.
    pub(crate) accuracy: f64,
}

/// The share of others that may be called members.
pub(crate) const FALSE_POSITIVES: f64 = 0.01;

/// The records of one run: each by a coin.
pub(crate) fn coins(records: usize, seed: u64, run: u64) -> Vec<bool> {
    let mut rng = Rng::stream(seed, run);
    (0..records).map(|_| rng.below(2) == 1).collect()
}

impl Shadow {
    /// The answers of a head with this weight `[classes, features]` and bias to `records`, of which it saw some.
    pub(crate) fn new(records: &Records, saw: Vec<bool>, (weight, bias): &(Vec<f32>, Vec<f32>)) -> Self {
        let (mut right, mut unseen) = (0u32, 0u32);
        let mut margins = Vec::with_capacity(saw.len());
        for ((features, label), saw) in records.features.iter().zip(&records.labels).zip(&saw) {
            let logits: Vec<f64> = weight
                .chunks_exact(features.len().max(1))
                .zip(bias)
                .map(|(row, bias)| {
                    let dot: f64 = row.iter().zip(features).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                    dot + f64::from(*bias)
                })
                .collect();
            let class = label.first().copied().unwrap_or(0);
            let own = logits.get(class).copied().unwrap_or(f64::NAN);
            let others = logits.iter().enumerate().filter(|(other, _)| *other != class).map(|(_, v)| *v);
            let most = others.clone().fold(f64::NEG_INFINITY, f64::max);
            margins.push(own - most - others.map(|v| (v - most).exp()).sum::<f64>().ln());
            if !saw {
                unseen += 1;
                right += u32::from(own > most);
            }
        }
        Self { saw, margins, accuracy: f64::from(right) / f64::from(unseen.max(1)) }
    }
}

impl Membership {
    /// What the attacks tell of `shadows`; `None` where there are too few.
    pub(crate) fn of(shadows: &[Shadow]) -> Option<Self> {
        let records = shadows.first()?.saw.len();
        let (mut members, mut others) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for record in 0..records {
            let told: Vec<(bool, f64)> = shadows.iter().map(|s| (s.saw[record], s.margins[record])).collect();
            for (run, (saw, margin)) in told.iter().enumerate() {
                let side = if *saw { &mut members } else { &mut others };
                side[0].push(*margin);
                side[1].push(likelihood_ratio(&told, run));
            }
        }
        let separate = |attack: usize| Separation::new(&members[attack], &others[attack], FALSE_POSITIVES);
        let accuracy = shadows.iter().map(|shadow| shadow.accuracy).sum::<f64>() / shadows.len() as f64;
        Some(Self { trials: records * shadows.len(), loss: separate(0)?, likelihood: separate(1)?, accuracy })
    }

    /// The upper bound of the attack that does better.
    pub(crate) fn upper_bound(&self) -> f64 {
        self.loss.upper_bound().max(self.likelihood.upper_bound())
    }
}

/// Log of how much likelier the margin of run `run` is from adapters that saw the record than from those that did not, by all
/// other runs; 0 where one side has none.
fn likelihood_ratio(told: &[(bool, f64)], run: usize) -> f64 {
    let mut sides = [(0.0, 0.0, 0.0); 2];
    for (_, (saw, margin)) in told.iter().enumerate().filter(|(other, _)| *other != run) {
        let side = &mut sides[usize::from(*saw)];
        *side = (side.0 + 1.0, side.1 + margin, side.2 + margin * margin);
    }
    let [out, within] = sides;
    if out.0 < 1.0 || within.0 < 1.0 || out.0 + within.0 < 3.0 {
        return 0.0;
    }
    let (mean_out, mean_in) = (out.1 / out.0, within.1 / within.0);
    let squares = out.2 - out.0 * mean_out * mean_out + within.2 - within.0 * mean_in * mean_in;
    let variance = (squares / (out.0 + within.0 - 2.0)).max(1e-12);
    let margin = told[run].1;
    ((margin - mean_out).powi(2) - (margin - mean_in).powi(2)) / (2.0 * variance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::records::normal;

    /// Shadows whose margins move by `effect` deviations where they saw the record.
    fn shadows(effect: f64) -> Vec<Shadow> {
        let mut rng = Rng::new(8);
        let own: Vec<f64> = (0..200).map(|_| 5.0 * normal(&mut rng)).collect();
        (0..24)
            .map(|run| {
                let saw = coins(200, 1, run);
                let shift = |saw: &bool| if *saw { effect } else { 0.0 };
                let margins = own.iter().zip(&saw).map(|(m, s)| m + shift(s) + normal(&mut rng)).collect();
                Shadow { saw, margins, accuracy: 0.5 }
            })
            .collect()
    }

    #[test]
    fn what_moves_by_a_deviation_is_told_and_what_does_not_is_not() {
        let told = Membership::of(&shadows(1.0)).expect("enough of both");
        // Two normal distributions a deviation apart: Φ(1/√2) = 0.76, less what estimating them costs.
        assert!(told.likelihood.auc > 0.70 && told.likelihood.auc < 0.78, "{told:?}");
        assert!(told.loss.auc < 0.60, "the loss alone does not know what is hard: {told:?}");
        let nothing = Membership::of(&shadows(0.0)).expect("enough of both");
        assert!(nothing.upper_bound() < 0.55, "{nothing:?}");
        assert_eq!(nothing.trials, 4800);
    }

    #[test]
    fn margins_are_logits_of_probabilities() {
        let records = Records { features: vec![vec![1.0, 2.0]], labels: vec![vec![1]] };
        let head = (vec![0.5, 0.0, 1.0, -1.0, 0.0, 0.25], vec![0.1, 0.2, 0.3]);
        let shadow = Shadow::new(&records, vec![false], &head);
        let logits: [f64; 3] = [0.6, -0.8, 0.8];
        let p = logits[1].exp() / logits.iter().map(|v| v.exp()).sum::<f64>();
        assert!((shadow.margins[0] - (p / (1.0 - p)).ln()).abs() < 1e-6);
        assert_eq!(shadow.accuracy, 0.0);
    }
}
