//! What the kernels need of an instruction set.

use ingraft_kernel::window::ConvShape;

use crate::patch::Patches;
use crate::requantize::{Limits, Scaled};
use crate::taps::Taps;

/// The most rows multiplied together.
pub(crate) const ROWS: usize = 4;
/// Channels whose sums are kept before they become outputs.
pub(crate) const WIDTH: usize = 32;
/// The largest rank of an integer low-rank term that is not left to the reference.
pub(crate) const RANK: usize = 16;

/// Sums of some rows by some channels.
pub(crate) type Sums = [[i32; WIDTH]; ROWS];
/// `A·x` of some rows.
pub(crate) type Latents = [[i16; RANK]; ROWS];

/// Inner loops on one instruction set.
///
/// # Numerics
/// Every implementation computes the same bits: sums are exact modulo 2³², in any order.
pub(crate) trait Isa {
    /// Rows of activations as [`Self::multiply`] reads them.
    type Rows<'a>: Copy;

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

    /// `sums[row][c] = bias[c] + Σ rows[row]·weights[c]` for the channels of `bias`, at most [`WIDTH`]; `weights` has a
    /// row of `len` codes for each.
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

    /// `sums[c] = bias[c] + Σ taps[t][first + c]·weights[t·channels + first + c]`, for the channels of `bias`.
    fn depthwise(
        taps: &Taps<'_>,
        weights: &[i8],
        first: usize,
        bias: &[i32],
        sums: &mut [i32; WIDTH],
    ) -> Option<()>;

    /// The codes of sums times their scales, or of two such products' sum; every slice has at least as many
    /// elements as `out`.
    fn codes(terms: Scaled<'_>, low: Option<Scaled<'_>>, limits: &Limits, out: &mut [i8]);
}
