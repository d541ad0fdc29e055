//! Inner loops on Helium: sixteen products of int8 an instruction.
//!
//! Vector registers cannot be operands of `asm!` on a stable compiler, so a block holds a whole inner loop. No lane past the end
//! of a slice is read or written, so rows of any length stay where they are: loops are tail-predicated, or leave what does not fill
//! a vector to one that is. Loads need the alignment of what they load, which slices have. Loads that widen and stores that narrow
//! take their address in R0 to R7 only, which no operand class says: those registers are named.

#[cfg(helium)]
mod codes;
#[cfg(helium)]
mod depthwise;
#[cfg(helium)]
mod factors;
#[cfg(helium)]
mod fused;
#[cfg(helium)]
mod products;

use ingraft_kernel::window::ConvShape;
#[cfg(helium)]
use ingraft_tensor::arrays::{arrays, arrays_mut};

#[cfg(helium)]
use crate::isa::Low;
use crate::isa::{Isa, Latents, ROWS, Sums, WIDTH};
use crate::patch::Patches;
use crate::portable::Portable;
use crate::requantize::{Limits, Scaled};
use crate::taps::Taps;

/// Helium with floats.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Helium;

impl Isa for Helium {
    type Rows<'a> = &'a [i8];
    /// All sums are of the one row, which is long; without the instructions, as in plain Rust.
    const CHANNELS: usize = if cfg!(helium) { WIDTH * ROWS } else { WIDTH };

    fn rows(_left: usize) -> usize {
        1
    }

    fn bytes(shape: &ConvShape) -> usize {
        Portable::bytes(shape)
    }

    #[inline(always)]
    fn load<'a>(patches: &Patches<'a>, first: usize, count: usize, memory: &'a mut [u8]) -> Option<&'a [i8]> {
        Portable::load(patches, first, count, memory)
    }

    #[inline]
    fn multiply(x: &[i8], weights: &[i8], len: usize, bias: &[i32], sums: &mut Sums) -> Option<()> {
        #[cfg(helium)]
        return products::products(x.get(..len)?, weights, bias, sums.as_flattened_mut());
        #[cfg(not(helium))]
        Portable::multiply(x, weights, len, bias, sums)
    }

    #[inline]
    fn apply(
        latents: &Latents,
        count: usize,
        rank: usize,
        up: &[i8],
        channels: usize,
        sums: &mut Sums,
    ) -> Option<()> {
        #[cfg(helium)]
        {
            let _ = count;
            let ([latent, ..], sums) = (latents, sums.as_flattened_mut().get_mut(..channels)?);
            factors::apply(latent.get(..rank)?, up.get(..channels.checked_mul(rank)?)?, sums)
        }
        #[cfg(not(helium))]
        Portable::apply(latents, count, rank, up, channels, sums)
    }

    #[cfg(helium)]
    fn pairs_fit(weights: &[i8]) -> bool {
        weights.iter().fold(0, |least: i8, weight| least.min(*weight)) > i8::MIN
    }

    #[inline]
    fn depthwise(
        taps: &Taps<'_>,
        weights: &[i8],
        first: usize,
        bias: &[i32],
        sums: &mut [i32],
    ) -> Option<()> {
        #[cfg(helium)]
        {
            let (groups, rest) = arrays::<_, 16>(bias);
            depthwise::channels_by_sixteen(taps, weights, first, groups, arrays_mut::<_, 16>(sums).0)?;
            let done = groups.len() * 16;
            Portable::channels(taps, weights, first + done, rest, sums.get_mut(done..)?)
        }
        #[cfg(not(helium))]
        Portable::depthwise(taps, weights, first, bias, sums)
    }

    #[inline]
    fn codes(terms: Scaled<'_>, low: Option<Scaled<'_>>, limits: &Limits, out: &mut [i8]) {
        #[cfg(helium)]
        return codes::codes(terms, low, limits, out);
        #[cfg(not(helium))]
        Portable::codes(terms, low, limits, out);
    }

    #[cfg(helium)]
    fn fuses(rank: usize) -> bool {
        fused::takes(rank)
    }

    #[cfg(helium)]
    #[inline]
    fn codes_with(terms: Scaled<'_>, low: Low<'_>, limits: &Limits, out: &mut [i8]) -> Option<()> {
        fused::codes_with(terms, low, limits, out)
    }

    #[cfg(helium)]
    #[inline(always)]
    fn latents(sums: &[i32], scale: &[f32], latent: &mut [i16]) {
        fused::latents(sums, scale, latent);
    }
}
