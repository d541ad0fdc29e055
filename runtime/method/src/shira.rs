//! SHiRA: sparse high-rank adapters (Bhardwaj et al., 2024).

use ingraft_kernel::{SiteDesc, SiteKind};
use ingraft_tensor::Rng;
use ingraft_train::{FrozenSite, Method, Setting, SiteValues, TermLayout, Unfit};

use crate::Mask;
use crate::mask::keep_representable;

/// Trains a small share of the weights themselves: `W' = W + S`, S zero outside
/// a fixed mask and zero at the start.
///
/// On int8 sites S is written on the base's own scale, as the integer overlay
/// `Δ = clamp(round(w + δ/s_w), −127, 127) − w`: it runs beside the immutable
/// base or patched into a copy, with equal bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shira {
    /// Share of the weights trained.
    pub density: f64,
    /// Which ones.
    pub mask: Mask,
}

impl Default for Shira {
    /// 2 % of the weights, at random.
    fn default() -> Self {
        Self { density: 0.02, mask: Mask::Random }
    }
}

impl Method for Shira {
    fn name(&self) -> &'static str {
        "shira"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("density", Setting::Real(self.density));
        visit("mask", Setting::Name(self.mask.name()));
    }

    fn layout(&self, site: &SiteDesc<'_>) -> Result<TermLayout, Unfit> {
        match site.kind {
            SiteKind::Linear | SiteKind::Conv | SiteKind::Depthwise => {
                let nnz = self.mask.count(site, self.density)?;
                Ok(TermLayout { nnz, ..TermLayout::NONE })
            }
            _ => Ok(TermLayout::NONE),
        }
    }

    fn initialize(&self, site: &FrozenSite<'_>, rng: &mut Rng, terms: &mut SiteValues<'_>) {
        self.mask.choose(site, rng, terms);
    }

    fn constrain(&self, site: &FrozenSite<'_>, terms: &mut SiteValues<'_>) {
        keep_representable(site, terms);
    }
}
