//! The vector operations that kernels of more than one instruction set share.
//!
//! A value of a [`Simd`] type proves that its instructions may be executed, so
//! operations on registers are safe. Only loads and stores have contracts.
//!
//! Everything here is `inline(always)`: it becomes part of the row's entry
//! function, which is the one compiled for the instruction set.

mod avx512;

/// An instruction set, as its proof.
pub(crate) trait Simd: Copy + core::fmt::Debug {
    /// 32-bit lanes in a vector.
    const LANES: usize;
    /// Most vectors of output channels in a register tile.
    const COLUMNS: usize;

    /// A vector of i32.
    type Int: Copy;
    /// A vector of f32.
    type Real: Copy;
    /// Four codes of one activation row, in every lane.
    type Codes: Copy;
    /// What moves codes to 0…255.
    type Move: Copy;
    /// Four codes of one weight row per lane.
    type Weights: Copy;

    /// `value` in every lane.
    fn splat_int(self, value: i32) -> Self::Int;
    /// `value` in every lane.
    fn splat(self, value: f32) -> Self::Real;
    /// The nearest reals, half to even.
    fn to_real(self, v: Self::Int) -> Self::Real;
    /// Lane-wise sum.
    fn add(self, a: Self::Real, b: Self::Real) -> Self::Real;
    /// Lane-wise product.
    fn mul(self, a: Self::Real, b: Self::Real) -> Self::Real;
    /// `a·b + c`, rounded once.
    fn mul_add(self, a: Self::Real, b: Self::Real, c: Self::Real) -> Self::Real;
    /// `v` limited to `lo..=hi`, as [`ingraft_kernel::requantize::clamp`] does.
    fn clamp(self, v: Self::Real, lo: Self::Real, hi: Self::Real) -> Self::Real;
    /// The nearest integers, half to even, for values within ±2³¹.
    fn round(self, v: Self::Real) -> Self::Int;
    /// Wrapping `acc + Σ x·w` of the four codes in each lane, exact.
    fn dot(self, acc: Self::Int, x: Self::Codes, w: Self::Weights) -> Self::Int;

    /// # Safety
    /// `LANES` values lie at `from`.
    unsafe fn load_int(self, from: *const i32) -> Self::Int;
    /// # Safety
    /// `LANES` values lie at `from`.
    unsafe fn load(self, from: *const f32) -> Self::Real;
    /// What [`Self::load_codes`] needs, once per layer.
    fn moving(self) -> Self::Move;
    /// The codes of four bytes plus 128: what [`Self::dot`] multiplies.
    ///
    /// # Safety
    /// Four codes lie at `from`.
    unsafe fn load_codes(self, moving: Self::Move, from: *const u8) -> Self::Codes;
    /// Codes that were moved to 0…255 before.
    ///
    /// # Safety
    /// Four codes lie at `from`.
    unsafe fn load_moved(self, from: *const u8) -> Self::Codes;
    /// Sixteen codes plus 128 in every quarter of a vector.
    ///
    /// # Safety
    /// Sixteen codes lie at `from`.
    unsafe fn load_block(self, moving: Self::Move, from: *const u8) -> Self::Codes;
    /// Sixteen codes that were moved before, in every quarter of a vector.
    ///
    /// # Safety
    /// Sixteen codes lie at `from`.
    unsafe fn load_moved_block(self, from: *const u8) -> Self::Codes;
    /// Four values in every quarter of a vector.
    ///
    /// # Safety
    /// Four values lie at `from`.
    unsafe fn load_four(self, from: *const f32) -> Self::Real;
    /// Lane `4·i + g` of the result is the sum of the lanes of quarter `i` of vector `g`.
    fn sum_quarters_int(self, v: [Self::Int; 4]) -> Self::Int;
    /// As [`Self::sum_quarters_int`].
    fn sum_quarters(self, v: [Self::Real; 4]) -> Self::Real;
    /// Lane-wise wrapping sum.
    fn add_int(self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// # Safety
    /// `4·LANES` codes lie at `from`.
    unsafe fn load_weights(self, from: *const u8) -> Self::Weights;
    /// The value at `from` in every lane.
    ///
    /// # Safety
    /// One value lies at `from`.
    unsafe fn load_splat(self, from: *const f32) -> Self::Real;
    /// Writes the first `count` lanes.
    ///
    /// # Safety
    /// `to` has room for `count` values, at most `LANES`.
    unsafe fn store_int(self, to: *mut i32, v: Self::Int, count: usize);
    /// Writes the first `count` lanes.
    ///
    /// # Safety
    /// `to` has room for `count` values, at most `LANES`.
    unsafe fn store(self, to: *mut f32, v: Self::Real, count: usize);
    /// Writes the first `count` lanes of `N` vectors of integers within int8, plus `zero`, as codes.
    ///
    /// # Safety
    /// `to` has room for `count` codes, at most `N·LANES`.
    unsafe fn store_codes<const N: usize>(
        self,
        to: *mut i8,
        v: [Self::Int; N],
        zero: Self::Int,
        count: usize,
    );
}
