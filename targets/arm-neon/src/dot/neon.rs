//! Baseline NEON: eight channels by two codes, multiplied to int16 and added in
//! pairs to int32 (`SMULL`, `SADALP`).
//!
//! # Numerics
//! A product of two int8 codes fits int16 whatever they are, and only one is
//! held there before the pairwise sum in int32: −128·−128 twice would not fit.

use core::arch::aarch64::*;

use super::Operands;

/// Codes of a channel that lie together.
pub(super) const DEPTH: usize = 2;

/// See [`super::Dot::tile`]. `N` is even.
///
/// # Safety
/// The processor executes NEON.
#[inline(always)]
pub(super) unsafe fn tile<const P: usize, const N: usize>(
    operands: &Operands<P, N>,
    bias: [int32x4_t; N],
) -> [[int32x4_t; N]; P] {
    let mut sums = [bias; P];
    let mut rows = operands.rows;
    let mut panel = operands.panel;
    let blocks = operands.len.div_ceil(DEPTH);
    for _ in 0..blocks / 8 {
        // SAFETY: `Operands::new` found sixteen codes of every row, and eight blocks of
        // `4·N` channels, for each of these iterations.
        unsafe {
            let x = rows.map(|row| vreinterpretq_s16_s8(vld1q_s8(row)));
            rows = rows.map(|row| row.add(16));
            add::<0, P, N>(&mut sums, panel, &x);
            add::<1, P, N>(&mut sums, panel.add(8 * N), &x);
            add::<2, P, N>(&mut sums, panel.add(16 * N), &x);
            add::<3, P, N>(&mut sums, panel.add(24 * N), &x);
            add::<4, P, N>(&mut sums, panel.add(32 * N), &x);
            add::<5, P, N>(&mut sums, panel.add(40 * N), &x);
            add::<6, P, N>(&mut sums, panel.add(48 * N), &x);
            add::<7, P, N>(&mut sums, panel.add(56 * N), &x);
            panel = panel.add(64 * N);
        }
    }
    if !blocks.is_multiple_of(8) {
        // SAFETY: `Operands::new` found sixteen codes of every row past the last whole eight
        // blocks, and as many blocks of `4·N` channels as are left.
        unsafe {
            let mut x = rows.map(|row| vreinterpretq_s16_s8(vld1q_s8(row)));
            for _ in 0..blocks % 8 {
                add::<0, P, N>(&mut sums, panel, &x);
                panel = panel.add(8 * N);
                x.iter_mut().for_each(|x| *x = vextq_s16::<1>(*x, *x));
            }
        }
    }
    sums
}

/// Adds the products of codes `LANE` of every row, two codes each.
///
/// # Safety
/// `8·N` bytes from `panel` on are readable.
#[inline(always)]
unsafe fn add<const LANE: i32, const P: usize, const N: usize>(
    sums: &mut [[int32x4_t; N]; P],
    panel: *const i8,
    x: &[int16x8_t; P],
) {
    // SAFETY: the caller's promise; of N vectors the first half is read.
    let w: [int8x16_t; N] =
        core::array::from_fn(|n| unsafe { vld1q_s8(panel.add(if n < N / 2 { n * 16 } else { 0 })) });
    for (sums, x) in sums.iter_mut().zip(x) {
        // SAFETY: the caller's promise.
        unsafe {
            let x = vreinterpretq_s8_s16(vdupq_laneq_s16::<LANE>(*x));
            for ([low, high], w) in sums.as_chunks_mut::<2>().0.iter_mut().zip(w) {
                *low = vpadalq_s16(*low, vmull_s8(vget_low_s8(w), vget_low_s8(x)));
                *high = vpadalq_s16(*high, vmull_high_s8(w, x));
            }
        }
    }
}
