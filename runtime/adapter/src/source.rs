//! Where a session takes the terms of a run from.

use ingraft_kernel::SiteTerms;

use crate::HeadView;

/// Anything that can say which terms act at a site: a stored adapter, the live
/// parameters of a trainer, a patched resident copy, or the base itself.
pub trait TermSource {
    /// The terms at site `index`.
    fn terms(&self, index: usize) -> SiteTerms<'_>;

    /// The head that replaces the last linear layer, if any.
    fn head(&self) -> Option<HeadView<'_>>;
}

/// The untouched base.
#[derive(Clone, Copy, Debug, Default)]
pub struct Base;

impl TermSource for Base {
    fn terms(&self, _: usize) -> SiteTerms<'_> {
        SiteTerms::NONE
    }

    fn head(&self) -> Option<HeadView<'_>> {
        None
    }
}

/// A head alone: every site stays as it is.
impl TermSource for HeadView<'_> {
    fn terms(&self, _: usize) -> SiteTerms<'_> {
        SiteTerms::NONE
    }

    fn head(&self) -> Option<HeadView<'_>> {
        Some(*self)
    }
}

impl<S: TermSource + ?Sized> TermSource for &S {
    fn terms(&self, index: usize) -> SiteTerms<'_> {
        (**self).terms(index)
    }

    fn head(&self) -> Option<HeadView<'_>> {
        (**self).head()
    }
}

impl<S: TermSource> TermSource for Option<S> {
    fn terms(&self, index: usize) -> SiteTerms<'_> {
        self.as_ref().map_or(SiteTerms::NONE, |s| s.terms(index))
    }

    fn head(&self) -> Option<HeadView<'_>> {
        self.as_ref().and_then(TermSource::head)
    }
}
