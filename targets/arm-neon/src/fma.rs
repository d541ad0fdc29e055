//! Products of a few f32 rows with a panel of weights, in registers.
//!
//! # Numerics
//! Fused multiply-adds along the row, beginning with the bias.
//!
//! # Limits
//! With four rows and sixteen channels every four elements of depth take 64 `FMLA`
//! beside 16 loads of weights and 4 of rows: bound by `FMLA` on a core that issues
//! two of them a cycle.

use core::arch::aarch64::*;

use crate::asm::tile::fmla_tile;
use crate::lanes::load_f32;
use crate::panel::WIDTH;
use crate::tile::{Block, HEIGHT, Rows};

/// Rows are read four elements at a time.
pub(crate) const ROW_ALIGN: usize = 4;

/// Where the sums of a tile go.
pub(crate) trait Sink {
    /// Takes the sums of `count` rows from `first` on; rows past them are to be dropped.
    ///
    /// # Safety
    /// The processor executes NEON.
    unsafe fn put<const P: usize, const N: usize>(
        &mut self,
        first: usize,
        count: usize,
        sums: [[float32x4_t; N]; P],
    ) -> Option<()>;
}

/// Multiplies every row of a block with a panel of `lanes` channels.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn multiply(
    block: Block,
    rows: &Rows<'_, f32, ROW_ALIGN>,
    panel: &[f32],
    lanes: usize,
    bias: &[f32; WIDTH],
    sink: &mut impl Sink,
) -> Option<()> {
    for (first, count) in block.tiles() {
        match (lanes == WIDTH, count) {
            (true, 1) => tile::<1, 4>(rows, first, count, panel, bias, sink)?,
            (true, 2) => tile::<2, 4>(rows, first, count, panel, bias, sink)?,
            (true, _) => tile::<HEIGHT, 4>(rows, first, count, panel, bias, sink)?,
            (false, 1) => tile::<1, 2>(rows, first, count, panel, bias, sink)?,
            (false, 2) => tile::<2, 2>(rows, first, count, panel, bias, sink)?,
            (false, _) => tile::<HEIGHT, 2>(rows, first, count, panel, bias, sink)?,
        }
    }
    Some(())
}

#[inline]
#[target_feature(enable = "neon")]
fn tile<const P: usize, const N: usize>(
    rows: &Rows<'_, f32, ROW_ALIGN>,
    first: usize,
    count: usize,
    panel: &[f32],
    bias: &[f32; WIDTH],
    sink: &mut impl Sink,
) -> Option<()> {
    let len = rows.len;
    (panel.len() >= len * 4 * N).then_some(())?;
    let mut rows = rows.tile::<P>(first, count, len.next_multiple_of(ROW_ALIGN))?;
    let (mut sums, mut panel) = ([load_f32(bias); P], panel.as_ptr());
    for _ in 0..len / 4 {
        // SAFETY: the rows were found readable for whole vectors, and the panel for `4·N`
        // channels of each of their elements.
        unsafe {
            let x = rows.map(|row| vld1q_f32(row));
            rows = rows.map(|row| row.add(4));
            panel = add::<0, P, N>(&mut sums, panel, &x);
            panel = add::<1, P, N>(&mut sums, panel, &x);
            panel = add::<2, P, N>(&mut sums, panel, &x);
            panel = add::<3, P, N>(&mut sums, panel, &x);
        }
    }
    if !len.is_multiple_of(4) {
        // SAFETY: the rows were found readable to the end of a vector, and the panel for
        // `4·N` channels of each element that is left.
        unsafe {
            let mut x = rows.map(|row| vld1q_f32(row));
            for _ in 0..len % 4 {
                panel = add::<0, P, N>(&mut sums, panel, &x);
                x = x.map(|x| vextq_f32::<1>(x, x));
            }
        }
    }
    // SAFETY: this function runs only with NEON.
    unsafe { sink.put(first, count, sums) }
}

/// Adds the products of element `LANE` of every row, and gives what follows the panel's.
///
/// # Safety
/// `4·N` elements from `panel` on are readable.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn add<const LANE: i32, const P: usize, const N: usize>(
    sums: &mut [[float32x4_t; N]; P],
    panel: *const f32,
    x: &[float32x4_t; P],
) -> *const f32 {
    if P == 4 && N == 4 {
        let sums: *mut [[float32x4_t; N]; P] = sums;
        // SAFETY: the caller's promise; the references are to the same arrays, of the extents that were compared.
        return unsafe { fmla_tile::<LANE>(&mut *sums.cast(), &*x.as_ptr().cast(), panel) };
    }
    // SAFETY: the caller's promise.
    let w: [float32x4_t; N] = core::array::from_fn(|n| unsafe { vld1q_f32(panel.add(4 * n)) });
    for (sums, x) in sums.iter_mut().zip(x) {
        for (sum, w) in sums.iter_mut().zip(w) {
            *sum = vfmaq_laneq_f32::<LANE>(*sum, w, *x);
        }
    }
    panel.wrapping_add(4 * N)
}
