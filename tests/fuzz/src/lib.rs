//! Fuzz targets: what each does, how its inputs are changed, and what it starts from. README.md says how to run them.
#![forbid(unsafe_code)]

pub mod exercise;
pub mod mutate;
pub mod seeds;

/// The fastest target of this machine; without the feature `native`, none.
pub fn native() -> Option<ingraft_kernel::Host> {
    #[cfg(all(feature = "native", target_arch = "x86_64"))]
    return ingraft_x86_64::available().next();
    #[cfg(not(all(feature = "native", target_arch = "x86_64")))]
    None
}
