//! Full fine-tuning of the chosen sites.

use ingraft_kernel::{SiteDesc, SiteKind};
use ingraft_train::{FrozenSite, Method, Setting, SiteValues, TermLayout, Unfit};

use crate::mask::{dense, keep_representable};
#[cfg(feature = "alloc")]
use alloc::boxed::Box;

#[cfg(feature = "alloc")]
use crate::row::{Definition, Family, Make, MethodRow};

/// Trains every weight and bias of a site: `y = (W + Δ)x + b + β`, both from 0.
///
/// The ceiling that parameter-efficient methods are measured against. The base
/// stays immutable here too: W + Δ is written as a weight of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Full;

impl Method for Full {
    fn name(&self) -> &'static str {
        "full"
    }

    fn settings(&self, _: &mut dyn FnMut(&'static str, Setting)) {}

    fn layout(&self, site: &SiteDesc<'_>) -> Result<TermLayout, Unfit> {
        match site.kind {
            SiteKind::Linear | SiteKind::Conv | SiteKind::Depthwise => {
                Ok(TermLayout { shift: true, ..dense(site)? })
            }
            _ => Ok(TermLayout::NONE),
        }
    }

    fn constrain(&self, site: &FrozenSite<'_>, terms: &mut SiteValues<'_>) {
        keep_representable(site, terms);
    }
}

/// `full` as the list has it.
#[cfg(feature = "alloc")]
pub(crate) const ROW: MethodRow = MethodRow {
    name: "full",
    family: Family::Full,
    settings: &[],
    deploy: "fused weight, int8 on int8 sites; shift per output channel",
    source: "full fine-tuning of the chosen sites, the ceiling of the others",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Terms(|_| Ok(Box::new(Full))),
};
