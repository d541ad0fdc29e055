//! Weights of a depthwise layer in the order of the interleaved codes.

use ingraft_kernel::window::ConvShape;
use ingraft_tensor::bytes::{cast, cast_mut};

/// How an instruction set takes the elements of a line: [`Taps`](super::taps::Taps) as values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// Elements computed together.
    pub(super) block: usize,
    /// Taps whose codes are interleaved.
    pub(super) together: usize,
    /// Sums in a vector.
    pub(super) lanes: usize,
    /// Bytes of a code in a line.
    pub(super) wide: usize,
}

impl Order {
    /// The element of a block that sum `at` belongs to: codes are interleaved within 128-bit parts.
    const fn element(self, at: usize) -> usize {
        let (vector, part, local) = (at / self.lanes, at % self.lanes / 4, at % 4);
        part * (4 * self.block / self.lanes) + vector * 4 + local
    }
}

/// How elements of a line are split into vectors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocks {
    /// Pixels whose elements are computed together.
    pub(super) pixels: usize,
    /// Blocks of elements that cover them.
    pub(super) count: usize,
    /// Groups of taps that are interleaved.
    pub(super) groups: usize,
    /// Channels.
    channels: usize,
    order: Order,
}

/// Most pixels that share the lanes of their vectors: bounds the packed weights.
const MOST_PIXELS: usize = 8;

/// Weights begin at a cache line.
const LINE: usize = 64;

/// Packed constants, checked to have the size of their blocks.
pub(super) struct Packed<'p> {
    blocks: Blocks,
    weights: &'p [u8],
    bias: &'p [i32],
    multiplier: &'p [f32],
}

impl Blocks {
    pub(super) fn new(shape: &ConvShape, order: Order) -> Self {
        let (channels, lanes) = (shape.input[3], order.block);
        let groups = shape.row().div_ceil(order.together);
        let repeats = lanes >> channels.trailing_zeros().min(lanes.trailing_zeros());
        let pixels = if shape.stride[1] == 1 && repeats <= MOST_PIXELS { repeats } else { 1 };
        Self { pixels, count: (pixels * channels).div_ceil(lanes), groups, channels, order }
    }

    /// Bytes of a block's weights.
    const fn block_weights(&self) -> usize {
        self.groups * self.order.together * self.order.block
    }

    /// Elements of all blocks.
    const fn elements(&self) -> usize {
        self.count * self.order.block
    }

    /// Bytes that [`Self::pack`] fills, with room to begin at a cache line.
    pub(super) const fn bytes(&self) -> usize {
        LINE + self.count * self.block_weights() + self.elements() * 8
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
        let Order { block, together, lanes, .. } = self.order;
        let skip = LINE - packed.as_ptr().addr() % LINE;
        *packed.first_mut()? = skip as u8;
        let (weights, rest) =
            packed.get_mut(skip..)?.split_at_mut_checked(self.count * self.block_weights())?;
        let (biases, rest) = rest.split_at_mut_checked(self.elements() * 4)?;
        let (biases, multipliers): (&mut [i32], &mut [f32]) =
            (cast_mut(biases)?, cast_mut(rest.get_mut(..self.elements() * 4)?)?);
        weights.fill(0);
        for (at, (to_bias, to_multiplier)) in biases.iter_mut().zip(multipliers).enumerate() {
            (*to_bias, *to_multiplier) = (0, 0.0);
            let (index, at) = (at / block, at % block);
            let element = index * block + self.order.element(at);
            if element >= self.pixels * self.channels {
                continue;
            }
            let channel = element % self.channels;
            let mut sum = 0i32;
            for (tap, weight) in weight.chunks_exact(self.channels).enumerate() {
                let code = *weight.get(channel)?;
                sum = sum.wrapping_add(i32::from(code));
                let vector = (index * self.groups + tap / together) * (block / lanes) + at / lanes;
                *weights.get_mut((vector * lanes + at % lanes) * together + tap % together)? = code as u8;
            }
            *to_bias = bias.get(channel)?.wrapping_sub(sum.wrapping_mul(128));
            *to_multiplier = *multiplier.get(channel)?;
        }
        Some(())
    }

    /// What [`Self::pack`] left in `packed`.
    pub(super) fn view<'p>(&self, packed: &'p [u8]) -> Option<Packed<'p>> {
        let skip = usize::from(*packed.first()?);
        let (weights, rest) = packed.get(skip..)?.split_at_checked(self.count * self.block_weights())?;
        let (bias, rest) = rest.split_at_checked(self.elements() * 4)?;
        let multiplier = rest.get(..self.elements() * 4)?;
        Some(Packed { blocks: *self, weights, bias: cast(bias)?, multiplier: cast(multiplier)? })
    }
}

impl<'p> Packed<'p> {
    /// The weights of a block for every tap, its bias with the correction of the moved codes, and its multipliers.
    #[inline(always)]
    pub(super) fn block(&self, index: usize) -> Option<(&'p [u8], &'p [i32], &'p [f32])> {
        let (size, elements) = (self.blocks.block_weights(), self.blocks.order.block);
        Some((
            self.weights.get(index * size..)?.get(..size)?,
            self.bias.get(index * elements..)?.get(..elements)?,
            self.multiplier.get(index * elements..)?.get(..elements)?,
        ))
    }
}
