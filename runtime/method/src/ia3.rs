//! (IA)³: scaling activations (Liu et al., 2022).

#[cfg(feature = "alloc")]
use alloc::boxed::Box;
use ingraft_kernel::{SiteDesc, SiteKind};
use ingraft_train::{Method, Setting, TermLayout, Unfit};

#[cfg(feature = "alloc")]
use crate::row::{Definition, Family, Make, MethodRow};

/// Trains a scale of every output channel: `y = l ⊙ (Wx + b)`, l from 1.
///
/// This is the published form for keys and values, bias scaled along. The
/// published form for the second linear layer of a block scales its input
/// instead, `W(l ⊙ x) + b`; at a convolution behind an activation that scales
/// by one value per channel, that is the output scale of the layer before, so
/// here every site is scaled at its output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ia3;

impl Method for Ia3 {
    fn name(&self) -> &'static str {
        "ia3"
    }

    fn settings(&self, _: &mut dyn FnMut(&'static str, Setting)) {}

    fn is_unconstrained(&self) -> bool {
        true
    }

    fn layout(&self, site: &SiteDesc<'_>) -> Result<TermLayout, Unfit> {
        Ok(match site.kind {
            SiteKind::Linear | SiteKind::Conv | SiteKind::Depthwise => {
                TermLayout { scale: true, ..TermLayout::NONE }
            }
            _ => TermLayout::NONE,
        })
    }
}

/// `ia3` as the list has it.
#[cfg(feature = "alloc")]
pub(crate) const ROW: MethodRow = MethodRow {
    name: "ia3",
    family: Family::Additive,
    settings: &[],
    deploy: "scale per output channel",
    source: "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning (2022)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Terms(|_| Ok(Box::new(Ia3))),
};
