//! `SMMLA`: two pixels by two channels by eight codes.

use core::arch::aarch64::*;

use super::Operands;
use crate::asm::smmla;

/// Codes of a channel that lie together.
pub(super) const DEPTH: usize = 8;

/// See [`super::Dot::tile`]. `P` is one or even. A single pixel is multiplied as a pair of
/// equal ones: the weights, whose loads bound that case, are read no more often for it.
#[target_feature(enable = "neon,i8mm")]
pub(super) fn tile<const P: usize, const N: usize>(
    operands: &Operands<'_, P, N>,
    bias: [int32x4_t; N],
    finish: impl FnOnce([[int32x4_t; N]; P]),
) {
    let Operands { rows, panel, len } = *operands;
    if let [row] = rows.as_slice() {
        let [sums, _] = products(&Operands::<2, N> { rows: [row; 2], panel, len }, bias);
        finish([sums; P])
    } else {
        finish(products(operands, bias))
    }
}

/// The sums of an even number of rows.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn products<const P: usize, const N: usize>(
    operands: &Operands<'_, P, N>,
    bias: [int32x4_t; N],
) -> [[int32x4_t; N]; P] {
    // `sums[2i + h][n]`: pixels 2i and 2i + 1 by channels 4n + 2h and 4n + 2h + 1.
    let mut sums = [[vdupq_n_s32(0); N]; P];
    let mut rows = operands.rows.map(|row| row.as_ptr());
    let mut panel = operands.panel.as_ptr();
    let blocks = operands.len.div_ceil(DEPTH);
    for _ in 0..blocks / 2 {
        // SAFETY: `Operands::new` found sixteen codes of every row, and two blocks of
        // `4·N` channels, for each of these iterations.
        unsafe {
            let x = pairs(rows.map(|row| vld1q_s8(row)));
            let w = [weights::<N>(panel), weights::<N>(panel.add(32 * N))];
            rows = rows.map(|row| row.add(16));
            panel = panel.add(64 * N);
            add(&mut sums, &w[0], &x, 0);
            add(&mut sums, &w[1], &x, 1);
        }
    }
    if !blocks.is_multiple_of(2) {
        // SAFETY: `Operands::new` found sixteen codes of every row past the last whole two
        // blocks, and one more block of `4·N` channels.
        unsafe {
            let x = pairs(rows.map(|row| vld1q_s8(row)));
            add(&mut sums, &weights::<N>(panel), &x, 0);
        }
    }
    untangle(&sums, bias)
}

/// `[2i]`: the first eight codes of rows 2i and 2i + 1; `[2i + 1]`: their last eight.
#[inline]
#[target_feature(enable = "neon")]
fn pairs<const P: usize>(rows: [int8x16_t; P]) -> [int8x16_t; P] {
    let mut pairs = rows;
    for pair in pairs.as_chunks_mut::<2>().0 {
        let [a, b] = pair.map(|row| vreinterpretq_s64_s8(row));
        *pair = [vreinterpretq_s8_s64(vzip1q_s64(a, b)), vreinterpretq_s8_s64(vzip2q_s64(a, b))];
    }
    pairs
}

/// Eight codes of `4·N` channels, two channels a vector.
///
/// # Safety
/// `32·N` bytes from `panel` on are readable.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn weights<const N: usize>(panel: *const i8) -> [[int8x16_t; 2]; N] {
    // SAFETY: the caller's promise.
    core::array::from_fn(|n| core::array::from_fn(|h| unsafe { vld1q_s8(panel.add((2 * n + h) * 16)) }))
}

#[inline]
#[target_feature(enable = "neon,i8mm")]
fn add<const P: usize, const N: usize>(
    sums: &mut [[int32x4_t; N]; P],
    w: &[[int8x16_t; 2]; N],
    x: &[int8x16_t; P],
    half: usize,
) {
    for (sums, x) in sums.as_chunks_mut::<2>().0.iter_mut().zip(x.as_chunks::<2>().0) {
        for (h, sums) in sums.iter_mut().enumerate() {
            for (sum, w) in sums.iter_mut().zip(w) {
                *sum = smmla(*sum, x[half], w[h]);
            }
        }
    }
}

/// From 2×2 blocks to rows of channels, with the bias.
#[inline]
#[target_feature(enable = "neon")]
fn untangle<const P: usize, const N: usize>(
    sums: &[[int32x4_t; N]; P],
    bias: [int32x4_t; N],
) -> [[int32x4_t; N]; P] {
    let mut rows = *sums;
    for [first, second] in rows.as_chunks_mut::<2>().0 {
        for ((a, b), bias) in first.iter_mut().zip(second).zip(bias) {
            let (x, y) = (vreinterpretq_s64_s32(*a), vreinterpretq_s64_s32(*b));
            *a = vaddq_s32(bias, vreinterpretq_s32_s64(vzip1q_s64(x, y)));
            *b = vaddq_s32(bias, vreinterpretq_s32_s64(vzip2q_s64(x, y)));
        }
    }
    rows
}
