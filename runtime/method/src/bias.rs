//! BitFit: biases only (Ben Zaken, Ravfogel & Goldberg, 2022).

use ingraft_kernel::{SiteDesc, SiteKind};
use ingraft_train::{Method, Setting, TermLayout, Unfit};

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

    fn layout(&self, site: &SiteDesc<'_>) -> Result<TermLayout, Unfit> {
        Ok(match site.kind {
            SiteKind::Linear | SiteKind::Conv | SiteKind::Depthwise => {
                TermLayout { shift: true, ..TermLayout::NONE }
            }
            _ => TermLayout::NONE,
        })
    }
}
