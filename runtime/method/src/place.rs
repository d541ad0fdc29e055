//! The order of elements in a weight row, as methods are published and as kernels run.

use ingraft_kernel::SiteDesc;

/// Where the element stands in a kernel's row (height, width, input) that is element
/// `position` of a published row (input, height, width).
pub fn in_kernel(site: &SiteDesc<'_>, position: usize) -> usize {
    let [height, width] = site.kernel;
    let window = (height * width).max(1);
    position % window * site.inputs + position / window
}

/// Where the element stands in a published row that is element `position` of a kernel's: the
/// inverse of [`in_kernel`].
pub fn published(site: &SiteDesc<'_>, position: usize) -> usize {
    let [height, width] = site.kernel;
    let inputs = site.inputs.max(1);
    position % inputs * (height * width).max(1) + position / inputs
}
