//! The vector operations that kernels of more than one instruction set share.
//!
//! A value of a [`Simd`] type proves that its instructions may be executed, so
//! operations on registers are safe. Only loads and stores have contracts.
//!
//! Everything here is `inline(always)`: it becomes part of the row's entry
//! function, which is the one compiled for the instruction set.

mod avx2;
mod avx2_bytes;
mod avx512;
mod avx_vnni;
mod ymm;

use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

use ingraft_kernel::{Call, KernelError};
pub(crate) use ingraft_vector::{Row, Task, Vector};

pub(crate) use self::avx2_bytes::Avx2Bytes;
pub(crate) use self::ymm::Ymm;
use crate::gemm::Arithmetic;
use crate::qconv::ranks::Ranks;
use crate::split::order::Order;

/// The entry of a row.
pub(crate) fn entry<S: Vector, R: Row<S>>(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through a target, whose argument proves the instructions.
    unsafe { S::assume() }.enter::<R>(call)
}

/// Does what a row does at bind.
pub(crate) fn perform<S: Vector, T: Task<S>>(task: T) -> T::Output {
    // SAFETY: as in [`entry`].
    unsafe { S::assume() }.perform(task)
}

/// Has the cache line of `values[place]` fetched.
#[inline(always)]
pub(crate) fn fetch<T>(values: &[T], place: usize) {
    fetch_at(values.as_ptr().wrapping_add(place).cast());
}

/// Has the cache line at `place` fetched, if there is one.
#[inline(always)]
pub(crate) fn fetch_at(place: *const u8) {
    // SAFETY: nothing is read: a prefetch of any address does no harm, and every processor of this architecture has it.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) }
}

/// An instruction set, as its proof.
pub(crate) trait Simd: Vector + Ranks {
    /// Registers for vectors.
    const REGISTERS: usize;
    /// Bytes of a code in a patch: what [`Self::dot`] multiplies.
    const WIDE: usize;
    /// Most vectors of output channels in a register tile.
    const COLUMNS: usize;

    /// A vector of i32.
    type Int: Copy;
    /// Four bytes of codes of one activation row, in every lane.
    type Codes: Copy;
    /// As many codes of one weight row per lane.
    type Weights: Copy;
    /// Products of codes of patches that are not copied.
    type InPlace: Arithmetic<Self, Sum = Self::Int>;

    /// `value` in every lane.
    fn splat_int(self, value: i32) -> Self::Int;
    /// The nearest reals, half to even.
    fn to_real(self, v: Self::Int) -> Self::Real;
    /// `v` limited to `lo..=hi`, as [`ingraft_kernel::requantize::clamp`] does.
    fn clamp(self, v: Self::Real, lo: Self::Real, hi: Self::Real) -> Self::Real;
    /// The nearest integers, half to even, for values within ±2³¹.
    fn round(self, v: Self::Real) -> Self::Int;
    /// Wrapping `acc + Σ x·w` of the codes in each lane, exact.
    fn dot(self, acc: Self::Int, x: Self::Codes, w: Self::Weights) -> Self::Int;

    /// # Safety
    /// `LANES` values lie at `from`.
    unsafe fn load_int(self, from: *const i32) -> Self::Int;
    /// Codes that were moved to 0…255 before, of [`Self::WIDE`] bytes each.
    ///
    /// # Safety
    /// Four bytes lie at `from`.
    unsafe fn load_moved(self, from: *const u8) -> Self::Codes;
    /// Sixteen bytes of codes that were moved before, in every 128 bits of a vector.
    ///
    /// # Safety
    /// Sixteen bytes lie at `from`.
    unsafe fn load_moved_block(self, from: *const u8) -> Self::Codes;
    /// Four values in every 128 bits of a vector.
    ///
    /// # Safety
    /// Four values lie at `from`.
    unsafe fn load_four(self, from: *const f32) -> Self::Real;
    /// Lane `4·i + g` of the result is the sum of the lanes of the 128 bits `i` of vector `g`.
    fn sum_parts_int(self, v: [Self::Int; 4]) -> Self::Int;
    /// As [`Self::sum_parts_int`].
    fn sum_parts(self, v: [Self::Real; 4]) -> Self::Real;
    /// Values, zero for those that are no number.
    fn number(self, v: Self::Real) -> Self::Real;
    /// The larger, lane by lane.
    fn max_int(self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// `LANES` codes as integers.
    ///
    /// # Safety
    /// `LANES` codes lie at `from`.
    unsafe fn load_codes_wide(self, from: *const i8) -> Self::Int;
    /// Lane-wise wrapping sum.
    fn add_int(self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// Wrapping `acc + Σ x·w` of two 16-bit values in each lane.
    fn dot_pairs(self, acc: Self::Int, x: Self::Int, w: Self::Int) -> Self::Int;
    /// # Safety
    /// `4·LANES / WIDE` codes lie at `from`.
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
    /// As [`Self::store_codes`], of any integers: sums with `zero` saturate to int8, within what every byte of `limits` says, the
    /// least and the most, where there are such.
    ///
    /// # Safety
    /// As there.
    unsafe fn store_within<const N: usize>(
        self,
        to: *mut i8,
        v: [Self::Int; N],
        zero: Self::Int,
        limits: Option<[Self::Int; 2]>,
        count: usize,
    );
}

/// An instruction set whose products of bytes are exact for [split](crate::split) weights alone.
pub(crate) trait Splitting: Simd {
    /// Which step each lane chooses.
    ///
    /// # Safety
    /// A byte for each lane lies at `from`.
    unsafe fn load_steps(self, from: *const u8) -> Self::Int;
    /// Brings each block of codes of patches of `len` bytes that follow each other into its order.
    fn reorder(self, orders: &[Order], len: usize, patches: &mut [u8]);
    /// In each lane the step that it chooses.
    ///
    /// # Safety
    /// [`CHOICE`](crate::split::CHOICE) steps lie at `from`.
    unsafe fn load_chosen(self, from: *const u8, steps: Self::Int) -> Self::Codes;
}

/// An instruction set that multiplies bytes as they lie.
pub(crate) trait Bytes: Simd {
    /// What moves codes to 0…255.
    type Move: Copy;

    /// What [`Self::load_codes`] needs, once per layer.
    fn moving(self) -> Self::Move;
    /// The codes of four bytes plus 128: what [`Simd::dot`] multiplies.
    ///
    /// # Safety
    /// Four codes lie at `from`.
    unsafe fn load_codes(self, moving: Self::Move, from: *const u8) -> Self::Codes;
    /// Sixteen codes plus 128 in every 128 bits of a vector.
    ///
    /// # Safety
    /// Sixteen codes lie at `from`.
    unsafe fn load_block(self, moving: Self::Move, from: *const u8) -> Self::Codes;
    /// A vector of codes that were moved before.
    ///
    /// # Safety
    /// `4·LANES` codes lie at `from`.
    unsafe fn load_line(self, from: *const u8) -> Self::Codes;
    /// The codes of both in turns, of the lower and of the upper halves of every 128 bits.
    fn interleave(self, a: Self::Codes, b: Self::Codes) -> [Self::Codes; 2];
    /// As [`Self::interleave`], by pairs of codes.
    fn interleave_pairs(self, a: Self::Codes, b: Self::Codes) -> [Self::Codes; 2];
}
