//! Loads and stores of whole vectors from arrays of their size.

use core::arch::aarch64::*;

use crate::asm::load_four;

/// Sixteen int32 values.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn load_i32<const N: usize>(values: &[i32; 16]) -> [int32x4_t; N] {
    let (quads, _) = values.as_chunks::<4>();
    // SAFETY: the references cover the 16 bytes read; the load needs no alignment.
    core::array::from_fn(|n| quads.get(n).map_or(vdupq_n_s32(0), |q| unsafe { vld1q_s32(q.as_ptr()) }))
}

/// Sixteen floats.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn load_f32<const N: usize>(values: &[f32; 16]) -> [float32x4_t; N] {
    let (quads, _) = values.as_chunks::<4>();
    // SAFETY: the references cover the 16 bytes read; the load needs no alignment.
    core::array::from_fn(|n| quads.get(n).map_or(vdupq_n_f32(0.0), |q| unsafe { vld1q_f32(q.as_ptr()) }))
}

/// Overwrites four int32 values.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn store_i32(out: &mut [i32; 4], values: int32x4_t) {
    // SAFETY: the reference covers the 16 bytes written; the store needs no alignment.
    unsafe { vst1q_s32(out.as_mut_ptr(), values) }
}

/// Overwrites four floats.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn store_f32(out: &mut [f32; 4], values: float32x4_t) {
    // SAFETY: the reference covers the 16 bytes written; the store needs no alignment.
    unsafe { vst1q_f32(out.as_mut_ptr(), values) }
}

/// Overwrites sixteen int8 codes.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn store_i8(out: &mut [i8; 16], values: int8x16_t) {
    // SAFETY: the reference covers the 16 bytes written; the store needs no alignment.
    unsafe { vst1q_s8(out.as_mut_ptr(), values) }
}

/// The `N` values from `at` on where the slice has them, else what is left and zeros.
#[inline(always)]
pub(crate) fn block<T: Copy + Default, const N: usize>(values: &[T], at: usize) -> [T; N] {
    let rest = values.get(at..).unwrap_or(&[]);
    match rest.first_chunk() {
        Some(whole) => *whole,
        None => {
            let mut padded = [T::default(); N];
            padded.iter_mut().zip(rest).for_each(|(p, v)| *p = *v);
            padded
        }
    }
}

/// `16·N` codes, N one, two or four, and what follows them.
///
/// # Safety
/// `16·N` bytes from `values` on are readable.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) unsafe fn load_codes<const N: usize>(values: *const i8) -> ([int8x16_t; N], *const i8) {
    const { assert!(N == 1 || N == 2 || N == 4, "there are loads of one, two and four registers") };
    // SAFETY: the caller's promise, for the N that was asserted.
    unsafe {
        if N == 4 {
            let (codes, next) = load_four(values);
            (core::array::from_fn(|n| codes[n % 4]), next)
        } else {
            (core::array::from_fn(|n| vld1q_s8(values.add(16 * n))), values.add(16 * N))
        }
    }
}
