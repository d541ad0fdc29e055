//! SHiRA: sparse high-rank adapters (Bhardwaj et al., 2024).

use ingraft_kernel::{SiteDesc, SiteKind};
use ingraft_tensor::Rng;
use ingraft_train::{FrozenSite, Method, Setting, SiteValues, TermLayout, Unfit};

use crate::Mask;
use crate::mask::keep_representable;
#[cfg(feature = "alloc")]
use alloc::boxed::Box;

#[cfg(feature = "alloc")]
use crate::row::{Definition, Family, Make, MethodRow, OVERLAY, SHARE, SettingRow, Settings};
#[cfg(feature = "alloc")]
use crate::select::Pattern;
#[cfg(feature = "alloc")]
use crate::sparse::{Budget, Sparse};
#[cfg(feature = "alloc")]
use crate::{MethodError, Score};

/// Trains a small share of the weights themselves: `W' = W + S`, S zero outside
/// a fixed mask and zero at the start.
///
/// These masks need no heap; the list has more, among them those chosen by gradients.
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
        SettingRow { name: "density", default: "0.02", expected: SHARE },
        SettingRow {
            name: "mask",
            default: "random",
            expected: "random, magnitude, row, gradient, snip or structured",
        },
    ],
    deploy: OVERLAY,
    source: "Sparse High Rank Adapters (2024)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Measured { score, make },
};

/// The scores and patterns of the masks that need a heap: the sum of gradients' sizes, SNIP, rows and columns with the
/// diagonal.
#[cfg(feature = "alloc")]
fn heaped(settings: &Settings<'_>) -> Result<Option<(&'static str, Score, Pattern)>, MethodError> {
    let density = settings.share("density")?;
    settings.value("mask", |text| match text {
        "random" | "magnitude" | "row" => Some(None),
        "gradient" => Some(Some(("gradient", Score::Travel, Pattern::Entries))),
        "snip" => Some(Some(("snip", Score::Snip, Pattern::Entries))),
        "structured" => Some(Some(("structured", Score::Random, Pattern::Cross(density)))),
        _ => None,
    })
}

#[cfg(feature = "alloc")]
fn score(settings: &Settings<'_>) -> Result<Score, MethodError> {
    Ok(heaped(settings)?.map_or(Score::Random, |(_, score, _)| score))
}

#[cfg(feature = "alloc")]
fn make(settings: &Settings<'_>) -> Result<Box<dyn Method>, MethodError> {
    let density = settings.share("density")?;
    if let Some((name, score, pattern)) = heaped(settings)? {
        let sparse = Sparse::new("shira", score, pattern, Budget::Rounded(density));
        return sparse
            .with("density", Setting::Real(density))
            .with("mask", Setting::Name(name))
            .boxed(settings);
    }
    let mask = |text: &str| [Mask::Random, Mask::Magnitude, Mask::Row].into_iter().find(|m| m.name() == text);
    Ok(Box::new(Shira { density, mask: settings.value("mask", mask)? }))
}
