//! Integer low-rank terms added to sums in registers.
//!
//! # Limits
//! Beside the products ([`super::rank_space`]) every vector of four sums takes three operations more than the base's to become codes,
//! as either sum is converted and scaled by itself. Channels are the outer loop: the base's sums of four pixels by sixteen
//! channels and their values in rank space stay in registers.

use core::arch::aarch64::*;
use core::marker::PhantomData;

use super::Codes;
use super::rank_space::{RUN, RankSpace};
use crate::dot::Sink;
use crate::lanes::load_f32;
use crate::panel::WIDTH;

/// Adds `B·(A·x)` to the values of a part, and requantizes them.
///
/// `RUNS` is how many runs there are, or zero for any number.
pub(super) struct Adapted<'l, 'o, D, const RUNS: usize> {
    pub(super) codes: &'l mut Codes<'o>,
    /// `A·x` as [`RankSpace::held`] has it, `[pixel][run]`.
    pub(super) latent: &'l [i16],
    /// Runs of a pixel.
    pub(super) runs: usize,
    /// `B`, `[four channels][run]`, zero past the rank.
    pub(super) up: &'l [u8],
    pub(super) scale: [f32; WIDTH],
    pub(super) isa: PhantomData<D>,
}

impl<D: RankSpace, const RUNS: usize> Sink for Adapted<'_, '_, D, RUNS> {
    #[inline(always)]
    unsafe fn put<const P: usize, const N: usize>(
        &mut self,
        first: usize,
        count: usize,
        sums: [[int32x4_t; N]; P],
    ) -> Option<()> {
        let runs = if RUNS == 0 { self.runs } else { RUNS };
        // What stands there for pixels past the last of the block is dropped with them.
        let latent = self.latent.get(first * runs * RUN..)?;
        (latent.len() >= P * runs * RUN && self.up.len() >= N * runs * D::UP).then_some(())?;
        let limits = self.codes.limits;
        // SAFETY: the caller's promise, and as many values were found.
        unsafe {
            let (multiplier, scale): ([_; N], [_; N]) =
                (load_f32(&self.codes.multiplier), load_f32(&self.scale));
            let mut steps = [[vdupq_n_s32(0); 4]; P];
            for n in 0..N {
                let up = self.up.as_ptr().add(n * runs * D::UP);
                let channels = sums.map(|sums| sums[n]);
                let values =
                    D::steps::<P, RUNS>(channels, up, runs, latent.as_ptr(), [multiplier[n], scale[n]]);
                steps.iter_mut().zip(values).for_each(|(steps, value)| steps[n] = value);
            }
            self.codes.store::<P, N>(first, count, steps.map(|steps| limits.narrow(steps)))
        }
    }
}
