//! What the kernels need of an instruction set.

use ingraft_kernel::requantize::to_i16;
use ingraft_kernel::window::ConvShape;

use crate::patch::Patches;
use crate::requantize::{Limits, Scaled};
use crate::taps::Taps;

/// The most rows multiplied together.
pub(crate) const ROWS: usize = 4;
/// Channels of each of [`ROWS`] rows whose sums are kept before they become outputs.
pub(crate) const WIDTH: usize = 32;
/// The largest rank of an integer low-rank term that is not left to the reference.
pub(crate) const RANK: usize = 16;

/// Sums of some rows by some channels.
pub(crate) type Sums = [[i32; WIDTH]; ROWS];
/// `A·x` of some rows.
pub(crate) type Latents = [[i16; RANK]; ROWS];

/// What a low-rank term adds to some channels of a row.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(helium), allow(dead_code, reason = "read by instructions"))]
pub(crate) struct Low<'a> {
    /// `A·x`: as many as the rank.
    pub(crate) latent: &'a [i16],
    /// A row of as many factors for every channel.
    pub(crate) up: &'a [i8],
    /// What `B·u` is multiplied by, for each channel.
    pub(crate) scale: &'a [f32],
}

/// Inner loops on one instruction set.
///
/// # Numerics
/// Every implementation computes the same bits: sums are exact modulo 2³², in any order.
pub(crate) trait Isa {
    /// Rows of activations as [`Self::multiply`] reads them.
    type Rows<'a>: Copy;
    /// Channels of a row whose sums are kept: more than [`WIDTH`] where fewer rows are multiplied together.
    const CHANNELS: usize = WIDTH;

    /// How many of `left` rows, at least one, are multiplied together: 1 to [`ROWS`].
    fn rows(left: usize) -> usize;

    /// Bytes that rows take beside the gathered patch.
    fn bytes(shape: &ConvShape) -> usize;

    /// The patches of `count` output pixels from `first` on; `None` for too little memory.
    fn load<'a>(
        patches: &Patches<'a>,
        first: usize,
        count: usize,
        memory: &'a mut [u8],
    ) -> Option<Self::Rows<'a>>;

    /// `sums[row][c] = bias[c] + Σ rows[row]·weights[c]` for the channels of `bias`, at most [`Self::CHANNELS`]; `weights` has
    /// a row of `len` codes for each.
    fn multiply(
        rows: Self::Rows<'_>,
        weights: &[i8],
        len: usize,
        bias: &[i32],
        sums: &mut Sums,
    ) -> Option<()>;

    /// `sums[row][c] = Σ latents[row]·up[c]` of `count` rows, for the `channels` rows of `up`.
    fn apply(
        latents: &Latents,
        count: usize,
        rank: usize,
        up: &[i8],
        channels: usize,
        sums: &mut Sums,
    ) -> Option<()>;

    /// Whether the sum of any two products of these weights fits int16, for [`Self::depthwise`] to know.
    fn pairs_fit(_weights: &[i8]) -> bool {
        false
    }

    /// `sums[c] = bias[c] + Σ taps[t][first + c]·weights[t·channels + first + c]`, for the channels of `bias`.
    fn depthwise(taps: &Taps<'_>, weights: &[i8], first: usize, bias: &[i32], sums: &mut [i32])
    -> Option<()>;

    /// The codes of sums times their scales, or of two such products' sum; every slice has at least as many
    /// elements as `out`.
    fn codes(terms: Scaled<'_>, low: Option<Scaled<'_>>, limits: &Limits, out: &mut [i8]);

    /// Whether [`Self::codes_with`] computes a term of this rank.
    fn fuses(_rank: usize) -> bool {
        false
    }

    /// The codes of sums times their scales and of a term that [`Self::apply`] need not be called for; `None` where that is
    /// not so.
    fn codes_with(_terms: Scaled<'_>, _low: Low<'_>, _limits: &Limits, _out: &mut [i8]) -> Option<()> {
        None
    }

    /// `latent[k] = sums[k]·scale[k]`, rounded half to even and saturated.
    #[inline]
    fn latents(sums: &[i32], scale: &[f32], latent: &mut [i16]) {
        for ((u, sum), scale) in latent.iter_mut().zip(sums).zip(scale) {
            *u = to_i16(*sum as f32 * scale);
        }
    }
}

/// The sums of row `index`.
#[inline(always)]
pub(crate) fn sums_of<I: Isa>(sums: &Sums, index: usize) -> Option<&[i32]> {
    sums.as_flattened().get(index * I::CHANNELS..)?.get(..I::CHANNELS)
}
