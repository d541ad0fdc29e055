//! The terms of an adapter that acted beside what was trained, as they are.

use ingraft_adapter::TermSpec;
use ingraft_kernel::SiteTerms;

use super::Deployed;

impl Deployed {
    /// Adds the terms of `frozen`, which fit what is there. Scale and shift act behind a scale that a fused weight gives back.
    pub(super) fn stack(&mut self, frozen: &SiteTerms<'_>) {
        for term in TermSpec::of(frozen) {
            match term {
                TermSpec::Affine { scale, shift } => self.take_affine(scale, shift),
                term => self.terms.push(term),
            }
        }
    }
}
