//! LoRA with factors of their own at depthwise sites.

use alloc::boxed::Box;

use ingraft_kernel::{SiteDesc, SiteGrads, SiteKind};
use ingraft_tensor::Rng;
use ingraft_train::{
    FrozenSite, Latent, LatentGradients, LatentTensor, Method, Part, PartRate, Setting, SiteValues,
    TermLayout, Unfit,
};

use super::{DepthwiseTerm, Lora};
use crate::expression::{Expressed, Expression, Form, Start, Tape};

/// [`Lora`] everywhere but at depthwise sites, which get a delta `ΔW = s·B·A` of their whole weight.
///
/// # Shapes
/// The weight of a depthwise convolution is the matrix `[channels, kh·kw]`; A is `[rank, kh·kw]` and B
/// `[channels, rank]`, of no higher rank than the weight has. The product is deployed as a delta of the weight:
/// a kernel has no use for two factors of nine columns.
#[derive(Debug)]
pub(crate) struct DepthwiseFactors {
    lora: Lora,
    taps: Expressed,
}

impl DepthwiseFactors {
    /// `lora` with factors at depthwise sites too.
    pub(crate) fn new(lora: Lora) -> Self {
        Self { lora, taps: Expressed(Box::new(Taps(lora))) }
    }

    fn method(&self, kind: SiteKind) -> &dyn Method {
        if kind == SiteKind::Depthwise { &self.taps } else { &self.lora }
    }
}

impl Method for DepthwiseFactors {
    fn name(&self) -> &'static str {
        self.lora.name()
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        let lora = Lora { depthwise: DepthwiseTerm::Factors, ..self.lora };
        lora.settings(visit);
    }

    fn layout(&self, site: &SiteDesc<'_>) -> Result<TermLayout, Unfit> {
        self.method(site.kind).layout(site)
    }

    fn initialize(&self, site: &FrozenSite<'_>, rng: &mut Rng, terms: &mut SiteValues<'_>) {
        self.method(site.desc.kind).initialize(site, rng, terms);
    }

    fn rate(&self, part: Part) -> PartRate {
        match part {
            Part::Down | Part::Up => self.lora.rate(part),
            _ => self.taps.rate(part),
        }
    }

    fn tensors(&self, site: &SiteDesc<'_>, visit: &mut dyn FnMut(LatentTensor)) {
        self.method(site.kind).tensors(site, visit);
    }

    fn start(&self, site: &FrozenSite<'_>, rng: &mut Rng, latent: &mut Latent<'_>) {
        self.method(site.desc.kind).start(site, rng, latent);
    }

    fn compute(&self, site: &FrozenSite<'_>, latent: &mut Latent<'_>, terms: &mut SiteValues<'_>) {
        self.method(site.desc.kind).compute(site, latent, terms);
    }

    fn pull_back(
        &self,
        site: &FrozenSite<'_>,
        latent: &mut Latent<'_>,
        terms: &SiteGrads<'_>,
        gradients: &mut LatentGradients<'_>,
    ) {
        self.method(site.desc.kind).pull_back(site, latent, terms, gradients);
    }
}

/// The delta of a depthwise weight.
#[derive(Debug)]
struct Taps(Lora);

impl Expression for Taps {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        self.0.settings(visit);
    }

    fn adapts(&self, kind: SiteKind) -> bool {
        kind == SiteKind::Depthwise
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row) = (tape.site().out, tape.site().row());
        let rank = (self.0.rank as usize).min(out).min(row);
        let down = tape.parameter("lora_A", rank, row, Start::kaiming(row));
        let up = tape.parameter("lora_B", out, rank, Start::ZERO);
        Ok(Form::two_factor(up * f64::from(self.0.scale()), down))
    }
}
