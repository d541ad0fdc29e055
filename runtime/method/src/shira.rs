//! SHiRA: sparse high-rank adapters (Bhardwaj et al., 2024).

use ingraft_kernel::{SiteDesc, SiteKind};
use ingraft_tensor::Rng;
use ingraft_train::{FrozenSite, Method, Setting, SiteValues, TermLayout, Unfit};

use crate::Mask;
use crate::mask::keep_representable;
#[cfg(feature = "alloc")]
use alloc::boxed::Box;

#[cfg(feature = "alloc")]
use crate::MethodError;
#[cfg(feature = "alloc")]
use crate::row::{Definition, Family, Make, MethodRow, SettingRow, Settings};

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

/// `shira` as the list has it.
#[cfg(feature = "alloc")]
pub(crate) const ROW: MethodRow = MethodRow {
    name: "shira",
    family: Family::Selective,
    settings: &[
        SettingRow { name: "density", default: "0.02", expected: "a share above 0, at most 1" },
        SettingRow { name: "mask", default: "random", expected: "random, magnitude or row" },
    ],
    deploy: "sparse overlay, int8 steps on int8 sites",
    source: "Sparse High Rank Adapters (2024)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Terms(make),
};

#[cfg(feature = "alloc")]
fn make(settings: &Settings<'_>) -> Result<Box<dyn Method>, MethodError> {
    let mask = |text: &str| match text {
        "random" => Some(Mask::Random),
        "magnitude" => Some(Mask::Magnitude),
        "row" => Some(Mask::Row),
        _ => None,
    };
    Ok(Box::new(Shira {
        density: settings.number("density", |density: &f64| *density > 0.0 && *density <= 1.0)?,
        mask: settings.value("mask", mask)?,
    }))
}
