//! LoRA (Hu et al., 2022), with the scale of rsLoRA (Kalajdzievski, 2023) on request.

#[cfg(feature = "alloc")]
mod depthwise;
#[cfg(feature = "alloc")]
mod elastic;

#[cfg(feature = "alloc")]
use alloc::boxed::Box;

use ingraft_kernel::terms::MAX_TERM_RANK;
use ingraft_kernel::{SiteDesc, SiteKind};
use ingraft_tensor::Rng;
use ingraft_train::{FrozenSite, Method, Part, PartRate, Setting, SiteValues, TermLayout, Unfit};

#[cfg(feature = "alloc")]
use self::depthwise::DepthwiseFactors;
#[cfg(feature = "alloc")]
use self::elastic::Elastic;
#[cfg(feature = "alloc")]
use crate::MethodError;
#[cfg(feature = "alloc")]
use crate::expression::Expressed;
#[cfg(feature = "alloc")]
use crate::row::{ALPHA, Definition, Family, Make, MethodRow, RANK, SettingRow, Settings, TWO_FACTOR};

/// Trains a low-rank delta: `y = Wx + b + s·B·(A·x)`.
///
/// # Shapes
/// A convolution is the linear map on its unfolded patch, so A is
/// `[rank, kh·kw·in]` and B `[out, rank]`, for any kernel and dilation. A
/// grouped convolution has a pair of this rank in every group. A depthwise
/// weight has one row per group, so a pair per group would be no saving: see
/// [`DepthwiseTerm`] for what there is instead.
///
/// # Start
/// A is uniform in ±1/√(kh·kw·in) (Kaiming with a = √5, as in HF PEFT), B is
/// zero: the adapter starts as the base.
///
/// # Scale
/// s = α/r, or α/√r. `up` holds s·B, the value that acts; the trainer moves it
/// as it would have moved B ([`ingraft_train::Optimizer`]), so learning rates
/// mean what they mean in PEFT.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lora {
    /// r, per group.
    pub rank: u32,
    /// α.
    pub alpha: f32,
    /// Whether s is α/√r.
    pub rank_stabilized: bool,
    /// What depthwise sites get.
    pub depthwise: DepthwiseTerm,
}

/// What LoRA puts on a depthwise site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DepthwiseTerm {
    /// Nothing.
    Skip,
    /// A scale of each channel, trained from 1.
    Scale,
    /// Factors of the whole weight, deployed as a delta; made by [`crate::build`].
    Factors,
}

impl Lora {
    /// s.
    pub fn scale(&self) -> f32 {
        let rank = self.rank.max(1) as f32;
        self.alpha / if self.rank_stabilized { libm::sqrtf(rank) } else { rank }
    }

    /// Visits these settings, and how many slices are trained for how many steps.
    fn visit(&self, visit: &mut dyn FnMut(&'static str, Setting), [slices, steps]: [u32; 2]) {
        visit("rank", Setting::Count(self.rank));
        visit("alpha", Setting::Single(self.alpha));
        visit("rslora", Setting::Flag(self.rank_stabilized));
        visit("depthwise", Setting::Name(self.depthwise.name()));
        visit("slices", Setting::Count(slices));
        visit("slice_steps", Setting::Count(steps));
    }
}

impl Default for Lora {
    /// r = 8, α = 8, the defaults of HF PEFT.
    fn default() -> Self {
        Self { rank: 8, alpha: 8.0, rank_stabilized: false, depthwise: DepthwiseTerm::Skip }
    }
}

impl Method for Lora {
    fn name(&self) -> &'static str {
        "lora"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        self.visit(visit, [1, 0]);
    }

    fn is_unconstrained(&self) -> bool {
        true
    }

    fn layout(&self, site: &SiteDesc<'_>) -> Result<TermLayout, Unfit> {
        let limit = MAX_TERM_RANK as u32;
        if self.rank == 0 || self.rank > limit {
            return Err(Unfit::Rank { rank: self.rank, limit });
        }
        Ok(match site.kind {
            SiteKind::Linear | SiteKind::Conv => TermLayout { rank: self.rank, ..TermLayout::NONE },
            SiteKind::Depthwise if self.depthwise == DepthwiseTerm::Scale => {
                TermLayout { scale: true, ..TermLayout::NONE }
            }
            _ => TermLayout::NONE,
        })
    }

    fn initialize(&self, site: &FrozenSite<'_>, rng: &mut Rng, terms: &mut SiteValues<'_>) {
        let bound = 1.0 / libm::sqrtf(site.desc.row().max(1) as f32);
        terms.down.iter_mut().for_each(|a| *a = rng.symmetric(bound));
    }

    fn rate(&self, part: Part) -> PartRate {
        let scale = if part == Part::Up { self.scale() } else { 1.0 };
        PartRate { scale, decays: matches!(part, Part::Down | Part::Up) }
    }
}

impl DepthwiseTerm {
    /// The name users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Scale => "scale",
            Self::Factors => "factors",
        }
    }
}

/// `lora` as the list has it.
#[cfg(feature = "alloc")]
pub(crate) const ROW: MethodRow = MethodRow {
    name: "lora",
    family: Family::Reparameterized,
    settings: &[
        RANK,
        ALPHA,
        SettingRow { name: "rslora", default: "false", expected: "true or false" },
        SettingRow { name: "depthwise", default: "skip", expected: "skip, scale or factors" },
        SettingRow {
            name: "slices",
            default: "1",
            expected: "a whole number in 1..=256; depthwise=skip where it is not 1",
        },
        SettingRow { name: "slice_steps", default: "0", expected: "a number of steps" },
    ],
    deploy: TWO_FACTOR,
    source: "LoRA: Low-Rank Adaptation of Large Language Models (2022)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Terms(make),
};

#[cfg(feature = "alloc")]
fn make(settings: &Settings<'_>) -> Result<Box<dyn Method>, MethodError> {
    let depthwise = |text: &str| match text {
        "skip" => Some(DepthwiseTerm::Skip),
        "scale" => Some(DepthwiseTerm::Scale),
        "factors" => Some(DepthwiseTerm::Factors),
        _ => None,
    };
    let lora = Lora {
        rank: settings.rank()?,
        alpha: settings.positive("alpha")? as f32,
        rank_stabilized: settings.number("rslora", |_| true)?,
        depthwise: settings.value("depthwise", depthwise)?,
    };
    let alone =
        |slices: &u32| (1..=256).contains(slices) && (*slices == 1 || lora.depthwise == DepthwiseTerm::Skip);
    let (slices, steps) = (settings.number("slices", alone)?, settings.number("slice_steps", |_| true)?);
    Ok(match lora.depthwise {
        DepthwiseTerm::Skip if slices != 1 || steps != 0 => {
            Box::new(Expressed(Box::new(Elastic::new(lora, slices, steps))))
        }
        DepthwiseTerm::Factors => Box::new(DepthwiseFactors::new(lora)),
        _ => Box::new(lora),
    })
}
