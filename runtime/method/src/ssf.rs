//! SSF: scaling and shifting features (Lian et al., 2022).

use ingraft_kernel::{SiteDesc, SiteKind};
use ingraft_train::{Method, Setting, TermLayout, Unfit};

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

    fn layout(&self, site: &SiteDesc<'_>) -> Result<TermLayout, Unfit> {
        Ok(match site.kind {
            SiteKind::Linear | SiteKind::Conv | SiteKind::Depthwise => {
                TermLayout { scale: true, shift: true, ..TermLayout::NONE }
            }
            _ => TermLayout::NONE,
        })
    }
}
