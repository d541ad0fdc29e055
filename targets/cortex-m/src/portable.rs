//! Plain Rust: processors without the extensions below, and other architectures. Loops are
//! written so that a compiler for a vector unit can use it.

use ingraft_kernel::requantize::to_code;
use ingraft_kernel::window::{ConvShape, row};
use ingraft_tensor::arrays::{arrays, arrays_mut};

use crate::isa::{Isa, Latents, Sums};
use crate::patch::{Patches, buffer_bytes};
use crate::requantize::{Limits, Scaled};
use crate::taps::Taps;

/// Plain Rust.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

impl Portable {
    /// Depthwise sums channel by channel.
    #[inline]
    pub(crate) fn channels(
        taps: &Taps<'_>,
        weights: &[i8],
        first: usize,
        bias: &[i32],
        sums: &mut [i32],
    ) -> Option<()> {
        for ((c, bias), sum) in bias.iter().enumerate().zip(sums) {
            *sum = *bias;
            // As in `dsp`, not in a `zip`.
            let mut lines = weights.chunks_exact(taps.channels().max(1));
            for x in taps.iter() {
                let w = lines.next()?;
                let product = i32::from(*x.get(first + c)?).wrapping_mul(i32::from(*w.get(first + c)?));
                *sum = sum.wrapping_add(product);
            }
        }
        Some(())
    }
}

/// Channels of a depthwise layer summed together.
const CHANNELS: usize = 16;

impl Isa for Portable {
    type Rows<'a> = &'a [i8];

    fn rows(_left: usize) -> usize {
        1
    }

    fn bytes(_shape: &ConvShape) -> usize {
        0
    }

    #[inline(always)]
    fn load<'a>(patches: &Patches<'a>, first: usize, _: usize, memory: &'a mut [u8]) -> Option<&'a [i8]> {
        let buffer = memory.get_mut(..buffer_bytes(patches.shape))?;
        patches.get(first, ingraft_tensor::bytes::cast_mut(buffer)?)
    }

    #[inline]
    fn multiply(x: &[i8], weights: &[i8], len: usize, bias: &[i32], sums: &mut Sums) -> Option<()> {
        let [sums, ..] = sums;
        let x = x.get(..len)?;
        let (quads, rest) = arrays::<_, 4>(bias);
        for (q, bias) in quads.iter().enumerate() {
            let first = q * 4;
            let [w0, w1, w2, w3] = [0, 1, 2, 3].map(|c| row(weights, first + c, len).unwrap_or(&[]));
            let [mut s0, mut s1, mut s2, mut s3] = *bias;
            for ((((x, w0), w1), w2), w3) in x.iter().zip(w0).zip(w1).zip(w2).zip(w3) {
                let product = |w: &i8| i32::from(*x).wrapping_mul(i32::from(*w));
                s0 = s0.wrapping_add(product(w0));
                s1 = s1.wrapping_add(product(w1));
                s2 = s2.wrapping_add(product(w2));
                s3 = s3.wrapping_add(product(w3));
            }
            *sums.get_mut(first..)?.first_chunk_mut()? = [s0, s1, s2, s3];
        }
        for (c, bias) in (quads.len() * 4..).zip(rest) {
            *sums.get_mut(c)? = bias.wrapping_add(ingraft_kernel::qconv::dot(x, row(weights, c, len)?));
        }
        Some(())
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
        for (latent, sums) in latents.iter().zip(sums).take(count) {
            let latent = latent.get(..rank)?;
            let rows = up.chunks_exact(rank.max(1)).take(channels);
            for (sum, up) in sums.iter_mut().zip(rows) {
                *sum = up
                    .iter()
                    .zip(latent)
                    .fold(0, |s, (b, u)| s.wrapping_add(i32::from(*b).wrapping_mul(i32::from(*u))));
            }
        }
        Some(())
    }

    #[inline]
    fn depthwise(
        taps: &Taps<'_>,
        weights: &[i8],
        first: usize,
        bias: &[i32],
        sums: &mut [i32],
    ) -> Option<()> {
        let (groups, rest) = arrays::<_, CHANNELS>(bias);
        for ((g, bias), sums) in groups.iter().enumerate().zip(arrays_mut::<_, CHANNELS>(sums).0) {
            let at = first + g * CHANNELS;
            let mut acc = *bias;
            // As in `dsp`, not in a `zip`.
            let mut lines = weights.chunks_exact(taps.channels().max(1));
            for x in taps.iter() {
                let w = lines.next()?;
                let (x, w) =
                    (x.get(at..)?.first_chunk::<CHANNELS>()?, w.get(at..)?.first_chunk::<CHANNELS>()?);
                for ((acc, x), w) in acc.iter_mut().zip(x).zip(w) {
                    *acc = acc.wrapping_add(i32::from(*x).wrapping_mul(i32::from(*w)));
                }
            }
            *sums = acc;
        }
        let done = groups.len() * CHANNELS;
        Self::channels(taps, weights, first + done, rest, sums.get_mut(done..)?)
    }

    #[inline]
    fn codes(terms: Scaled<'_>, low: Option<Scaled<'_>>, limits: &Limits, out: &mut [i8]) {
        let Limits { lo, hi, zero_point, .. } = *limits;
        let values = out.iter_mut().zip(terms.0.iter().zip(terms.1));
        match low {
            None => values.for_each(|(o, (sum, m))| *o = to_code(*sum as f32 * m, lo, hi, zero_point)),
            Some(low) => values.zip(low.0.iter().zip(low.1)).for_each(|((o, (sum, m)), (low, n))| {
                *o = to_code(*sum as f32 * m + *low as f32 * n, lo, hi, zero_point);
            }),
        }
    }
}
