//! What each output of a layer adds to the model's answer: integrated gradients (Sundararajan et al., 2017).

use alloc::vec;
use alloc::vec::Vec;

use ingraft_adapter::TermSource;
use ingraft_kernel::Sites;
use ingraft_train::{Clip, FrozenSite, Loss, TrainError, Trainer, Truth};

use crate::Saliency;
use crate::select::best;

/// Points of the path from an output of zero to the output as it is.
const POINTS: usize = 7;

/// How many rows a quota in percent is of `rows`, rounded down, at least one.
pub(crate) fn quota(percent: f64, rows: usize) -> usize {
    ((percent * rows as f64 / 100.0) as usize).clamp(1, rows.max(1))
}

/// How many of `clips` have each output among their least `percent`; `attributions` are clip by clip.
///
/// Of equal attributions the first output is taken. Scaling those of a clip to 0…1, as published, orders them alike.
pub(crate) fn votes(attributions: &[f64], clips: usize, percent: f64) -> Vec<usize> {
    let outputs = attributions.len() / clips.max(1);
    let mut votes = vec![0; outputs];
    for clip in attributions.chunks_exact(outputs.max(1)) {
        let least: Vec<f64> = clip.iter().map(|a| -a).collect();
        best(&least, quota(percent, outputs)).into_iter().for_each(|output| votes[output] += 1);
    }
    votes
}

impl Saliency {
    /// Takes in, for every site, the attribution of its outputs in one clip, summed over positions: the mean of
    /// ∂L/∂z over z = k/7 of the layer's output, k from 1 to 7, all other layers as they are.
    ///
    /// L is the probability of the model's own answer under a cross-entropy without smoothing, as in the published code (the paper's
    /// text has the logit), and minus the loss under any other. [`crate::Full`] can scale an output: a delta of (k/7 − 1)·W, a shift of
    /// (k/7 − 1)·b. That is seven passes for every site.
    pub(crate) fn attribute(
        &mut self,
        trainer: &mut Trainer<'_, '_>,
        clip: Clip<'_>,
    ) -> Result<bool, TrainError> {
        let logits = trainer.logits(clip)?.iter().enumerate();
        let answer = logits.reduce(|best, next| if next.1 > best.1 { next } else { best });
        let answer = Truth::Class(answer.map_or(0, |(class, _)| class));
        let probable = matches!(trainer.setup().loss, Loss::CrossEntropy { .. });
        let start = trainer.parameters().values().to_vec();
        let sites: Vec<u32> = trainer.sites().collect();
        let plan = *trainer.plan();
        let lengths =
            sites.iter().filter_map(|site| plan.site(*site as usize)).map(|s| s.out * s.row() + s.out);
        let Some(mut first) = start.len().checked_sub(lengths.sum()) else { return Ok(false) };
        for site in sites {
            let Some(frozen) = FrozenSite::new(&plan, site as usize) else { return Ok(false) };
            let (out, row) = (frozen.desc.out, frozen.desc.row());
            let terms = trainer.parameters().terms(site as usize);
            if !self.has(frozen.desc.name) || terms.dense.is_none() || terms.affine.is_none() {
                return Ok(false);
            }
            let (weight, shift) = (first, first + out * row);
            let mut found = vec![0.0; out];
            for point in 1..=POINTS {
                let share = point as f32 / POINTS as f32 - 1.0;
                let mut moved = start.clone();
                for channel in 0..out {
                    for position in 0..row {
                        let at = weight + frozen.offset(channel, position);
                        moved[at] += share * frozen.weight(channel, position);
                    }
                    moved[shift + channel] += share * frozen.real_bias(channel);
                }
                trainer.restore(&moved)?;
                let loss = trainer.accumulate(clip, answer)?;
                let slope = if probable { libm::exp(-f64::from(loss)) } else { 1.0 } / POINTS as f64;
                let gradients = trainer.gradients().get(shift..shift + out).unwrap_or(&[]);
                found.iter_mut().zip(gradients).for_each(|(sum, g)| *sum -= slope * f64::from(*g));
                trainer.discard();
            }
            self.observe_outputs(frozen.desc.name, &found);
            first = shift + out;
        }
        trainer.restore(&start)?;
        Ok(true)
    }
}
