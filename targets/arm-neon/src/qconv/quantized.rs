//! Sums of rows of integer `A` as values in rank space.

use core::arch::aarch64::*;
use core::marker::PhantomData;

use super::rank_space::{RUN, RankSpace};
use crate::dot::Sink;
use crate::lanes::load_f32;
use crate::panel::WIDTH;

/// Requantizes sums to int16, for sums in registers where `FUSED`.
pub(super) struct Quantized<'o, D, const FUSED: bool> {
    out: &'o mut [i16],
    stride: usize,
    scale: [f32; WIDTH],
    largest: int16x8_t,
    isa: PhantomData<D>,
}

impl<'o, D: RankSpace, const FUSED: bool> Quantized<'o, D, FUSED> {
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn new(out: &'o mut [i16], stride: usize, scale: [f32; WIDTH]) -> Self {
        Self { out, stride, scale, largest: vdupq_n_s16(0), isa: PhantomData }
    }

    /// Zero, or the largest value that was written.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn largest(&self) -> i16 {
        vmaxvq_s16(self.largest)
    }
}

impl<D: RankSpace, const FUSED: bool> Sink for Quantized<'_, D, FUSED> {
    /// One run of each pixel, or two.
    #[inline(always)]
    unsafe fn put<const P: usize, const N: usize>(
        &mut self,
        first: usize,
        _: usize,
        sums: [[int32x4_t; N]; P],
    ) -> Option<()> {
        // There is room for whole tiles, whatever stands in pixels past the last.
        let out = self.out.get_mut(first * self.stride..)?;
        (out.len() >= (P - 1) * self.stride + 2 * RUN).then_some(())?;
        // SAFETY: the caller's promise; the sixteen bytes written were found.
        unsafe {
            let scale: [float32x4_t; N] = load_f32(&self.scale);
            // Saturating after the rounding gives what rounding the clamped value does.
            let steps =
                |pixel: usize, n: usize| vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(sums[pixel][n]), scale[n]));
            for pixel in (0..P).step_by(2 / N) {
                let next = if N == 1 { steps((pixel + 1).min(P - 1), 0) } else { steps(pixel, N - 1) };
                let u = vqmovn_high_s32(vqmovn_s32(steps(pixel, 0)), next);
                if FUSED {
                    self.largest = vmaxq_s16(self.largest, u);
                }
                vst1q_s16(out.as_mut_ptr().add(pixel * self.stride), if FUSED { D::held(u) } else { u });
            }
        }
        Some(())
    }
}
