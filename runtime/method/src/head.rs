//! Training the classifier alone.

use ingraft_kernel::SiteDesc;
use ingraft_train::{Method, Setting, TermLayout, Unfit};

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
