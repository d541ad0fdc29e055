//! Integer low-rank terms added to sums in registers.
//!
//! # Limits
//! Four pixels by sixteen channels take 64 multiplications and 16 loads for every four of rank, and 48 operations more than
//! the base's to become codes, as either sum is converted and scaled by itself.

use core::arch::aarch64::*;

use super::Codes;
use crate::dot::Sink;
use crate::lanes::load_f32;
use crate::panel::WIDTH;
use crate::requantize;

/// Values of a pixel in rank space that are read together.
pub(super) const RUN: usize = 4;

/// Adds `B·(A·x)` to the values of a part, and requantizes them.
pub(super) struct Adapted<'l, 'o> {
    pub(super) codes: Codes<'o>,
    /// `A·x`, `[pixel][rank]`.
    pub(super) latent: &'l [i16],
    /// Length of a pixel's values, a multiple of [`RUN`].
    pub(super) stride: usize,
    /// `B`, `[rank][channel]`, zero past the rank.
    pub(super) up: &'l [[i16; WIDTH]],
    pub(super) scale: [f32; WIDTH],
}

impl Sink for Adapted<'_, '_> {
    #[inline(always)]
    unsafe fn put<const P: usize, const N: usize>(
        &mut self,
        first: usize,
        count: usize,
        sums: [[int32x4_t; N]; P],
    ) -> Option<()> {
        // SAFETY: the caller's promise.
        unsafe {
            let mut values = [[vdupq_n_f32(0.0); N]; P];
            self.add::<0, P, N>(first, &sums, &mut values)?;
            if N > 2 {
                self.add::<2, P, N>(first, &sums, &mut values)?;
            }
            for (i, values) in values.iter().take(count).enumerate() {
                let codes = self.codes.limits.rounded(values);
                requantize::store(self.codes.pixel(first + i)?, codes);
            }
        }
        Some(())
    }
}

impl Adapted<'_, '_> {
    /// Writes vectors `AT` and `AT + 1` of the values of `P` pixels from `first` on: beside all sums, what is added to so many
    /// is what the registers hold.
    ///
    /// # Safety
    /// The processor executes NEON.
    #[inline(always)]
    unsafe fn add<const AT: usize, const P: usize, const N: usize>(
        &self,
        first: usize,
        sums: &[[int32x4_t; N]; P],
        values: &mut [[float32x4_t; N]; P],
    ) -> Option<()> {
        // What stands there for pixels past the last of the block is dropped with them.
        let latent = self.latent.get(first * self.stride..)?.get(..P * self.stride)?;
        (self.up.len() == self.stride).then_some(())?;
        // SAFETY: the caller's promise, and as many values were found.
        unsafe {
            let added = product::<P>(latent.as_ptr(), self.up, 4 * AT);
            let (multiplier, scale): ([_; N], [_; N]) =
                (load_f32(&self.codes.multiplier), load_f32(&self.scale));
            for ((values, sums), added) in values.iter_mut().zip(sums).zip(added) {
                for (i, added) in added.into_iter().enumerate() {
                    let base = vmulq_f32(vcvtq_f32_s32(sums[AT + i]), multiplier[AT + i]);
                    values[AT + i] = vaddq_f32(base, vmulq_f32(vcvtq_f32_s32(added), scale[AT + i]));
                }
            }
        }
        Some(())
    }
}

/// `Σ latent[p][k]·up[k][c]` of the eight channels from `first` on.
///
/// # Safety
/// The processor executes NEON. As many values in rank space as `up` has rows, a multiple of [`RUN`], lie at `latent` for each
/// pixel; `first` is 0 or 8.
#[inline(always)]
unsafe fn product<const P: usize>(
    latent: *const i16,
    up: &[[i16; WIDTH]],
    first: usize,
) -> [[int32x4_t; 2]; P] {
    // SAFETY: the caller's promise.
    let mut sums = [[unsafe { vdupq_n_s32(0) }; 2]; P];
    for (run, rows) in up.as_chunks::<RUN>().0.iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe {
            let [a, b, c, d] = rows.each_ref().map(|row| vld1q_s16(row.as_ptr().add(first)));
            for (pixel, sums) in sums.iter_mut().enumerate() {
                let u = vld1_s16(latent.add(pixel * up.len() + run * RUN));
                add::<0>(sums, a, u);
                add::<1>(sums, b, u);
                add::<2>(sums, c, u);
                add::<3>(sums, d, u);
            }
        }
    }
    sums
}

/// Adds the products of eight values with value `LANE` of a pixel.
///
/// # Safety
/// The processor executes NEON.
#[inline(always)]
unsafe fn add<const LANE: i32>([low, high]: &mut [int32x4_t; 2], up: int16x8_t, u: int16x4_t) {
    // SAFETY: the caller's promise.
    unsafe {
        *low = vmlal_lane_s16::<LANE>(*low, vget_low_s16(up), u);
        *high = vmlal_high_lane_s16::<LANE>(*high, up, u);
    }
}
