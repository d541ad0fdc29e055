//! `SDOT`: four channels by four codes, against four codes of a pixel.

use core::arch::aarch64::*;

use super::Operands;
use crate::asm::sdot_lane;
use crate::asm::tile::sdot_tile;
use crate::lanes::load_codes;

/// Codes of a channel that lie together.
pub(crate) const DEPTH: usize = 4;

/// See [`super::Dot::tile`]. `N` is one, two or four.
///
/// # Safety
/// The processor executes `SDOT`.
#[inline(always)]
pub(crate) unsafe fn tile<const P: usize, const N: usize>(
    operands: &Operands<P, N>,
    bias: [int32x4_t; N],
) -> [[int32x4_t; N]; P] {
    let mut sums = [bias; P];
    let mut rows = operands.rows;
    let mut panel = operands.panel;
    let blocks = operands.len.div_ceil(DEPTH);
    for _ in 0..blocks / 4 {
        // SAFETY: `Operands::new` found sixteen codes of every row, and four blocks of
        // `4·N` channels, for each of these iterations.
        unsafe {
            let x = rows.map(|row| vld1q_s8(row));
            rows = rows.map(|row| row.add(16));
            panel = add::<0, P, N>(&mut sums, panel, &x);
            panel = add::<1, P, N>(&mut sums, panel, &x);
            panel = add::<2, P, N>(&mut sums, panel, &x);
            panel = add::<3, P, N>(&mut sums, panel, &x);
        }
    }
    if !blocks.is_multiple_of(4) {
        // SAFETY: `Operands::new` found sixteen codes of every row past the last whole four
        // blocks, and as many blocks of `4·N` channels as are left.
        unsafe {
            let mut x = rows.map(|row| vld1q_s8(row));
            for _ in 0..blocks % 4 {
                panel = add::<0, P, N>(&mut sums, panel, &x);
                x.iter_mut().for_each(|x| *x = vextq_s8::<4>(*x, *x));
            }
        }
    }
    sums
}

/// Adds the products of four codes of every row, and gives what follows the panel's.
///
/// # Safety
/// `16·N` bytes from `panel` on are readable, and the processor executes `SDOT`.
#[inline(always)]
unsafe fn add<const LANE: i32, const P: usize, const N: usize>(
    sums: &mut [[int32x4_t; N]; P],
    panel: *const i8,
    x: &[int8x16_t; P],
) -> *const i8 {
    if P == 4 && N == 4 {
        let sums: *mut [[int32x4_t; N]; P] = sums;
        // SAFETY: the caller's promise; the references are to the same arrays, of the extents that were compared.
        return unsafe { sdot_tile::<LANE>(&mut *sums.cast(), &*x.as_ptr().cast(), panel) };
    }
    // SAFETY: the caller's promise.
    let (w, next): ([int8x16_t; N], _) = unsafe { load_codes(panel) };
    for (sums, x) in sums.iter_mut().zip(x) {
        for (sum, w) in sums.iter_mut().zip(w) {
            // SAFETY: the caller's promise.
            *sum = unsafe { sdot_lane::<LANE>(*sum, w, *x) };
        }
    }
    next
}
