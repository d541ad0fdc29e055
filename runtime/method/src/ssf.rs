//! SSF: scaling and shifting features (Lian et al., 2022).

#[cfg(feature = "alloc")]
use alloc::boxed::Box;
use ingraft_kernel::{SiteDesc, SiteKind};
use ingraft_train::{Method, Setting, TermLayout, Unfit};

#[cfg(feature = "alloc")]
use crate::row::{Definition, Family, Make, MethodRow};

/// Trains a scale and a shift of every output channel: `y = γ ⊙ (Wx + b) + β`, γ from 1,
/// β from 0.
///
/// The published start is γ ~ N(1, 0.02²), β ~ N(0, 0.02²); here it is the base itself.
/// Parameters: `2·out`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ssf;

impl Method for Ssf {
    fn name(&self) -> &'static str {
        "ssf"
    }

    fn settings(&self, _: &mut dyn FnMut(&'static str, Setting)) {}

    fn is_unconstrained(&self) -> bool {
        true
    }

    fn layout(&self, site: &SiteDesc<'_>) -> Result<TermLayout, Unfit> {
        Ok(match site.kind {
            SiteKind::Linear | SiteKind::Conv | SiteKind::Depthwise => {
                TermLayout { scale: true, shift: true, ..TermLayout::NONE }
            }
            _ => TermLayout::NONE,
        })
    }
}

/// `ssf` as the list has it.
#[cfg(feature = "alloc")]
pub(crate) const ROW: MethodRow = MethodRow {
    name: "ssf",
    family: Family::Additive,
    settings: &[],
    deploy: "scale and shift per output channel",
    source: "Scaling & Shifting Your Features: A New Baseline for Efficient Model Tuning (2022)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Terms(|_| Ok(Box::new(Ssf))),
};
