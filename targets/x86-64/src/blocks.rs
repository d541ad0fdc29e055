//! Element-wise work on four vectors at a time.

use crate::qconv::Bounds;
use crate::simd::Simd;

/// Vectors worked on together.
pub(crate) const TOGETHER: usize = 4;

/// Elements of a whole block.
pub(crate) const fn block<S: Simd>() -> usize {
    TOGETHER * S::LANES
}

/// Most elements of a block on any instruction set.
const MOST: usize = 64;

/// `function` of every vector. The `map` of arrays would stay a call: it is not compiled for the instruction set.
#[inline(always)]
pub(crate) fn each<A, B>(values: [A; TOGETHER], function: impl Fn(A) -> B) -> [B; TOGETHER] {
    let [a, b, c, d] = values;
    [function(a), function(b), function(c), function(d)]
}

/// A block of codes as integers, zero past the last.
#[inline(always)]
pub(crate) fn load_codes<S: Simd>(simd: S, codes: &[i8]) -> [S::Int; TOGETHER] {
    const { assert!(block::<S>() <= MOST) };
    if codes.len() < block::<S>() {
        let mut padded = [0; MOST];
        padded.iter_mut().zip(codes).for_each(|(to, code)| *to = *code);
        return load_whole(simd, &padded);
    }
    load_whole(simd, codes)
}

/// As [`load_codes`], of a whole block; zeros of a shorter one.
#[inline(always)]
fn load_whole<S: Simd>(simd: S, codes: &[i8]) -> [S::Int; TOGETHER] {
    let mut wide = [simd.splat_int(0); TOGETHER];
    if codes.len() >= block::<S>() {
        for (v, wide) in wide.iter_mut().enumerate() {
            // SAFETY: a whole block lies in the slice.
            *wide = unsafe { simd.load_codes_wide(codes.as_ptr().add(v * S::LANES)) };
        }
    }
    wide
}

/// A block of f32, zero past the last.
#[inline(always)]
pub(crate) fn load_reals<S: Simd>(simd: S, values: &[f32]) -> [S::Real; TOGETHER] {
    let (from, mut reals) = (values.as_ptr(), [simd.splat(0.0); TOGETHER]);
    for (v, real) in reals.iter_mut().enumerate() {
        let (at, whole) = (v * S::LANES, values.len() >= block::<S>());
        // SAFETY: only values that the slice has are read.
        *real = unsafe {
            if whole {
                simd.load(from.add(at))
            } else {
                simd.load_some(from.wrapping_add(at), left(values, at, S::LANES))
            }
        };
    }
    reals
}

/// Overwrites a block of f32, or as many as there are.
#[inline(always)]
pub(crate) fn store_reals<S: Simd>(simd: S, out: &mut [f32], reals: [S::Real; TOGETHER]) {
    let whole = out.len() >= block::<S>();
    for (v, real) in reals.into_iter().enumerate() {
        let at = v * S::LANES;
        let count = if whole { S::LANES } else { left(out, at, S::LANES) };
        // SAFETY: only values that the slice has are written.
        unsafe { simd.store_some(out.as_mut_ptr().wrapping_add(at), real, count) };
    }
}

/// Values of a vector that a slice has from `at` on.
#[inline(always)]
fn left<T>(values: &[T], at: usize, lanes: usize) -> usize {
    values.len().saturating_sub(at).min(lanes)
}

/// Overwrites a block of codes, or as many as there are, with real values in output steps.
///
/// # Numerics
/// Clamps, rounds half to even and adds the zero point as the reference does, for bounds that
/// keep the sum within int8: packing saturates, but never has to.
#[inline(always)]
pub(crate) fn store_codes<S: Simd>(simd: S, out: &mut [i8], values: [S::Real; TOGETHER], bounds: &Bounds<S>) {
    let codes = each(values, |v| simd.round(simd.clamp(v, bounds.lo, bounds.hi)));
    let count = if out.len() >= block::<S>() { block::<S>() } else { out.len() };
    // SAFETY: only codes that the slice has are written.
    unsafe { simd.store_codes(out.as_mut_ptr(), codes, bounds.zero_point, count) };
}
