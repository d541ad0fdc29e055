//! Files that the build script made, in flash.

/// Bytes that start at a 16-byte boundary, as plans, adapters and arenas must.
#[derive(Debug)]
#[repr(C, align(16))]
pub struct Aligned<T: ?Sized>(pub T);

/// A file of the build script, at a 16-byte boundary.
#[macro_export]
macro_rules! file {
    ($name:literal) => {
        &$crate::flash::Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/", $name)))
    };
}

pub use file;
