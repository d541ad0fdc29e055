//! The vector operations of training, for both instruction sets.
//!
//! As with [`Simd`](crate::simd::Simd), a value of a [`Vector`] type proves that its instructions may be
//! executed. What is worth a function of its own is a [`Leaf`]: it is compiled once for each instruction set.

mod avx2;
mod avx512;

/// An instruction set, as its proof.
pub(crate) trait Vector: Copy + core::fmt::Debug {
    /// f32 lanes in a vector.
    const LANES: usize;
    /// Vectors of a tile of six rows whose sums leave room for operands in the registers.
    const WIDTH: usize;
    /// Rows of such a tile of dot products, by four columns.
    const DOTS: usize;

    /// A vector of f32.
    type Real: Copy;

    /// Runs `leaf` compiled for the instruction set.
    fn call<L: Leaf>(self, leaf: L) -> Option<()>;

    /// `value` in every lane.
    fn splat(self, value: f32) -> Self::Real;
    /// Lane-wise sum.
    fn add(self, a: Self::Real, b: Self::Real) -> Self::Real;
    /// Lane-wise product.
    fn mul(self, a: Self::Real, b: Self::Real) -> Self::Real;
    /// `a·b + c`, rounded once.
    fn mul_add(self, a: Self::Real, b: Self::Real, c: Self::Real) -> Self::Real;
    /// Lane-wise quotient.
    fn div(self, a: Self::Real, b: Self::Real) -> Self::Real;
    /// Lane-wise square root.
    fn sqrt(self, v: Self::Real) -> Self::Real;
    /// The lanes whose bit is 1, the others 0 whatever they hold.
    fn keep(self, v: Self::Real, bits: u32) -> Self::Real;
    /// The sums across the lanes of four vectors.
    fn sums(self, v: [Self::Real; 4]) -> [f32; 4];

    /// # Safety
    /// [`Self::LANES`] values lie at `from`.
    unsafe fn load(self, from: *const f32) -> Self::Real;
    /// The first `count` lanes, the others 0.
    ///
    /// # Safety
    /// `count` values lie at `from`, at most [`Self::LANES`].
    unsafe fn load_first(self, from: *const f32, count: usize) -> Self::Real;
    /// # Safety
    /// [`Self::LANES`] codes lie at `from`.
    unsafe fn load_codes(self, from: *const i8) -> Self::Real;
    /// The first `count` codes, the other lanes 0.
    ///
    /// # Safety
    /// `count` codes lie at `from`, at most [`Self::LANES`].
    unsafe fn load_first_codes(self, from: *const i8, count: usize) -> Self::Real;
    /// # Safety
    /// `to` has room for [`Self::LANES`] values.
    unsafe fn store(self, to: *mut f32, v: Self::Real);
    /// # Safety
    /// `to` has room for `count` values, at most [`Self::LANES`].
    unsafe fn store_first(self, to: *mut f32, v: Self::Real, count: usize);
}

/// A loop that is compiled for each instruction set.
pub(crate) trait Leaf {
    /// Runs it; `None` for operands that do not agree. `inline(always)`, so that it takes on the caller's instructions.
    fn run<V: Vector>(self, v: V) -> Option<()>;
}

/// An element that is loaded as f32.
pub(crate) trait Stored: ingraft_kernel::backward::Code {
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
        unsafe { v.load_first(from, count) }
    }
}

impl Stored for i8 {
    #[inline(always)]
    unsafe fn load<V: Vector>(v: V, from: *const Self) -> V::Real {
        // SAFETY: the caller's contract.
        unsafe { v.load_codes(from) }
    }

    #[inline(always)]
    unsafe fn load_first<V: Vector>(v: V, from: *const Self, count: usize) -> V::Real {
        // SAFETY: the caller's contract.
        unsafe { v.load_first_codes(from, count) }
    }
}
