//! `SDOT`: four channels by four codes, against four codes of a pixel.

use core::arch::aarch64::*;

use super::Operands;
use crate::asm::sdot_lane;

/// Codes of a channel that lie together.
pub(super) const DEPTH: usize = 4;

/// See [`super::Dot::tile`].
#[target_feature(enable = "neon,dotprod")]
pub(super) fn tile<const P: usize, const N: usize>(
    operands: &Operands<'_, P, N>,
    bias: [int32x4_t; N],
    finish: impl FnOnce([[int32x4_t; N]; P]),
) {
    let mut sums = [bias; P];
    let mut rows = operands.rows.map(|row| row.as_ptr());
    let mut panel = operands.panel.as_ptr();
    let blocks = operands.len.div_ceil(DEPTH);
    for _ in 0..blocks / 4 {
        // SAFETY: `Operands::new` found sixteen codes of every row, and four blocks of
        // `4·N` channels, for each of these iterations.
        unsafe {
            let x = rows.map(|row| vld1q_s8(row));
            let w: [[int8x16_t; N]; 4] =
                core::array::from_fn(|b| core::array::from_fn(|n| vld1q_s8(panel.add((b * N + n) * 16))));
            rows = rows.map(|row| row.add(16));
            panel = panel.add(64 * N);
            add::<0, P, N>(&mut sums, &w[0], &x);
            add::<1, P, N>(&mut sums, &w[1], &x);
            add::<2, P, N>(&mut sums, &w[2], &x);
            add::<3, P, N>(&mut sums, &w[3], &x);
        }
    }
    if !blocks.is_multiple_of(4) {
        // SAFETY: `Operands::new` found sixteen codes of every row past the last whole four
        // blocks, and as many blocks of `4·N` channels as are left.
        unsafe {
            let mut x = rows.map(|row| vld1q_s8(row));
            for _ in 0..blocks % 4 {
                let w: [int8x16_t; N] = core::array::from_fn(|n| vld1q_s8(panel.add(n * 16)));
                panel = panel.add(16 * N);
                add::<0, P, N>(&mut sums, &w, &x);
                x = x.map(|x| vextq_s8::<4>(x, x));
            }
        }
    }
    finish(sums)
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
fn add<const LANE: i32, const P: usize, const N: usize>(
    sums: &mut [[int32x4_t; N]; P],
    w: &[int8x16_t; N],
    x: &[int8x16_t; P],
) {
    for (sums, x) in sums.iter_mut().zip(x) {
        for (sum, w) in sums.iter_mut().zip(w) {
            *sum = sdot_lane::<LANE>(*sum, *w, *x);
        }
    }
}
