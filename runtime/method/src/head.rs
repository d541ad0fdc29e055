//! Training the classifier alone.

#[cfg(feature = "alloc")]
use alloc::boxed::Box;
use ingraft_kernel::SiteDesc;
use ingraft_train::{Method, Setting, TermLayout, Unfit};

#[cfg(feature = "alloc")]
use crate::row::{Definition, Family, Make, MethodRow};

/// No terms: the base stays as it is, and only the head on its features is trained.
///
/// The features of a clip never change, so they can be kept and no layer runs
/// while training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head;

impl Method for Head {
    fn name(&self) -> &'static str {
        "head"
    }

    fn settings(&self, _: &mut dyn FnMut(&'static str, Setting)) {}

    fn layout(&self, _: &SiteDesc<'_>) -> Result<TermLayout, Unfit> {
        Ok(TermLayout::NONE)
    }
}

/// `head` as the list has it.
#[cfg(feature = "alloc")]
pub(crate) const ROW: MethodRow = MethodRow {
    name: "head",
    family: Family::Selective,
    settings: &[],
    deploy: "replacement of the last linear layer",
    source: "linear probing",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Terms(|_| Ok(Box::new(Head))),
};
