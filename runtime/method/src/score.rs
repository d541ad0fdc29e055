//! The score engine: how much a weight matters, from its value and from what training data say of it.

use alloc::vec;
use alloc::vec::Vec;

use ingraft_tensor::Rng;

use crate::attribution::votes;

/// How weights are scored. The larger, the sooner a weight is trained.
///
/// w is a weight, g its gradient summed over the batches of a measuring pass, gᵢ that of batch i.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Score {
    /// Uniform in 0..1.
    Random,
    /// |w|.
    Magnitude,
    /// −|w|: the smallest first.
    Smallness,
    /// g itself, for scores of whole tiles.
    Sum,
    /// |g|, the choice that Refining Salience-Aware Sparse Fine-Tuning (2025) recommends.
    Gradient,
    /// Σ|gᵢ|.
    Travel,
    /// |w·g| (SNIP; Lee, Ajanthan & Torr, 2019).
    Snip,
    /// −w·g, signed (skeletonization; Mozer & Smolensky, 1989).
    Skeletonization,
    /// (w·g)², Taylor's first order (Molchanov et al., 2019).
    Taylor,
    /// Mean of gᵢ² (the diagonal of Fisher's matrix, where a batch is one clip).
    Fisher,
    /// |w·∂R/∂|w||: what flows through a weight where everything adds up (SynFlow; Tanaka et al., 2020).
    SynFlow,
    /// w·(H·g), signed, g held, logits over 200 in the loss (GraSP; Wang, Zhang & Grosse, 2020).
    Grasp,
    /// All gᵢ as they are, for methods that look for a basis of them.
    Stack,
    /// What |w·gᵢ − ½(w·gᵢ)²| is on average, times how much it varies: moving averages with this
    /// weight of the past, from zero (AdaLoRA; Zhang et al., 2023).
    Importance(f64),
    /// How little an output adds to the model's own answer: how many clips have it among this percentage of the outputs of
    /// least integrated gradient (LoKI; Wang et al., 2025).
    Attribution(f64),
    /// No score of weights: the mean weight that a router gives each expert, among so many a token has (ESFT; Wang et al., 2024).
    Gate(u32),
    /// No score of weights: the share of tokens that each expert is among so many of.
    Token(u32),
    /// No score of weights: the error of their rounding, weighed by the inputs it meets (QWHA; Jeon et al., 2025).
    Rounding,
    /// No score of weights, and no clip is looked at: what they were before they were rounded (L4Q; Jeon et al., 2024).
    Unrounded,
}

/// What a measuring pass keeps of one weight matrix for one score.
#[derive(Clone, Debug, Default)]
pub(crate) struct Statistics {
    batches: usize,
    /// Σ of what the score sums, or the moving average.
    first: Vec<f64>,
    /// The moving average of deviations.
    second: Vec<f64>,
}

impl Score {
    /// The name users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Magnitude => "magnitude",
            Self::Smallness => "smallness",
            Self::Sum => "sum",
            Self::Gradient => "gradient",
            Self::Travel => "travel",
            Self::Snip => "snip",
            Self::Skeletonization => "skeletonization",
            Self::Taylor => "taylor",
            Self::Fisher => "fisher",
            Self::SynFlow => "synflow",
            Self::Grasp => "grasp",
            Self::Stack => "stack",
            Self::Importance(_) => "importance",
            Self::Attribution(_) => "attribution",
            Self::Gate(_) => "gate",
            Self::Token(_) => "token",
            Self::Rounding => "rounding",
            Self::Unrounded => "unrounded",
        }
    }

    /// How often every clip is looked at, one time after all of the time before.
    pub const fn passes(self) -> usize {
        match self {
            Self::Grasp => 2,
            Self::Unrounded => 0,
            _ => 1,
        }
    }

    /// Whether it is of weights as they were before they were rounded, which [`Saliency::unrounded`](crate::Saliency::unrounded) takes.
    pub const fn is_of_rounding(self) -> bool {
        matches!(self, Self::Rounding | Self::Unrounded)
    }

    /// Whether it needs more than the plan: a pass over training data, or the weights before rounding.
    pub const fn needs_data(self) -> bool {
        !matches!(self, Self::Random | Self::Magnitude | Self::Smallness)
    }

    /// How many experts a token has, where the score is of experts.
    pub(crate) const fn chosen(self) -> Option<u32> {
        match self {
            Self::Gate(chosen) | Self::Token(chosen) => Some(chosen),
            _ => None,
        }
    }

    /// Whether a sum for every weight is kept of that pass.
    const fn sums(self) -> bool {
        let apart = matches!(
            self,
            Self::Stack
                | Self::Attribution(_)
                | Self::Gate(_)
                | Self::Token(_)
                | Self::Rounding
                | Self::Unrounded
        );
        self.needs_data() && !apart
    }

    /// The scores of weights `w`, in their order; `seen` are the statistics of their gradients.
    pub(crate) fn of(self, w: &[f64], seen: &Statistics, rng: &mut Rng) -> Vec<f64> {
        let with = |f: &dyn Fn(f64, f64) -> f64| w.iter().zip(&seen.first).map(|(w, g)| f(*w, *g)).collect();
        let batches = seen.batches.max(1) as f64;
        match self {
            Self::Random => w.iter().map(|_| rng.unit()).collect(),
            Self::Magnitude => w.iter().map(|w| w.abs()).collect(),
            Self::Smallness => w.iter().map(|w| -w.abs()).collect(),
            Self::Attribution(quota) => {
                let row = w.len() * seen.batches / seen.first.len().max(1);
                votes(&seen.first, seen.batches, quota)
                    .into_iter()
                    .flat_map(|votes| (0..row).map(move |at| if at == 0 { votes as f64 } else { 0.0 }))
                    .collect()
            }
            Self::Gate(_) | Self::Token(_) | Self::Rounding | Self::Unrounded => vec![0.0; w.len()],
            Self::Sum | Self::Travel | Self::SynFlow | Self::Stack => seen.first.clone(),
            Self::Gradient => with(&|_, g| g.abs()),
            Self::Snip => with(&|w, g| (w * g).abs()),
            Self::Skeletonization => with(&|w, g| -w * g),
            Self::Taylor => with(&|w, g| (w * g) * (w * g)),
            Self::Fisher => with(&|_, g| g / batches),
            Self::Grasp => {
                w.iter().zip(&seen.second).map(|(w, bent)| w * bent / (batches * batches)).collect()
            }
            Self::Importance(_) => {
                seen.first.iter().zip(&seen.second).map(|(mean, spread)| mean * spread).collect()
            }
        }
    }
}

impl Statistics {
    /// The gradients of all batches, where they are kept.
    pub(crate) fn stack(&self) -> &[f64] {
        &self.first
    }

    /// Nothing seen of `len` weights yet.
    pub(crate) fn new(score: Score, len: usize) -> Self {
        let held = |needed: bool| vec![0.0; if needed { len } else { 0 }];
        let second = held(matches!(score, Score::Importance(_) | Score::Grasp));
        Self { batches: 0, first: held(score.sums()), second }
    }

    /// The sum of gradients.
    pub(crate) fn sum(&self) -> &[f64] {
        &self.first
    }

    /// Takes in the scores themselves.
    pub(crate) fn put(&mut self, scores: impl Iterator<Item = f64>) {
        self.first.iter_mut().zip(scores).for_each(|(held, score)| *held = score);
    }

    /// Takes in how a gradient changes along the mean of all.
    pub(crate) fn bend(&mut self, change: impl Iterator<Item = f64>) {
        self.second.iter_mut().zip(change).for_each(|(sum, change)| *sum += change);
    }

    /// Takes the gradient of one batch in, or the attributions of outputs of one clip.
    pub(crate) fn observe(&mut self, score: Score, w: &[f64], gradient: &[f64]) {
        self.batches += 1;
        if matches!(score, Score::Stack | Score::Attribution(_)) {
            return self.first.extend_from_slice(gradient);
        }
        let each = self.first.iter_mut().zip(w.iter().zip(gradient));
        match score {
            Score::Random | Score::Magnitude | Score::Smallness => {}
            Score::Travel => each.for_each(|(sum, (_, g))| *sum += g.abs()),
            Score::Fisher => each.for_each(|(sum, (_, g))| *sum += g * g),
            Score::Importance(past) => each.zip(&mut self.second).for_each(|((mean, (w, g)), spread)| {
                let moved = (w * g - 0.5 * (w * g) * (w * g)).abs();
                *mean = past * *mean + (1.0 - past) * moved;
                *spread = past * *spread + (1.0 - past) * (moved - *mean).abs();
            }),
            _ => each.for_each(|(sum, (_, g))| *sum += g),
        }
    }
}
