//! The token span attack on a text model: raw gradients of one sentence each, and what is released of them privately.

use indicatif::ProgressBar;
use ingraft_dataset::Rng;
use ingraft_kernel::{Host, OpCode, Place, SiteKind, Sites};
use ingraft_method::{Head, build};
use ingraft_plan::{Phase, PlanView};
use ingraft_tensor::DType;
use ingraft_train::private::{Entropy, PrivateSum};
use ingraft_train::{AdamW, Clip, LearningRate, Method, Readout, Setup, TrainError, Trainer, Truth};
use serde::Serialize;

use super::span::Span;
use crate::aligned::AlignedBytes;
use crate::{CliError, entropy::OsEntropy};

/// A text model as the attack sees it.
pub(crate) struct Text<'p> {
    plan: PlanView<'p>,
    /// The normalization of token and position embeddings, whose output the layers read.
    embedded: u32,
    /// The first linear layer behind it.
    linear: u32,
    width: usize,
    /// Tokens of a sentence.
    tokens: usize,
    vocabulary: usize,
}

/// How often tokens were found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TokenSpan {
    /// The layer whose LoRA was looked at.
    site: String,
    /// Sentences tried.
    examples: usize,
    /// Tokens of each.
    tokens: usize,
    /// Tokens that each could have been.
    vocabulary: usize,
    /// Share of tokens found, at their place, from the raw gradient of the sentence.
    pub(crate) raw: f64,
    /// The same from what a private step releases of it.
    pub(crate) private: f64,
}

/// The nearest token of each place, and its distance.
type Nearest = Vec<(usize, f32)>;

/// What a step releases.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Release {
    pub(crate) bound: f64,
    pub(crate) noise: f64,
}

impl<'p> Text<'p> {
    /// The text model in `plan`; `None` where it has no vocabulary, no normalized embedding or no trainable layer behind it.
    pub(crate) fn new(plan: PlanView<'p>) -> Option<Self> {
        let kind = |site: usize| plan.site(site).map(|site| site.kind);
        let embedded = (0..plan.site_count()).find(|site| kind(*site).is_some_and(SiteKind::is_norm))?;
        let linear = (embedded..plan.site_count()).find(|site| kind(*site) == Some(SiteKind::Linear))?;
        plan.site_tensors(Phase::Train, linear)?;
        let gather = (0..plan.step_count(Phase::Infer)).filter_map(|at| plan.step(Phase::Infer, at));
        let table = gather.filter(|step| step.op == OpCode::Gather).find_map(|step| {
            let operand = plan.tensor(*step.inputs.first()?)?.operand;
            let constant = matches!(operand.place, Place::Plan(_));
            (constant && operand.shape.rank() == 2).then(|| operand.shape.dim(0))
        })?;
        let ids = plan.inputs().find(|io| io.name.contains("ids") && !io.name.contains("type"))?;
        let tokens = plan.tensor(ids.tensor)?.operand.shape.elements();
        let width = plan.site(linear)?.row();
        Some(Self {
            plan,
            embedded: embedded as u32,
            linear: linear as u32,
            width,
            tokens,
            vocabulary: table,
        })
    }

    /// A sentence of these tokens as the model takes it: nothing masked, of one kind.
    fn sentence(&self, ids: &[usize]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for io in self.plan.inputs() {
            let Some(operand) = self.plan.tensor(io.tensor).map(|tensor| tensor.operand) else { continue };
            for at in 0..operand.shape.elements() {
                let value = match io.name {
                    name if name.contains("mask") => 1,
                    name if name.contains("type") => 0,
                    _ => ids.get(at).copied().unwrap_or(0),
                };
                match operand.dtype {
                    DType::I64 => bytes.extend((value as i64).to_le_bytes()),
                    DType::I32 => bytes.extend((value as i32).to_le_bytes()),
                    _ => bytes.extend((value as f32).to_le_bytes()),
                }
            }
        }
        bytes
    }

    /// Tries `examples` sentences of random tokens.
    ///
    /// # Errors
    /// [`CliError::Train`], [`CliError::Method`], [`CliError::Random`].
    pub(crate) fn attack(
        &self,
        target: &Host,
        (examples, seed): (usize, u64),
        release: Release,
        bar: &ProgressBar,
    ) -> Result<TokenSpan, CliError> {
        let mut rng = Rng::new(seed);
        let sentences: Vec<Vec<usize>> =
            (0..examples).map(|_| (0..self.tokens).map(|_| rng.below(self.vocabulary)).collect()).collect();
        let spans = self.spans(target, &sentences, &mut rng, release)?;
        let found = self.nearest(target, &spans, bar)?;
        let right = |side: usize| {
            let places =
                found.iter().zip(&sentences).flat_map(|(found, sentence)| found[side].iter().zip(sentence));
            let right = places.filter(|((token, _), true_token)| token == *true_token).count();
            right as f64 / (examples * self.tokens).max(1) as f64
        };
        Ok(TokenSpan {
            site: self.plan.site(self.linear as usize).map_or(String::new(), |site| site.name.to_owned()),
            examples,
            tokens: self.tokens,
            vocabulary: self.vocabulary,
            raw: right(0),
            private: right(1),
        })
    }

    /// The span of the gradient of A by each sentence: raw, and as a private step of that sentence alone releases it.
    fn spans(
        &self,
        target: &Host,
        sentences: &[Vec<usize>],
        rng: &mut Rng,
        release: Release,
    ) -> Result<Vec<[Span; 2]>, CliError> {
        let rank = self.tokens.to_string();
        let method = build("lora", &[("rank", &rank)])?;
        let sites = [self.linear];
        let setup = setup(&*method, &sites, Readout::Logits);
        let mut memory = AlignedBytes::zeroed(Trainer::memory(&self.plan, target, &setup)?.total());
        let mut trainer = Trainer::bind(self.plan, target, setup, memory.as_mut_slice())?;
        let truth = Truth::Class(0);
        // B starts at zero, and with it the gradient of A: one step on another sentence moves it.
        let other: Vec<usize> = (0..self.tokens).map(|_| rng.below(self.vocabulary)).collect();
        trainer.accumulate(Clip::Inputs(&self.sentence(&other)), truth)?;
        trainer.step()?;
        let down = self.tokens * self.width;
        let mut entropy = OsEntropy::new();
        let mut spans = Vec::new();
        for sentence in sentences {
            trainer.accumulate(Clip::Inputs(&self.sentence(sentence)), truth)?;
            let raw = trainer.gradients().to_vec();
            trainer.discard();
            let released = released(&raw, release, &mut entropy)?;
            let span = |gradient: &[f32]| Span::of_rows(gradient.get(..down).unwrap_or(&[]), self.width);
            spans.push([span(&raw), span(&released)]);
        }
        Ok(spans)
    }

    /// The token nearest to each span at each place, by span, with its distance: of all in the vocabulary.
    fn nearest(
        &self,
        target: &Host,
        spans: &[[Span; 2]],
        bar: &ProgressBar,
    ) -> Result<Vec<[Nearest; 2]>, CliError> {
        let setup = setup(&Head, &[], Readout::Head { site: self.embedded, pool: 0, classes: 2 });
        let mut memory = AlignedBytes::zeroed(Trainer::memory(&self.plan, target, &setup)?.total());
        let mut trainer = Trainer::bind(self.plan, target, setup, memory.as_mut_slice())?;
        let mut features = vec![0.0; trainer.feature_count()];
        if features.len() != self.tokens * self.width {
            return Err(TrainError::NoReadout.into());
        }
        let none = || {
            [vec![(usize::MAX, f32::INFINITY); self.tokens], vec![(usize::MAX, f32::INFINITY); self.tokens]]
        };
        let mut best: Vec<_> = spans.iter().map(|_| none()).collect();
        bar.set_length(self.vocabulary as u64);
        for first in 0..self.vocabulary {
            // Every token comes to every place once.
            let ids: Vec<usize> =
                (0..self.tokens).map(|place| (first + 97 * place) % self.vocabulary).collect();
            trainer.features(Clip::Inputs(&self.sentence(&ids)), &mut features)?;
            for (place, (token, vector)) in ids.iter().zip(features.chunks_exact(self.width)).enumerate() {
                for (spans, best) in spans.iter().zip(&mut best) {
                    for (span, best) in spans.iter().zip(best) {
                        let distance = span.distance(vector);
                        if distance < best[place].1 {
                            best[place] = (*token, distance);
                        }
                    }
                }
            }
            bar.inc(1);
        }
        Ok(best)
    }
}

/// What a private step on one unit with this gradient releases of it.
///
/// # Errors
/// [`CliError::Random`].
pub(crate) fn released(
    gradient: &[f32],
    release: Release,
    entropy: &mut impl Entropy,
) -> Result<Vec<f32>, CliError> {
    let mut memory = vec![0.0; gradient.len()];
    let mut sum = PrivateSum::new(&mut memory, release.bound);
    sum.add(gradient);
    let mut out = vec![0.0; gradient.len()];
    let drawn = sum.release(release.noise, 1.0, entropy, &mut out);
    drawn.map_err(|none| CliError::Random(none.to_string()))?;
    Ok(out)
}

/// A setup for gradients to look at.
pub(crate) fn setup<'s>(method: &'s dyn Method, sites: &'s [u32], readout: Readout) -> Setup<'s> {
    let rate = LearningRate { rate: 3e-3, weight_decay: 0.0 };
    Setup { seed: 1, ..Setup::new(method, sites, readout, &AdamW::DEFAULT, rate) }
}
