//! `SMMLA`: two pixels by two channels by eight codes.

use core::arch::aarch64::*;

use super::Operands;
use crate::asm::smmla;
use crate::lanes::load_codes;

/// Codes of a channel that lie together.
pub(super) const DEPTH: usize = 8;

/// See [`super::Dot::tile`]. `P` is one or even, `N` two or four.
/// A single pixel is multiplied as a pair of equal ones: the weights, whose loads
/// bound that case, are read no more often for it.
///
/// # Safety
/// The processor executes `SMMLA`.
#[inline(always)]
pub(super) unsafe fn tile<const P: usize, const N: usize>(
    operands: &Operands<P, N>,
    bias: [int32x4_t; N],
) -> [[int32x4_t; N]; P] {
    let Operands { rows, panel, len } = *operands;
    // SAFETY: the caller's promise.
    unsafe {
        if let [row] = rows.as_slice() {
            let [sums, _] = products(&Operands::<2, N> { rows: [*row; 2], panel, len }, bias);
            [sums; P]
        } else {
            products(operands, bias)
        }
    }
}

/// The sums of an even number of rows.
///
/// # Safety
/// The processor executes `SMMLA`.
#[inline(always)]
unsafe fn products<const P: usize, const N: usize>(
    operands: &Operands<P, N>,
    bias: [int32x4_t; N],
) -> [[int32x4_t; N]; P] {
    // `sums[2i + h][n]`: pixels 2i and 2i + 1 by channels 2c and 2c + 1, c being h·N + n.
    // SAFETY: the caller's promise.
    let mut sums = [[unsafe { vdupq_n_s32(0) }; N]; P];
    let mut rows = operands.rows;
    let mut panel = operands.panel;
    let blocks = operands.len.div_ceil(DEPTH);
    for _ in 0..blocks / 2 {
        // SAFETY: `Operands::new` found sixteen codes of every row, and two blocks of
        // `4·N` channels, for each of these iterations.
        unsafe {
            let x = pairs(rows.map(|row| vld1q_s8(row)));
            rows = rows.map(|row| row.add(16));
            panel = add::<0, P, N>(&mut sums, panel, &x);
            panel = add::<1, P, N>(&mut sums, panel, &x);
        }
    }
    if !blocks.is_multiple_of(2) {
        // SAFETY: `Operands::new` found sixteen codes of every row past the last whole two
        // blocks, and one more block of `4·N` channels.
        unsafe {
            let x = pairs(rows.map(|row| vld1q_s8(row)));
            add::<0, P, N>(&mut sums, panel, &x);
        }
    }
    // SAFETY: the caller's promise.
    unsafe { untangle(&sums, bias) }
}

/// `[2i]`: the first eight codes of rows 2i and 2i + 1; `[2i + 1]`: their last eight.
///
/// # Safety
/// The processor executes NEON.
#[inline(always)]
unsafe fn pairs<const P: usize>(rows: [int8x16_t; P]) -> [int8x16_t; P] {
    let mut pairs = rows;
    for pair in pairs.as_chunks_mut::<2>().0 {
        // SAFETY: the caller's promise.
        *pair = unsafe {
            let [a, b] = pair.map(|row| vreinterpretq_s64_s8(row));
            [vreinterpretq_s8_s64(vzip1q_s64(a, b)), vreinterpretq_s8_s64(vzip2q_s64(a, b))]
        };
    }
    pairs
}

/// Adds the products of eight codes of every row, and gives what follows the panel's.
///
/// # Safety
/// `32·N` bytes from `panel` on are readable, and the processor executes `SMMLA`.
#[inline(always)]
unsafe fn add<const HALF: usize, const P: usize, const N: usize>(
    sums: &mut [[int32x4_t; N]; P],
    panel: *const i8,
    x: &[int8x16_t; P],
) -> *const i8 {
    let mut panel = panel;
    for channels in 0..2 {
        // SAFETY: the caller's promise, for each half of the channels.
        let (w, next): ([int8x16_t; N], _) = unsafe { load_codes(panel) };
        panel = next;
        for (sums, x) in sums.as_chunks_mut::<2>().0.iter_mut().zip(x.as_chunks::<2>().0) {
            for (sum, w) in sums[channels].iter_mut().zip(w) {
                // SAFETY: the caller's promise.
                *sum = unsafe { smmla(*sum, x[HALF], w) };
            }
        }
    }
    panel
}

/// From 2×2 blocks to rows of channels, with the bias.
///
/// # Safety
/// The processor executes NEON.
#[inline(always)]
unsafe fn untangle<const P: usize, const N: usize>(
    sums: &[[int32x4_t; N]; P],
    bias: [int32x4_t; N],
) -> [[int32x4_t; N]; P] {
    let mut rows = *sums;
    for (rows, sums) in rows.as_chunks_mut::<2>().0.iter_mut().zip(sums.as_chunks::<2>().0) {
        // Blocks of channels 0 and 1, 2 and 3, 4 and 5 and so on, the second half in the second row.
        let block = |i: usize| if i < N { sums[0][i] } else { sums[1][i - N] };
        for (n, bias) in bias.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                let [a, b] = [2 * n, 2 * n + 1].map(|i| vreinterpretq_s64_s32(block(i)));
                let [first, second] = [vzip1q_s64(a, b), vzip2q_s64(a, b)].map(|v| vreinterpretq_s32_s64(v));
                (rows[0][n], rows[1][n]) = (vaddq_s32(bias, first), vaddq_s32(bias, second));
            }
        }
    }
    rows
}
