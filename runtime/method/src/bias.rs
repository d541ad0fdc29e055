//! BitFit: biases only (Ben Zaken, Ravfogel & Goldberg, 2022).

#[cfg(feature = "alloc")]
use alloc::boxed::Box;
use ingraft_kernel::{SiteDesc, SiteKind};
use ingraft_train::{Method, Setting, TermLayout, Unfit};

#[cfg(feature = "alloc")]
use crate::row::{Definition, Family, Make, MethodRow};

/// Trains a shift of every output channel: `y = Wx + b + β`, β from 0.
///
/// The shift stands beside the base's bias in real units, so that it is not
/// limited to whole steps of the accumulator and the base stays untouched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bias;

impl Method for Bias {
    fn name(&self) -> &'static str {
        "bias"
    }

    fn settings(&self, _: &mut dyn FnMut(&'static str, Setting)) {}

    fn is_unconstrained(&self) -> bool {
        true
    }

    fn layout(&self, site: &SiteDesc<'_>) -> Result<TermLayout, Unfit> {
        Ok(match site.kind {
            SiteKind::Linear | SiteKind::Conv | SiteKind::Depthwise => {
                TermLayout { shift: true, ..TermLayout::NONE }
            }
            _ => TermLayout::NONE,
        })
    }
}

/// `bias` as the list has it.
#[cfg(feature = "alloc")]
pub(crate) const ROW: MethodRow = MethodRow {
    name: "bias",
    family: Family::Selective,
    settings: &[],
    deploy: "shift per output channel",
    source: "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked Language-models (2022)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Terms(|_| Ok(Box::new(Bias))),
};
