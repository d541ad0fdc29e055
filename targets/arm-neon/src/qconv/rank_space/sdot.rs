//! Integer low-rank terms by `SDOT`.

use core::arch::aarch64::*;

use super::{RUN, RankSpace, rounded};
use crate::asm::sdot_lane;
use crate::asm::tile::{add_eight_by_sdot, add_four_by_sdot};
use crate::dot::{Operands, ROW_ALIGN, Sink, dotprod};
use crate::features::{DotProd, I8mm};
use crate::lanes::load_i32;
use crate::panel::WIDTH;
use crate::tile::{Block, HEIGHT, Rows};

/// Pixels at a time where their sums of eight rows of `A` fit the registers.
const EIGHT: usize = 2 * HEIGHT;
/// [`RankSpace::UP`] where `SDOT` multiplies.
const SDOT_UP: usize = 16;

macro_rules! by_sdot {
    ($($isa:ty),+) => { $(
        impl RankSpace for $isa {
            const CODES: usize = dotprod::DEPTH;
            const UP: usize = SDOT_UP;
            const LARGEST: i16 = 127 * 256 + 127;

            fn alternating(lanes: usize) -> usize {
                lanes
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
                        project_by_sdot::<1>(block, rows, down, bias, sink)
                    } else {
                        project_by_sdot::<2>(block, rows, down, bias, sink)
                    }
                }
            }

            /// The low bytes of a run, and then what is left, as `h`.
            #[inline(always)]
            unsafe fn held(u: int16x8_t) -> int16x8_t {
                // SAFETY: the caller's promise.
                unsafe {
                    let (low, high) = (vmovn_s16(u), vrshrn_n_s16::<8>(u));
                    let [low, high] = [low, high].map(|half| vreinterpretq_s32_s8(vcombine_s8(half, half)));
                    vreinterpretq_s16_s32(vzip1q_s32(low, high))
                }
            }

            fn pack_up(up: &[[i8; RUN]; 4], out: &mut [u8]) {
                out.iter_mut().zip(up.as_flattened()).for_each(|(out, up)| *out = *up as u8);
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
                        (Some(four), 1) => steps_by_sdot::<1>(four, up, latent, scales),
                        (Some(four), 2) => steps_by_sdot::<2>(four, up, latent, scales),
                        _ => sums = rounded(sums, apply_by_sdot(up, runs, latent), scales),
                    }
                }
                sums
            }
        }
    )+ };
}

by_sdot!(DotProd, I8mm);

/// # Safety
/// The processor executes `SDOT`.
#[target_feature(enable = "neon,dotprod")]
unsafe fn project_by_sdot<const N: usize>(
    block: Block,
    rows: &Rows<'_, i8, ROW_ALIGN>,
    down: &[i8],
    bias: &[i32; WIDTH],
    sink: &mut impl Sink,
) -> Option<()> {
    let rest = block.pixels % EIGHT;
    let whole = block.pixels - rest;
    // SAFETY: the caller's promise.
    unsafe {
        for first in (0..whole).step_by(EIGHT) {
            tile_by_sdot::<EIGHT, N>(rows, first, EIGHT, down, bias, sink)?;
        }
        match rest {
            0 => Some(()),
            1 => tile_by_sdot::<1, N>(rows, whole, rest, down, bias, sink),
            2..=HEIGHT => tile_by_sdot::<HEIGHT, N>(rows, whole, rest, down, bias, sink),
            _ => tile_by_sdot::<EIGHT, N>(rows, whole, rest, down, bias, sink),
        }
    }
}

/// # Safety
/// The processor executes `SDOT`.
#[inline(always)]
unsafe fn tile_by_sdot<const P: usize, const N: usize>(
    rows: &Rows<'_, i8, ROW_ALIGN>,
    first: usize,
    count: usize,
    down: &[i8],
    bias: &[i32; WIDTH],
    sink: &mut impl Sink,
) -> Option<()> {
    let operands = Operands::<P, N>::new(rows, first, count, down, dotprod::DEPTH)?;
    // SAFETY: the caller's promise.
    unsafe { sink.put(first, count, dotprod::tile(&operands, load_i32(bias))) }
}

/// [`RankSpace::steps`] of four pixels by `SDOT`.
///
/// # Safety
/// As there, and the processor executes it.
#[inline(always)]
unsafe fn steps_by_sdot<const RUNS: usize>(
    [a, b, c, d]: &mut [int32x4_t; HEIGHT],
    up: *const u8,
    latent: *const i16,
    scales: [float32x4_t; 2],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let (sums, up, latent) = ([a, b, c, d], up.cast(), latent.cast());
        if RUNS == 1 {
            add_four_by_sdot(
                sums,
                vld1q_s8(up),
                [vld1_s8(latent), vld1_s8(latent.add(8)), vld1_s8(latent.add(16)), vld1_s8(latent.add(24))],
                scales,
            );
        } else {
            let up = [vld1q_s8(up), vld1q_s8(up.add(SDOT_UP))];
            let u = [
                vld1q_s8(latent),
                vld1q_s8(latent.add(16)),
                vld1q_s8(latent.add(32)),
                vld1q_s8(latent.add(48)),
            ];
            add_eight_by_sdot(sums, up, u, scales);
        }
    }
}

/// One run, in either half.
///
/// # Safety
/// The processor executes NEON, and eight bytes lie at `latent`.
#[inline(always)]
unsafe fn load_run(latent: *const i16) -> int8x16_t {
    // SAFETY: the caller's promise.
    unsafe { vreinterpretq_s8_s64(vld1q_dup_s64(latent.cast())) }
}

/// `Σ u[k]·up[k][c]` of four channels.
///
/// # Safety
/// As of [`RankSpace::steps`], and the processor executes `SDOT`.
#[inline(always)]
unsafe fn apply_by_sdot<const P: usize>(up: *const u8, runs: usize, latent: *const i16) -> [int32x4_t; P] {
    // SAFETY: the caller's promise.
    unsafe {
        let (mut sums, mut high) = ([vdupq_n_s32(0); P], [vdupq_n_s32(0); P]);
        for run in 0..runs {
            let up = vreinterpretq_s8_u8(vld1q_u8(up.add(run * SDOT_UP)));
            for (pixel, (sum, high)) in sums.iter_mut().zip(&mut high).enumerate() {
                let u = load_run(latent.add((pixel * runs + run) * RUN));
                *sum = sdot_lane::<0>(*sum, up, u);
                *high = sdot_lane::<1>(*high, up, u);
            }
        }
        for (sum, high) in sums.iter_mut().zip(high) {
            *sum = vaddq_s32(*sum, vshlq_n_s32::<8>(high));
        }
        sums
    }
}
