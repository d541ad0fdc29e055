//! Weights of a depthwise layer in the order of the interleaved codes.

use ingraft_kernel::window::ConvShape;
use ingraft_tensor::bytes::{cast, cast_mut};

/// Channels of a block.
pub(super) const LANES: usize = 64;

/// How elements of a line are split into vectors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocks {
    /// Pixels whose elements are computed together.
    pub(super) pixels: usize,
    /// Blocks of [`LANES`] elements that cover them.
    pub(super) count: usize,
    /// Groups of four taps.
    pub(super) quads: usize,
    /// Channels.
    channels: usize,
}

/// Most pixels that share the lanes of their vectors: bounds the packed weights.
const MOST_PIXELS: usize = 8;

/// Four vectors of bias and of multipliers.
type Scale = ([[i32; 16]; 4], [[f32; 16]; 4]);

/// Packed constants, checked to have the size of their blocks.
pub(super) struct Packed<'p> {
    weights: &'p [[i8; LANES]],
    bias: &'p [[[i32; 16]; 4]],
    multiplier: &'p [[[f32; 16]; 4]],
    quads: usize,
}

impl Blocks {
    pub(super) fn new(shape: &ConvShape) -> Self {
        let channels = shape.input[3];
        let quads = shape.row().div_ceil(4);
        let together = LANES >> channels.trailing_zeros().min(LANES.trailing_zeros());
        let pixels = if shape.stride[1] == 1 && together <= MOST_PIXELS { together } else { 1 };
        Self { pixels, count: (pixels * channels).div_ceil(LANES), quads, channels }
    }

    const fn weight_bytes(&self) -> usize {
        self.count * self.quads * 4 * LANES
    }

    /// Bytes that [`Self::pack`] fills, with room to begin at a cache line.
    pub(super) const fn bytes(&self) -> usize {
        LANES + self.weight_bytes() + self.count * LANES * 8
    }

    /// Packs `weight` `[taps, C]`, `bias` and `multiplier` `[C]`. The distance to the first
    /// cache line stands in the first byte.
    pub(super) fn pack(
        &self,
        weight: &[i8],
        bias: &[i32],
        multiplier: &[f32],
        packed: &mut [u8],
    ) -> Option<()> {
        let skip = LANES - packed.as_ptr().addr() % LANES;
        *packed.first_mut()? = skip as u8;
        let (weights, rest) = packed.get_mut(skip..)?.split_at_mut_checked(self.weight_bytes())?;
        let (biases, rest) = rest.split_at_mut_checked(self.count * LANES * 4)?;
        let (biases, multipliers): (&mut [i32], &mut [f32]) =
            (cast_mut(biases)?, cast_mut(rest.get_mut(..self.count * LANES * 4)?)?);
        weights.fill(0);
        for (at, (to_bias, to_multiplier)) in biases.iter_mut().zip(multipliers).enumerate() {
            (*to_bias, *to_multiplier) = (0, 0.0);
            let (block, lane) = (at / LANES, at % LANES);
            let element = block * LANES + position(lane);
            if element >= self.pixels * self.channels {
                continue;
            }
            let channel = element % self.channels;
            let mut sum = 0i32;
            for (tap, weight) in weight.chunks_exact(self.channels).enumerate() {
                let code = *weight.get(channel)?;
                sum = sum.wrapping_add(i32::from(code));
                let vector = (block * self.quads + tap / 4) * 4 + lane / 16;
                *weights.get_mut(vector * LANES + lane % 16 * 4 + tap % 4)? = code as u8;
            }
            *to_bias = bias.get(channel)?.wrapping_sub(sum.wrapping_mul(128));
            *to_multiplier = *multiplier.get(channel)?;
        }
        Some(())
    }

    /// What [`Self::pack`] left in `packed`.
    pub(super) fn view<'p>(&self, packed: &'p [u8]) -> Option<Packed<'p>> {
        let skip = usize::from(*packed.first()?);
        let (weights, rest) = packed.get(skip..)?.split_at_checked(self.weight_bytes())?;
        let (bias, rest) = rest.split_at_checked(self.count * LANES * 4)?;
        let multiplier = rest.get(..self.count * LANES * 4)?;
        let (bias, multiplier): (&[i32], &[f32]) = (cast(bias)?, cast(multiplier)?);
        Some(Packed {
            weights: cast::<i8>(weights)?.as_chunks().0,
            bias: bias.as_chunks().0.as_chunks().0,
            multiplier: multiplier.as_chunks().0.as_chunks().0,
            quads: self.quads,
        })
    }
}

impl<'p> Packed<'p> {
    /// Four vectors for every four taps.
    pub(super) fn weights_of(&self, block: usize) -> Option<&'p [[i8; LANES]]> {
        self.weights.get(block * self.quads * 4..)?.get(..self.quads * 4)
    }

    /// Bias with the correction of the moved codes, and multipliers.
    pub(super) fn scale_of(&self, block: usize) -> Option<Scale> {
        Some((*self.bias.get(block)?, *self.multiplier.get(block)?))
    }
}

/// The element of a block that lane `lane` of its four vectors holds: interleaving bytes, then
/// pairs, works within 128-bit parts.
const fn position(lane: usize) -> usize {
    let (vector, part, local) = (lane / 16, lane % 16 / 4, lane % 4);
    part * 16 + vector * 4 + local
}
