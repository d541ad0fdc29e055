//! Elements that gradients read as f32.

use crate::Vector;

/// An element that is loaded as f32.
pub(super) trait Stored: ingraft_kernel::backward::Code {
    /// # Safety
    /// A vector of elements lies at `from`.
    unsafe fn load<V: Vector>(v: V, from: *const Self) -> V::Real;
    /// The first `count`, the other lanes 0.
    ///
    /// # Safety
    /// `count` elements lie at `from`, at most a vector.
    unsafe fn load_first<V: Vector>(v: V, from: *const Self, count: usize) -> V::Real;
}

impl Stored for f32 {
    #[inline(always)]
    unsafe fn load<V: Vector>(v: V, from: *const Self) -> V::Real {
        // SAFETY: the caller's contract.
        unsafe { v.load(from) }
    }

    #[inline(always)]
    unsafe fn load_first<V: Vector>(v: V, from: *const Self, count: usize) -> V::Real {
        // SAFETY: the caller's contract.
        unsafe { v.load_some(from, count) }
    }
}

impl Stored for i8 {
    #[inline(always)]
    unsafe fn load<V: Vector>(v: V, from: *const Self) -> V::Real {
        // SAFETY: the caller's contract.
        unsafe { v.load_i8(from) }
    }

    #[inline(always)]
    unsafe fn load_first<V: Vector>(v: V, from: *const Self, count: usize) -> V::Real {
        // SAFETY: the caller's contract.
        unsafe { v.load_some_i8(from, count) }
    }
}
