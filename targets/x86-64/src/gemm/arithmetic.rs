//! What a step of a product multiplies: codes as they lie, codes moved in a copy, or f32.

use crate::patches::STEP;
use crate::simd::{Bytes, Simd, Splitting};
use crate::split::Remainder;
use crate::split::order::Order;

/// What a step multiplies.
pub(crate) trait Arithmetic<S: Simd>: Copy {
    /// One accumulator per lane.
    type Sum: Copy;
    /// Four bytes of a patch, in every lane.
    type Patch: Copy;
    /// Four bytes of a weight row per lane.
    type Weight: Copy;

    /// What loading patches needs, once per layer.
    type Context: Copy;
    /// What every byte is combined with (exclusive or) where an image is copied anyway.
    const MOVE: u8;
    /// Bytes of a weight row that a step multiplies with [`STEP`] bytes of a patch.
    const BYTES: usize;
    /// Whether weights were split, and products are exact only with [`Self::add_rest`].
    const SPLIT: bool = false;
    /// Whether patches are single segments that follow each other, whole tiles of them: those of
    /// [copies in blocks](crate::patches::Patches::in_blocks).
    const EVEN: bool = false;

    /// The context of [`Self::patch`].
    fn context(simd: S) -> Self::Context;
    /// # Safety
    /// [`STEP`] bytes lie at `from`.
    unsafe fn patch(simd: S, context: Self::Context, from: *const u8) -> Self::Patch;
    /// Sixteen bytes of a patch, in every quarter of a vector.
    ///
    /// # Safety
    /// Sixteen bytes lie at `from`.
    unsafe fn block(simd: S, context: Self::Context, from: *const u8) -> Self::Patch;
    /// The neutral sum.
    fn zero(simd: S) -> Self::Sum;
    /// `start` and the sums of the quarters of four vectors, in the order of channels.
    fn sum_quarters(simd: S, start: Self::Sum, sums: [Self::Sum; 4]) -> Self::Sum;
    /// # Safety
    /// `BYTES · LANES` bytes lie at `from`.
    unsafe fn weight(simd: S, from: *const u8) -> Self::Weight;
    /// `sum + patch·weight`.
    fn multiply(simd: S, sum: Self::Sum, patch: Self::Patch, weight: Self::Weight) -> Self::Sum;

    /// Brings the codes of patches of `len` bytes into the order of split weights.
    #[inline(always)]
    fn reorder(_: S, _: &[Order], _: usize, _: &mut [u8]) {}

    /// Adds the products of what was split off the weights of a vector with the patches whose steps it chooses from begin at
    /// `from`.
    ///
    /// # Safety
    /// [`CHOICE`](crate::split::CHOICE) steps of a patch lie at each.
    #[inline(always)]
    unsafe fn add_rest<const M: usize>(
        _: S,
        _: Remainder<'_>,
        _: [*const u8; M],
        sums: [Self::Sum; M],
    ) -> [Self::Sum; M] {
        sums
    }
}

/// int8 codes to i32: `Σ (x + 128)·w`. The packed weights carry `−128·Σw`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Codes;

/// As [`Codes`], of an image whose copy holds the codes moved to 0…255: one operation less per broadcast.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MovedCodes;

/// As [`MovedCodes`], of patches that were copied in blocks: tiles address them by a pitch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EvenCodes;

/// As [`MovedCodes`], of weights that were [split](crate::split).
#[derive(Clone, Copy, Debug)]
pub(crate) struct SplitCodes;

/// Whether patches of `S` hold codes that were moved to 0…255.
pub(crate) const fn moves<S: Simd>() -> bool {
    <S::InPlace as Arithmetic<S>>::MOVE != 0
}

/// Whether `S` multiplies weights that were [split](crate::split).
pub(crate) const fn splits<S: Simd>() -> bool {
    <S::InPlace as Arithmetic<S>>::SPLIT
}

/// f32, fused multiply-add.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reals;

/// What integer products have in common, however their patches are loaded.
macro_rules! integer_products {
    () => {
        type Sum = S::Int;
        type Patch = S::Codes;
        type Weight = S::Weights;

        #[inline(always)]
        fn zero(simd: S) -> S::Int {
            simd.splat_int(0)
        }

        #[inline(always)]
        fn sum_quarters(simd: S, start: S::Int, sums: [S::Int; 4]) -> S::Int {
            simd.add_int(start, simd.sum_parts_int(sums))
        }

        #[inline(always)]
        unsafe fn weight(simd: S, from: *const u8) -> S::Weights {
            // SAFETY: the caller's contract.
            unsafe { simd.load_weights(from) }
        }

        #[inline(always)]
        fn multiply(simd: S, sum: S::Int, patch: S::Codes, weight: S::Weights) -> S::Int {
            simd.dot(sum, patch, weight)
        }
    };
}

impl<S: Bytes> Arithmetic<S> for Codes {
    integer_products!();

    type Context = S::Move;
    const MOVE: u8 = 0;
    const BYTES: usize = STEP;

    #[inline(always)]
    fn context(simd: S) -> S::Move {
        simd.moving()
    }

    #[inline(always)]
    unsafe fn patch(simd: S, context: S::Move, from: *const u8) -> S::Codes {
        // SAFETY: the caller's contract.
        unsafe { simd.load_codes(context, from) }
    }

    #[inline(always)]
    unsafe fn block(simd: S, context: S::Move, from: *const u8) -> S::Codes {
        // SAFETY: the caller's contract.
        unsafe { simd.load_block(context, from) }
    }
}

/// What products of moved codes have in common.
macro_rules! moved_codes {
    () => {
        integer_products!();

        type Context = ();
        const MOVE: u8 = 0x80;
        const BYTES: usize = STEP / S::WIDE;

        #[inline(always)]
        fn context(_: S) {}

        #[inline(always)]
        unsafe fn patch(simd: S, (): (), from: *const u8) -> S::Codes {
            // SAFETY: the caller's contract.
            unsafe { simd.load_moved(from) }
        }

        #[inline(always)]
        unsafe fn block(simd: S, (): (), from: *const u8) -> S::Codes {
            // SAFETY: the caller's contract.
            unsafe { simd.load_moved_block(from) }
        }
    };
}

impl<S: Simd> Arithmetic<S> for MovedCodes {
    moved_codes!();
}

impl<S: Simd> Arithmetic<S> for EvenCodes {
    moved_codes!();

    const EVEN: bool = true;
}

impl<S: Splitting> Arithmetic<S> for SplitCodes {
    moved_codes!();

    const SPLIT: bool = true;

    #[inline(always)]
    fn reorder(simd: S, orders: &[Order], len: usize, patches: &mut [u8]) {
        simd.reorder(orders, len, patches);
    }

    #[inline(always)]
    unsafe fn add_rest<const M: usize>(
        simd: S,
        remainder: Remainder<'_>,
        from: [*const u8; M],
        mut sums: [S::Int; M],
    ) -> [S::Int; M] {
        // SAFETY: a remainder has a vector of weights and a step for every lane; the patches are the caller's contract.
        unsafe {
            let (weights, steps) =
                (simd.load_weights(remainder.weights()), simd.load_steps(remainder.steps()));
            for (sum, from) in sums.iter_mut().zip(from) {
                *sum = simd.dot(*sum, simd.load_chosen(from, steps), weights);
            }
        }
        sums
    }
}

impl<S: Simd> Arithmetic<S> for Reals {
    type Sum = S::Real;
    type Patch = S::Real;
    type Weight = S::Real;
    type Context = ();
    const MOVE: u8 = 0;
    const BYTES: usize = STEP;

    #[inline(always)]
    fn context(_: S) {}

    #[inline(always)]
    unsafe fn patch(simd: S, (): (), from: *const u8) -> S::Real {
        // SAFETY: the caller's contract.
        unsafe { simd.load_splat(from.cast()) }
    }

    #[inline(always)]
    unsafe fn block(simd: S, (): (), from: *const u8) -> S::Real {
        // SAFETY: the caller's contract.
        unsafe { simd.load_four(from.cast()) }
    }

    #[inline(always)]
    fn zero(simd: S) -> S::Real {
        simd.splat(0.0)
    }

    #[inline(always)]
    fn sum_quarters(simd: S, start: S::Real, sums: [S::Real; 4]) -> S::Real {
        simd.add(start, simd.sum_parts(sums))
    }

    #[inline(always)]
    unsafe fn weight(simd: S, from: *const u8) -> S::Real {
        // SAFETY: the caller's contract.
        unsafe { simd.load(from.cast()) }
    }

    #[inline(always)]
    fn multiply(simd: S, sum: S::Real, patch: S::Real, weight: S::Real) -> S::Real {
        simd.mul_add(patch, weight, sum)
    }
}
