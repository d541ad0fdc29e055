//! Products of a few f16 rows with a panel of f16 weights, twice as many in a register as in f32.
//!
//! # Numerics
//! An activation is rounded to f16 in 2⁻⁶ of its size, a weight in a power of two that brings the largest of its channel to
//! ½…1. Runs of [`RUN`] elements are summed in f16, which activations up to 65504 cannot overflow, and the runs in f32,
//! which meet the scale and the bias in the end. With u = 2⁻¹¹ a result is within
//! `(RUN + 3)·u·Σ|x·w| + len·max|w|·(2⁻¹⁷ + 2⁻²³·max|x|)` of the exact sum, were every rounding to err to the same side;
//! errors cancel, and networks see about 2u of their largest output, recurrent ones more. Larger activations may become
//! infinite.
//!
//! # Limits
//! With eight rows and sixteen channels every eight elements of depth take 128 `FMLA` of eight lanes beside 16 loads of
//! weights and 8 of rows: half the multiplications of f32. Every run costs 96 operations more, and every activation one
//! to become f16, once for all channels and taps.

pub(crate) mod weights;

use core::arch::aarch64::*;

use crate::asm::{fmla_lane, narrow, widen};
use crate::lanes::{block, load_f32, store_f32};
use crate::math::power_of_two;
use crate::panel::WIDTH;
use crate::tile::{BLOCK, Block, Rows};

/// Elements summed in f16.
pub(crate) const RUN: usize = 64;
/// Rows are read eight elements at a time.
pub(crate) const ROW_ALIGN: usize = 8;
/// Rows multiplied together: with sixteen channels their sums fill half of the registers.
pub(crate) const HEIGHT: usize = 8;
/// What an activation is multiplied with: 65504 of a run, with weights below 1, sum to no more than 65504.
pub(crate) const ACTIVATION: f32 = 1.0 / RUN as f32;

/// A panel of channels.
pub(crate) struct Channels<'p> {
    /// The weights, as packed.
    pub(crate) weights: &'p [u16],
    /// How many, with padding: eight or sixteen.
    pub(crate) lanes: usize,
    /// What sums of products are to be multiplied with.
    pub(crate) scales: [f32; WIDTH],
    pub(crate) bias: [f32; WIDTH],
}

/// Writes bias plus products of every row of a block with a panel of channels.
#[target_feature(enable = "neon,fp16")]
pub(crate) fn multiply(
    block: Block,
    rows: &Rows<'_, u16, ROW_ALIGN>,
    channels: &Channels<'_>,
    values: &mut [[f32; WIDTH]; BLOCK],
) -> Option<()> {
    for first in (0..block.pixels).step_by(HEIGHT) {
        let (count, out) = (block.pixels - first, values.get_mut(first..)?);
        match (channels.lanes == WIDTH, count) {
            (true, 1) => tile::<1, 2>(rows, first, 1, channels, out)?,
            (true, 2) => tile::<2, 2>(rows, first, 2, channels, out)?,
            (true, 3 | 4) => tile::<4, 2>(rows, first, count, channels, out)?,
            (true, _) => tile::<HEIGHT, 2>(rows, first, count.min(HEIGHT), channels, out)?,
            (false, 1) => tile::<1, 1>(rows, first, 1, channels, out)?,
            (false, 2) => tile::<2, 1>(rows, first, 2, channels, out)?,
            (false, 3 | 4) => tile::<4, 1>(rows, first, count, channels, out)?,
            (false, _) => tile::<HEIGHT, 1>(rows, first, count.min(HEIGHT), channels, out)?,
        }
    }
    Some(())
}

/// `count` rows from `first` on, at most `P`, with `8·N` channels.
#[inline]
#[target_feature(enable = "neon,fp16")]
fn tile<const P: usize, const N: usize>(
    rows: &Rows<'_, u16, ROW_ALIGN>,
    first: usize,
    count: usize,
    channels: &Channels<'_>,
    out: &mut [[f32; WIDTH]],
) -> Option<()> {
    let (len, panel) = (rows.len, channels.weights);
    (panel.len() >= len * 8 * N).then_some(())?;
    let (mut rows, mut panel) =
        (rows.tile::<P>(first, count, len.next_multiple_of(ROW_ALIGN))?, panel.as_ptr());
    let mut sums = [[[vdupq_n_f32(0.0); 2]; N]; P];
    for start in (0..len).step_by(RUN) {
        let mut run = [[vdupq_n_u16(0); N]; P];
        let elements = RUN.min(len - start);
        for _ in 0..elements / 8 {
            // SAFETY: rows were found readable for whole vectors, and the panel for `8·N` channels of each element.
            unsafe {
                let x = rows.map(|row| vld1q_u16(row));
                rows = rows.map(|row| row.add(8));
                add::<0, P, N>(&mut run, panel, &x);
                add::<1, P, N>(&mut run, panel.add(8 * N), &x);
                add::<2, P, N>(&mut run, panel.add(16 * N), &x);
                add::<3, P, N>(&mut run, panel.add(24 * N), &x);
                add::<4, P, N>(&mut run, panel.add(32 * N), &x);
                add::<5, P, N>(&mut run, panel.add(40 * N), &x);
                add::<6, P, N>(&mut run, panel.add(48 * N), &x);
                add::<7, P, N>(&mut run, panel.add(56 * N), &x);
                panel = panel.add(64 * N);
            }
        }
        if !elements.is_multiple_of(8) {
            // SAFETY: as above; this is the last run.
            unsafe {
                let mut x = rows.map(|row| vld1q_u16(row));
                for _ in 0..elements % 8 {
                    add::<0, P, N>(&mut run, panel, &x);
                    panel = panel.add(8 * N);
                    x = x.map(|x| vextq_u16::<1>(x, x));
                }
            }
        }
        for (sum, run) in sums.as_flattened_mut().iter_mut().zip(run.as_flattened()) {
            let [low, high] = widen(*run);
            *sum = [vaddq_f32(sum[0], low), vaddq_f32(sum[1], high)];
        }
    }
    let (scales, bias): ([_; 4], [_; 4]) = (load_f32(&channels.scales), load_f32(&channels.bias));
    for (out, sums) in out.iter_mut().zip(sums).take(count) {
        let quads = out.as_chunks_mut::<4>().0.iter_mut().zip(sums.as_flattened());
        for ((out, sum), (scale, bias)) in quads.zip(scales.into_iter().zip(bias)) {
            store_f32(out, vfmaq_f32(bias, *sum, scale));
        }
    }
    Some(())
}

/// Adds the products of element `LANE` of every row.
///
/// # Safety
/// `8·N` elements from `panel` on are readable.
#[inline]
#[target_feature(enable = "neon,fp16")]
unsafe fn add<const LANE: i32, const P: usize, const N: usize>(
    sums: &mut [[uint16x8_t; N]; P],
    panel: *const u16,
    x: &[uint16x8_t; P],
) {
    // SAFETY: the caller's promise.
    let w: [uint16x8_t; N] = core::array::from_fn(|n| unsafe { vld1q_u16(panel.add(8 * n)) });
    for (sums, x) in sums.iter_mut().zip(x) {
        for (sum, w) in sums.iter_mut().zip(w) {
            *sum = fmla_lane::<LANE>(*sum, w, *x);
        }
    }
}

/// Writes activations in f16.
#[target_feature(enable = "neon")]
pub(crate) fn activations(values: &[f32], out: &mut [u16]) {
    let (whole, _) = values.as_chunks();
    let (out, rest) = out.as_chunks_mut();
    out.iter_mut().zip(whole).for_each(|(o, v)| *o = eight(v, ACTIVATION));
    let last = eight(&block(values, whole.len() * 8), ACTIVATION);
    // The tail stands in the next chunk where there is one.
    out.get_mut(whole.len()).map_or(rest, |o| o).iter_mut().zip(last).for_each(|(o, v)| *o = v);
}

/// The power of two by which weights of a channel are to be multiplied for f16, and what sums of products are to be then.
#[target_feature(enable = "neon")]
fn channel_scale<'a>(weights: impl Iterator<Item = &'a f32>) -> (f32, f32) {
    let largest = weights.fold(0.0f32, |m, v| m.max(v.abs()));
    let (down, up) = powers_of_two(vdupq_n_f32(largest));
    (vgetq_lane_f32::<0>(down), vgetq_lane_f32::<0>(up) / ACTIVATION)
}

/// The powers of two that bring each value to ½…1, as far as f32 has them with their inverses, and these inverses.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn powers_of_two(largest: float32x4_t) -> (float32x4_t, float32x4_t) {
    let exponent = vreinterpretq_s32_u32(vshrq_n_u32::<23>(vreinterpretq_u32_f32(largest)));
    let exponent = vsubq_s32(exponent, vdupq_n_s32(126));
    let exponent = vminq_s32(vmaxq_s32(exponent, vdupq_n_s32(-110)), vdupq_n_s32(110));
    (power_of_two(vnegq_s32(exponent)), power_of_two(exponent))
}

/// Eight products with `factor` in f16.
#[inline]
#[target_feature(enable = "neon")]
fn eight(values: &[f32; 8], factor: f32) -> [u16; 8] {
    let mut half = [0; 8];
    // SAFETY: the arrays cover the vectors read and written, which need no alignment.
    unsafe {
        let [low, high] =
            [values.as_ptr(), values.as_ptr().add(4)].map(|v| vmulq_n_f32(vld1q_f32(v), factor));
        vst1q_u16(half.as_mut_ptr(), narrow(low, high));
    }
    half
}

/// The nearest f16.
#[inline]
#[target_feature(enable = "neon")]
fn one(value: f32) -> u16 {
    let value = vdupq_n_f32(value);
    vgetq_lane_u16::<0>(narrow(value, value))
}

#[cfg(test)]
pub(crate) mod tests {
    extern crate std;
    use std::vec::Vec;

    use ingraft_tensor::bytes;

    use super::weights::Panels;
    use super::*;
    use crate::panel::{Layout, Panel};

    /// Values of both signs over `octaves` below `top`.
    pub(crate) fn values(count: usize, seed: u32, octaves: u32, top: f32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
            state >> 8
        };
        let value = |_| (next() as f32 / 8_388_608.0 - 1.0) * top / (1u64 << (next() % octaves)) as f32;
        (0..count).map(value).collect()
    }

    /// How far the sum of `len` products, whose sizes sum to `size`, may be from the exact one.
    pub(crate) fn bound(len: usize, run: usize, size: f64, [x, w]: [f64; 2]) -> f64 {
        let small = w * (2f64.powi(-17) + 2f64.powi(-23) * x);
        (run + 3) as f64 / 2048.0 * size + len as f64 * small
    }

    /// The largest size.
    pub(crate) fn largest<'v>(values: impl IntoIterator<Item = &'v f32>) -> f64 {
        values.into_iter().fold(0.0, |most, value| f64::max(most, value.abs().into()))
    }

    /// Rows of every length and spread against exact sums, within the bound of the module.
    #[test]
    fn products_stay_within_the_bound() {
        let Some(_) = crate::Fp16::detect() else { return };
        for (case, len) in [1, 3, 8, 29, 63, 64, 65, 200, 1000].into_iter().enumerate() {
            for (count, octaves, top) in [(1, 1, 1.0), (3, 4, 65504.0), (9, 12, 1e-3), (32, 30, 4.0)] {
                let channels = if count == 3 { 5 } else { WIDTH };
                let mut x = values(count * len, case as u32, octaves, top);
                x[..len].fill(-top);
                let w = values(channels * len, 77 + case as u32, octaves, top.recip());
                compare(&x, &w, &core::array::from_fn(|i| i as f32 - 3.0), len, count);
            }
        }
    }

    fn compare(x: &[f32], w: &[f32], bias: &[f32; WIDTH], len: usize, count: usize) {
        let layout = Layout { depth: 1, len, channels: w.len() / len };
        let panel = Panel { first: 0, count: layout.channels };
        let mut half = std::vec![0; x.len()];
        let mut packed = std::vec![u128::MAX; Panels::bytes(&layout).div_ceil(16)];
        // SAFETY: f16 arithmetic was found.
        unsafe {
            Panels::pack(&layout, w, bytes::of_mut(&mut packed)).unwrap();
            activations(x, &mut half);
        }
        let panels = Panels::new(layout, bytes::of(&packed)).unwrap();
        let mut buffer = std::vec![0; (len + ROW_ALIGN) * count];
        let rows = Rows::of_matrix(&half, len, 0, count, &mut buffer).unwrap();
        let mut values = [[f32::NAN; WIDTH]; BLOCK];
        let channels = panels.channels(panel, *bias).unwrap();
        // SAFETY: as above.
        unsafe { multiply(Block { group: 0, first: 0, pixels: count }, &rows, &channels, &mut values) }
            .unwrap();
        for (x, have) in x.chunks_exact(len).zip(&values) {
            for ((w, have), bias) in w.chunks_exact(len).zip(have).zip(bias) {
                let products = || x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w));
                let (exact, size) = (products().sum::<f64>(), products().map(f64::abs).sum::<f64>());
                let want = exact + f64::from(*bias);
                let bound = bound(len, RUN, size, [largest(x), largest(w)]) + want.abs() * 1e-6;
                let error = (f64::from(*have) - want).abs();
                assert!(error <= bound, "{len} by {count}: {have}, not {want}: {error} of {bound}");
            }
        }
        assert!(values[count..].as_flattened().iter().all(|v| v.is_nan()), "{count} rows, no more");
    }
}
