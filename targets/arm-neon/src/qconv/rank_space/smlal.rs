//! Integer low-rank terms with baseline NEON: rows of `A` by sixteen codes, values in rank space as int16.

use core::arch::aarch64::*;

use super::{RUN, RankSpace, rounded};
use crate::asm::tile::{add_eight, add_four};
use crate::dot::{ROW_ALIGN, Sink};
use crate::features::Neon;
use crate::lanes::load_i32;
use crate::panel::WIDTH;
use crate::tile::{Block, HEIGHT, Rows};

impl RankSpace for Neon {
    const CODES: usize = ROW_ALIGN;
    const UP: usize = 32;
    const LARGEST: i16 = i16::MAX;

    fn alternating(_: usize) -> usize {
        RUN
    }

    #[inline(always)]
    unsafe fn project(
        block: Block,
        rows: &Rows<'_, i8, ROW_ALIGN>,
        down: &[i8],
        lanes: usize,
        bias: &[i32; WIDTH],
        sink: &mut impl Sink,
    ) -> Option<()> {
        // SAFETY: the caller's promise.
        unsafe {
            if lanes == RUN {
                project_by_rows::<1>(block, rows, down, bias, sink)
            } else {
                project_by_rows::<2>(block, rows, down, bias, sink)
            }
        }
    }

    #[inline(always)]
    unsafe fn held(u: int16x8_t) -> int16x8_t {
        u
    }

    /// Two of rank in a vector, four channels each.
    fn pack_up(up: &[[i8; RUN]; 4], out: &mut [u8]) {
        for (rank, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate().take(RUN) {
            for (out, up) in out.as_chunks_mut::<2>().0.iter_mut().zip(up) {
                *out = i16::from(up[rank % RUN]).to_ne_bytes();
            }
        }
    }

    #[inline(always)]
    unsafe fn steps<const P: usize, const RUNS: usize>(
        mut sums: [int32x4_t; P],
        up: *const u8,
        runs: usize,
        latent: *const i16,
        scales: [float32x4_t; 2],
    ) -> [int32x4_t; P] {
        // SAFETY: the caller's promise.
        unsafe {
            match (sums.first_chunk_mut(), RUNS) {
                (Some(four), 1) => steps_by_smlal::<1>(four, up, latent, scales),
                (Some(four), 2) => steps_by_smlal::<2>(four, up, latent, scales),
                _ => sums = rounded(sums, apply_by_smlal(up, runs, latent), scales),
            }
        }
        sums
    }
}

/// # Safety
/// The processor executes NEON.
#[target_feature(enable = "neon")]
unsafe fn project_by_rows<const N: usize>(
    block: Block,
    rows: &Rows<'_, i8, ROW_ALIGN>,
    down: &[i8],
    bias: &[i32; WIDTH],
    sink: &mut impl Sink,
) -> Option<()> {
    let bias = load_i32::<N>(bias);
    let padded = rows.len.next_multiple_of(ROW_ALIGN);
    (down.len() >= N * RUN * padded).then_some(())?;
    for first in (0..block.pixels).step_by(HEIGHT) {
        let count = HEIGHT.min(block.pixels - first);
        let patches = rows.tile::<HEIGHT>(first, count, padded)?;
        let mut sums = [bias; HEIGHT];
        for n in 0..N {
            // SAFETY: the patches were found readable for whole vectors, and A has a vector of four rows for each.
            let added =
                unsafe { four_rows(patches, down.as_ptr().add(n * RUN * padded), padded / ROW_ALIGN) };
            sums.iter_mut().zip(added).for_each(|(sums, added)| sums[n] = vaddq_s32(sums[n], added));
        }
        // SAFETY: the caller's promise.
        unsafe { sink.put(first, count, sums)? };
    }
    Some(())
}

/// The sums of four rows of `A` over `blocks` times sixteen codes.
///
/// # Safety
/// So many codes lie at every pointer of `patches`, and four times as many at `down`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn four_rows<const P: usize>(
    mut patches: [*const i8; P],
    mut down: *const i8,
    blocks: usize,
) -> [int32x4_t; P] {
    let mut sums = [[vdupq_n_s32(0); RUN]; P];
    for _ in 0..blocks {
        // SAFETY: the caller's promise.
        unsafe {
            let x = patches.map(|patch| vld1q_s8(patch));
            patches = patches.map(|patch| patch.add(ROW_ALIGN));
            for row in 0..RUN {
                let a = vld1q_s8(down);
                down = down.add(ROW_ALIGN);
                for (sums, x) in sums.iter_mut().zip(x) {
                    let low = vpadalq_s16(sums[row], vmull_s8(vget_low_s8(a), vget_low_s8(x)));
                    sums[row] = vpadalq_s16(low, vmull_high_s8(a, x));
                }
            }
        }
    }
    sums.map(|[a, b, c, d]| vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)))
}

/// [`RankSpace::steps`] of four pixels by `SMLAL`.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn steps_by_smlal<const RUNS: usize>(
    [a, b, c, d]: &mut [int32x4_t; HEIGHT],
    up: *const u8,
    latent: *const i16,
    scales: [float32x4_t; 2],
) {
    let sums = [a, b, c, d];
    // SAFETY: the caller's promise.
    unsafe {
        if RUNS == 1 {
            let u = [0, 1, 2, 3].map(|pixel| latent.add(pixel * RUN));
            add_four(sums, up, [vld1_s16(u[0]), vld1_s16(u[1]), vld1_s16(u[2]), vld1_s16(u[3])], scales);
        } else {
            let u = [0, 1, 2, 3].map(|pixel| latent.add(pixel * 2 * RUN));
            add_eight(sums, up, [vld1q_s16(u[0]), vld1q_s16(u[1]), vld1q_s16(u[2]), vld1q_s16(u[3])], scales);
        }
    }
}

/// `Σ u[k]·up[k][c]` of four channels.
///
/// # Safety
/// As of [`RankSpace::steps`].
#[inline(always)]
unsafe fn apply_by_smlal<const P: usize>(up: *const u8, runs: usize, latent: *const i16) -> [int32x4_t; P] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [vdupq_n_s32(0); P];
        for run in 0..runs {
            let up = up.add(run * Neon::UP).cast();
            let (a, b) = (vld1q_s16(up), vld1q_s16(up.add(8)));
            for (pixel, sum) in sums.iter_mut().enumerate() {
                let u = vld1_s16(latent.add((pixel * runs + run) * RUN));
                *sum = vmlal_lane_s16::<0>(*sum, vget_low_s16(a), u);
                *sum = vmlal_high_lane_s16::<1>(*sum, a, u);
                *sum = vmlal_lane_s16::<2>(*sum, vget_low_s16(b), u);
                *sum = vmlal_high_lane_s16::<3>(*sum, b, u);
            }
        }
        sums
    }
}
