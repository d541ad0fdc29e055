//! Sparse terms written into a resident copy of a site's weight, with the way back.

use ingraft_kernel::patch::{self, PlanWeight};
use ingraft_kernel::{Patched, SiteDesc, SiteKind, Sparse, SparseValues};

use crate::{AdapterError, SiteName};

/// A resident copy of one site's int8 weight and folded bias that a sparse term
/// can be written into and taken out of, to the bit.
///
/// Patching folds the delta into the weight and `−zx·Δ` into the bias, so the
/// site then runs at the base's speed. The log holds the original bytes; an
/// unfinished patch is undone before an error is returned.
#[derive(Debug)]
pub struct PatchedSite<'m> {
    weight: &'m mut [i8],
    bias: &'m mut [i32],
    log: &'m mut [u32],
    used: usize,
    row: usize,
    interleaved: bool,
    in_zero_point: i32,
    name: SiteName,
}

impl<'m> PatchedSite<'m> {
    /// A resident copy in the caller's memory, which must already hold the
    /// base's weight and bias; `log` bounds the terms that fit, by
    /// [`log_words`](crate::log_words) of each.
    ///
    /// # Errors
    /// [`AdapterError::Shape`] when the sizes are not the site's,
    /// [`AdapterError::Kind`] for a base that is not int8.
    pub fn new(
        site: &SiteDesc<'_>,
        in_zero_point: i32,
        weight: &'m mut [i8],
        bias: &'m mut [i32],
        log: &'m mut [u32],
    ) -> Result<Self, AdapterError> {
        let name = SiteName::new(site.name);
        if site.dtype != ingraft_tensor::DType::I8 {
            return Err(AdapterError::Kind(name));
        }
        let (row, out) = (site.row(), site.out);
        if weight.len() != row.saturating_mul(out) || bias.len() != out {
            return Err(AdapterError::Shape(name));
        }
        let interleaved = site.kind == SiteKind::Depthwise;
        Ok(Self { weight, bias, log, used: 0, row, interleaved, in_zero_point, name })
    }

    /// Writes an integer sparse term into the copy, after undoing the present one.
    ///
    /// # Errors
    /// [`AdapterError::Kind`] for real-valued deltas, [`AdapterError::Shape`] when
    /// the log is too short or the term is not the site's. The copy is then the base's.
    pub fn apply(&mut self, sparse: &Sparse<'_>) -> Result<(), AdapterError> {
        self.revert();
        if !matches!(sparse.values, SparseValues::I16(_)) {
            return Err(AdapterError::Kind(self.name));
        }
        let error = AdapterError::Shape(self.name);
        let (mut weight, log) = self.parts().ok_or(error)?;
        self.used = patch::write(&mut weight, sparse, Some(log)).ok_or(error)?;
        Ok(())
    }

    /// Restores the base's bytes.
    pub fn revert(&mut self) {
        let used = core::mem::take(&mut self.used);
        if let Some((mut weight, log)) = self.parts() {
            patch::revert(&mut weight, log.get(..used).unwrap_or(&[]));
        }
    }

    /// The copy as a term for the kernel.
    pub fn patched(&self) -> Patched<'_> {
        Patched { weight: self.weight, bias: self.bias }
    }

    fn parts(&mut self) -> Option<(PlanWeight<'_>, &mut [u32])> {
        let weight = PlanWeight::new(self.weight, self.bias, self.row, self.interleaved, self.in_zero_point)?;
        Some((weight, self.log))
    }
}
