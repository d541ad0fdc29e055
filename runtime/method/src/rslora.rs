//! rsLoRA: rank-stabilized LoRA (Kalajdzievski, 2023).

use ingraft_kernel::SiteDesc;
use ingraft_tensor::Rng;
use ingraft_train::{FrozenSite, Method, Part, PartRate, Setting, SiteValues, TermLayout, Unfit};

use crate::{DepthwiseTerm, Lora};
#[cfg(feature = "alloc")]
use alloc::boxed::Box;

#[cfg(feature = "alloc")]
use crate::row::{ALPHA, Definition, Family, Make, MethodRow, RANK, TWO_FACTOR};

/// [`Lora`] with the scale α/√r, at which activations and gradients neither grow nor
/// shrink with the rank. Parameters: `r·(out + row)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RsLora {
    /// r, per group.
    pub rank: u32,
    /// α.
    pub alpha: f64,
}

impl RsLora {
    fn lora(&self) -> Lora {
        let (rank, alpha) = (self.rank, self.alpha);
        Lora { rank, alpha: alpha as f32, rank_stabilized: true, depthwise: DepthwiseTerm::Skip }
    }
}

impl Default for RsLora {
    /// r = 8, α = 8, the defaults of HF PEFT.
    fn default() -> Self {
        Self { rank: 8, alpha: 8.0 }
    }
}

impl Method for RsLora {
    fn name(&self) -> &'static str {
        "rslora"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
        visit("alpha", Setting::Real(self.alpha));
    }

    fn is_unconstrained(&self) -> bool {
        true
    }

    fn layout(&self, site: &SiteDesc<'_>) -> Result<TermLayout, Unfit> {
        self.lora().layout(site)
    }

    fn initialize(&self, site: &FrozenSite<'_>, rng: &mut Rng, terms: &mut SiteValues<'_>) {
        self.lora().initialize(site, rng, terms);
    }

    fn rate(&self, part: Part) -> PartRate {
        self.lora().rate(part)
    }
}

/// `rslora` as the list has it.
#[cfg(feature = "alloc")]
pub(crate) const ROW: MethodRow = MethodRow {
    name: "rslora",
    family: Family::Reparameterized,
    settings: &[RANK, ALPHA],
    deploy: TWO_FACTOR,
    source: "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA (2023)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Terms(|s| Ok(Box::new(RsLora { rank: s.rank()?, alpha: s.positive("alpha")? }))),
};
