//! What of integer low-rank terms differs between instruction sets: products of patches with rows of `A`, and of their
//! values in rank space with `B`.
//!
//! Four values of a pixel are a [run](RUN) of eight bytes. `SMLAL` takes them as int16. `SDOT` takes bytes, four values at once:
//! `u = 256·h + l`, with l and h int8, is two products of `b`, the first shifted before the second is added. A block with a
//! value above 127·256 + 127 has no such h, and is computed by the general path.
//!
//! # Limits
//! Four channels of a pixel take 4 `SMLAL` for each four of rank, or 2 `SDOT` and 2 more; and 3 operations to be converted, scaled
//! and added.

mod sdot;
mod smlal;

use core::arch::aarch64::*;

use crate::dot::{Dot, ROW_ALIGN, Sink};
use crate::panel::WIDTH;
use crate::tile::{Block, Rows};

/// Values of a pixel in rank space that are read together.
pub(super) const RUN: usize = 4;

/// Rows of `A` that are multiplied together for a term of `rank`.
pub(super) fn lanes(rank: usize) -> usize {
    if rank <= RUN { RUN } else { 2 * RUN }
}

/// Values of a pixel in rank space, with padding.
pub(super) fn stride(rank: usize) -> usize {
    rank.next_multiple_of(lanes(rank))
}

/// An instruction set as integer low-rank terms use it.
pub(super) trait RankSpace: Dot {
    /// Codes of a row of `A` that lie together.
    const CODES: usize;
    /// Bytes of `B` for four channels and four of rank.
    const UP: usize;
    /// The largest value that [`Self::held`] takes.
    const LARGEST: i16;

    /// Rows of `A` of which runs of codes alternate.
    fn alternating(lanes: usize) -> usize;

    /// Calls `sink` with the sums of `lanes` rows of `A` over the codes of every pixel of `block`: for one or two runs, in tiles
    /// of four or eight pixels.
    ///
    /// # Safety
    /// The processor executes the extensions that `Self` stands for.
    unsafe fn project(
        block: Block,
        rows: &Rows<'_, i8, ROW_ALIGN>,
        down: &[i8],
        lanes: usize,
        bias: &[i32; WIDTH],
        sink: &mut impl Sink,
    ) -> Option<()>;

    /// Two runs as [`Self::steps`] reads them.
    ///
    /// # Safety
    /// The processor executes NEON.
    unsafe fn held(u: int16x8_t) -> int16x8_t;

    /// Writes `B` of four channels and four of rank, `[channel][rank]`.
    fn pack_up(up: &[[i8; RUN]; 4], out: &mut [u8]);

    /// Rounded values of four channels of a tile in output steps: their sums by `multiplier`, and to that added
    /// `Σ u[k]·up[k][c]` by `scale`. `RUNS` is how many runs there are, or zero for any number.
    ///
    /// # Safety
    /// The processor executes the extensions that `Self` stands for. `runs` times [`Self::UP`] bytes lie at `up`, and `runs` runs
    /// of every pixel at `latent`; more than one are an even number.
    unsafe fn steps<const P: usize, const RUNS: usize>(
        sums: [int32x4_t; P],
        up: *const u8,
        runs: usize,
        latent: *const i16,
        scales: [float32x4_t; 2],
    ) -> [int32x4_t; P];
}

/// What becomes of sums when `added` by the second of `scales` is added to them by the first.
///
/// # Safety
/// The processor executes NEON.
#[inline(always)]
unsafe fn rounded<const P: usize>(
    mut sums: [int32x4_t; P],
    added: [int32x4_t; P],
    [multiplier, scale]: [float32x4_t; 2],
) -> [int32x4_t; P] {
    for (sum, added) in sums.iter_mut().zip(added) {
        // SAFETY: the caller's promise.
        *sum = unsafe {
            let base = vmulq_f32(vcvtq_f32_s32(*sum), multiplier);
            vcvtnq_s32_f32(vaddq_f32(base, vmulq_f32(vcvtq_f32_s32(added), scale)))
        };
    }
    sums
}
