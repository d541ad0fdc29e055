//! Products of a few activation rows with a panel of weights, in registers.
//!
//! One implementation per instruction set; each leaves `P × 4N` exact int32
//! sums in vectors of four output channels, so that what follows needs not know
//! which it was.
//!
//! # Limits
//! With four pixels and sixteen channels every sixteen codes of depth take 64
//! `SDOT` beside 16 loads of weights and 4 of activations, so a core that issues
//! two of them a cycle and four instructions in all is bound by `SDOT` alone.

mod dotprod;
mod i8mm;
mod neon;

use core::arch::aarch64::int32x4_t;

use crate::features::{DotProd, I8mm, Neon};
use crate::lanes::load_i32;
use crate::panel::WIDTH;
use crate::tile::{Block, HEIGHT, Rows};

/// Rows of codes are read sixteen at a time.
pub(crate) const ROW_ALIGN: usize = 16;

/// An instruction set that multiplies int8 codes.
pub(crate) trait Dot {
    /// Codes of a channel that lie together in a panel ([`crate::panel`]).
    const DEPTH: usize;

    /// Calls `finish` with `sums[p][n] = bias[n] + Σ x[p]·w[4n..4n + 4]`.
    ///
    /// # Safety
    /// The processor executes the extensions that `Self` stands for.
    unsafe fn tile<const P: usize, const N: usize>(
        operands: &Operands<'_, P, N>,
        bias: [int32x4_t; N],
        finish: impl FnOnce([[int32x4_t; N]; P]),
    );
}

/// `P` rows of activations and a panel of `4·N` channels.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'a, const P: usize, const N: usize> {
    /// Each readable up to `len` rounded up to sixteen.
    rows: [&'a [i8]; P],
    /// Readable up to `len`, rounded up to the instruction set's depth, for each channel.
    panel: &'a [i8],
    len: usize,
}

impl<'a, const P: usize, const N: usize> Operands<'a, P, N> {
    /// `None` when a row or the panel is too short for sums over `len` codes by `D`.
    #[inline(always)]
    pub(crate) fn new<D: Dot>(rows: [&'a [i8]; P], panel: &'a [i8], len: usize) -> Option<Self> {
        let readable = len.next_multiple_of(ROW_ALIGN);
        let fits = rows.iter().all(|row| row.len() >= readable)
            && panel.len() >= len.next_multiple_of(D::DEPTH) * 4 * N;
        fits.then_some(Self { rows, panel, len })
    }
}

/// Where the sums of a tile go.
pub(crate) trait Sink {
    /// Takes the sums of `count` pixels from `first` on; rows past them are to be dropped.
    ///
    /// # Safety
    /// The processor executes NEON.
    unsafe fn put<const P: usize, const N: usize>(
        &mut self,
        first: usize,
        count: usize,
        sums: [[int32x4_t; N]; P],
    ) -> Option<()>;
}

/// Multiplies every row of a block with a panel of `lanes` channels.
///
/// # Safety
/// The processor executes the extensions that `D` stands for.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) unsafe fn multiply<D: Dot>(
    block: Block,
    rows: &Rows<'_, i8, ROW_ALIGN>,
    panel: &[i8],
    lanes: usize,
    bias: &[i32; WIDTH],
    sink: &mut impl Sink,
) -> Option<()> {
    for (first, count) in block.tiles() {
        // SAFETY: the caller's promise.
        unsafe {
            match (lanes == WIDTH, count) {
                (true, 1) => tile::<D, 1, 4>(rows, first, count, panel, bias, sink)?,
                (true, 2) => tile::<D, 2, 4>(rows, first, count, panel, bias, sink)?,
                (true, _) => tile::<D, HEIGHT, 4>(rows, first, count, panel, bias, sink)?,
                (false, 1) => tile::<D, 1, 2>(rows, first, count, panel, bias, sink)?,
                (false, 2) => tile::<D, 2, 2>(rows, first, count, panel, bias, sink)?,
                (false, _) => tile::<D, HEIGHT, 2>(rows, first, count, panel, bias, sink)?,
            }
        }
    }
    Some(())
}

/// # Safety
/// The processor executes the extensions that `D` stands for.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn tile<D: Dot, const P: usize, const N: usize>(
    rows: &Rows<'_, i8, ROW_ALIGN>,
    first: usize,
    count: usize,
    panel: &[i8],
    bias: &[i32; WIDTH],
    sink: &mut impl Sink,
) -> Option<()> {
    let operands = Operands::<P, N>::new::<D>(rows.tile(first, count)?, panel, rows.len)?;
    let mut done = None;
    // SAFETY: the caller's promise; NEON is part of what any `D` stands for.
    unsafe { D::tile(&operands, load_i32(bias), |sums| done = sink.put(first, count, sums)) };
    done
}

impl Dot for Neon {
    const DEPTH: usize = neon::DEPTH;

    #[inline(always)]
    unsafe fn tile<const P: usize, const N: usize>(
        operands: &Operands<'_, P, N>,
        bias: [int32x4_t; N],
        finish: impl FnOnce([[int32x4_t; N]; P]),
    ) {
        // SAFETY: the caller's promise.
        unsafe { neon::tile(operands, bias, finish) }
    }
}

impl Dot for DotProd {
    const DEPTH: usize = dotprod::DEPTH;

    #[inline(always)]
    unsafe fn tile<const P: usize, const N: usize>(
        operands: &Operands<'_, P, N>,
        bias: [int32x4_t; N],
        finish: impl FnOnce([[int32x4_t; N]; P]),
    ) {
        // SAFETY: the caller's promise.
        unsafe { dotprod::tile(operands, bias, finish) }
    }
}

impl Dot for I8mm {
    const DEPTH: usize = i8mm::DEPTH;

    #[inline(always)]
    unsafe fn tile<const P: usize, const N: usize>(
        operands: &Operands<'_, P, N>,
        bias: [int32x4_t; N],
        finish: impl FnOnce([[int32x4_t; N]; P]),
    ) {
        // SAFETY: the caller's promise.
        unsafe { i8mm::tile(operands, bias, finish) }
    }
}
