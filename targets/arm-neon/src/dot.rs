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

pub(crate) mod dotprod;
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

    /// `sums[p][n] = bias[n] + Σ x[p]·w[4n..4n + 4]`.
    ///
    /// # Safety
    /// The processor executes the extensions that `Self` stands for.
    unsafe fn tile<const P: usize, const N: usize>(
        operands: &Operands<P, N>,
        bias: [int32x4_t; N],
    ) -> [[int32x4_t; N]; P];

    /// Multiplies every row of a block with a panel of `lanes` channels.
    ///
    /// # Safety
    /// The processor executes the extensions that `Self` stands for.
    unsafe fn multiply(
        block: Block,
        rows: &Rows<'_, i8, ROW_ALIGN>,
        panel: &[i8],
        lanes: usize,
        bias: &[i32; WIDTH],
        sink: &mut impl Sink,
    ) -> Option<()>;
}

/// `P` rows of activations and a panel of `4·N` channels.
#[derive(Clone, Copy)]
pub(crate) struct Operands<const P: usize, const N: usize> {
    /// Each readable up to `len` rounded up to sixteen.
    rows: [*const i8; P],
    /// Readable up to `len`, rounded up to the instruction set's depth, for each channel.
    panel: *const i8,
    len: usize,
}

impl<const P: usize, const N: usize> Operands<P, N> {
    /// Rows from `first` on, past `count` of them the last of these again. `None` when a row is too short, or the panel for
    /// channels whose codes lie together in runs of `depth`.
    #[inline(always)]
    pub(crate) fn new(
        rows: &Rows<'_, i8, ROW_ALIGN>,
        first: usize,
        count: usize,
        panel: &[i8],
        depth: usize,
    ) -> Option<Self> {
        let len = rows.len;
        (panel.len() >= len.next_multiple_of(depth) * 4 * N).then_some(())?;
        let rows = rows.tile(first, count, len.next_multiple_of(ROW_ALIGN))?;
        Some(Self { rows, panel: panel.as_ptr(), len })
    }
}

/// Where the sums of a tile go.
pub(crate) trait Sink {
    /// Takes the sums of `count` pixels from `first` on; rows past them are to be dropped.
    ///
    /// # Safety
    /// The processor executes NEON, and what else the sink was made for.
    unsafe fn put<const P: usize, const N: usize>(
        &mut self,
        first: usize,
        count: usize,
        sums: [[int32x4_t; N]; P],
    ) -> Option<()>;
}

macro_rules! instruction_sets {
    ($($isa:ty: $module:ident, $features:literal;)+) => { $(
        impl Dot for $isa {
            const DEPTH: usize = $module::DEPTH;

            #[inline(always)]
            unsafe fn tile<const P: usize, const N: usize>(
                operands: &Operands<P, N>,
                bias: [int32x4_t; N],
            ) -> [[int32x4_t; N]; P] {
                // SAFETY: the caller's promise.
                unsafe { $module::tile(operands, bias) }
            }

            #[target_feature(enable = $features)]
            unsafe fn multiply(
                block: Block,
                rows: &Rows<'_, i8, ROW_ALIGN>,
                panel: &[i8],
                lanes: usize,
                bias: &[i32; WIDTH],
                sink: &mut impl Sink,
            ) -> Option<()> {
                // SAFETY: the caller's promise.
                unsafe {
                    if lanes == WIDTH {
                        tiles::<$isa, 4>(block, rows, panel, bias, sink)
                    } else {
                        tiles::<$isa, 2>(block, rows, panel, bias, sink)
                    }
                }
            }
        }
    )+ };
}

instruction_sets! {
    Neon: neon, "neon";
    DotProd: dotprod, "neon,dotprod";
    I8mm: i8mm, "neon,dotprod,i8mm";
}

/// The tiles of a block, as a part of the function that is compiled for the instruction set: as functions of their own each
/// takes some forty instructions to begin and end.
///
/// # Safety
/// The processor executes the extensions that `D` stands for.
#[inline(always)]
unsafe fn tiles<D: Dot, const N: usize>(
    block: Block,
    rows: &Rows<'_, i8, ROW_ALIGN>,
    panel: &[i8],
    bias: &[i32; WIDTH],
    sink: &mut impl Sink,
) -> Option<()> {
    let rest = block.pixels % HEIGHT;
    let whole = block.pixels - rest;
    // SAFETY: the caller's promise.
    unsafe {
        for first in (0..whole).step_by(HEIGHT) {
            tile::<D, HEIGHT, N>(rows, first, HEIGHT, panel, bias, sink)?;
        }
        match rest {
            0 => Some(()),
            1 => tile::<D, 1, N>(rows, whole, rest, panel, bias, sink),
            2 => tile::<D, 2, N>(rows, whole, rest, panel, bias, sink),
            _ => tile::<D, HEIGHT, N>(rows, whole, rest, panel, bias, sink),
        }
    }
}

/// # Safety
/// The processor executes the extensions that `D` stands for.
#[inline(always)]
unsafe fn tile<D: Dot, const P: usize, const N: usize>(
    rows: &Rows<'_, i8, ROW_ALIGN>,
    first: usize,
    count: usize,
    panel: &[i8],
    bias: &[i32; WIDTH],
    sink: &mut impl Sink,
) -> Option<()> {
    let operands = Operands::<P, N>::new(rows, first, count, panel, D::DEPTH)?;
    // SAFETY: the caller's promise; NEON is part of what any `D` stands for.
    unsafe { sink.put(first, count, D::tile(&operands, load_i32(bias))) }
}
