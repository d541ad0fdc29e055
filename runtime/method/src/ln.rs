//! LN tuning: the affine parameters of normalizations (Zhao et al., 2024).

#[cfg(feature = "alloc")]
use alloc::boxed::Box;
use ingraft_kernel::{SiteDesc, SiteKind};
use ingraft_tensor::Rng;
use ingraft_train::{FrozenSite, Method, Setting, SiteValues, TermLayout, Unfit};

#[cfg(feature = "alloc")]
use crate::row::{Definition, Family, Make, MethodRow};

/// Trains the scale and shift of a normalization themselves: `y = γ' ⊙ x̂ + β'`, both from the base's.
///
/// They stand in the base's place, as in HF PEFT, so that the normalization costs what it did. One without a shift, such
/// as a root mean square, trains its scale alone. Parameters: `2·out`, or `out` without a shift.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ln;

impl Method for Ln {
    fn name(&self) -> &'static str {
        "ln"
    }

    fn settings(&self, _: &mut dyn FnMut(&'static str, Setting)) {}

    fn is_unconstrained(&self) -> bool {
        true
    }

    fn layout(&self, site: &SiteDesc<'_>) -> Result<TermLayout, Unfit> {
        Ok(TermLayout { scale: site.kind.is_norm(), shift: site.kind == SiteKind::Norm, ..TermLayout::NONE })
    }

    fn initialize(&self, site: &FrozenSite<'_>, _: &mut Rng, terms: &mut SiteValues<'_>) {
        terms.scale.iter_mut().enumerate().for_each(|(i, scale)| *scale = site.weight(i, 0));
        terms.shift.iter_mut().enumerate().for_each(|(i, shift)| *shift = site.real_bias(i));
    }
}

/// `ln` as the list has it.
#[cfg(feature = "alloc")]
pub(crate) const ROW: MethodRow = MethodRow {
    name: "ln",
    family: Family::Selective,
    settings: &[],
    deploy: "scale and shift in place of a normalization's own",
    source: "Tuning LayerNorm in Attention: Towards Efficient Multi-Modal LLM Finetuning (2024)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Terms(|_| Ok(Box::new(Ln))),
};
