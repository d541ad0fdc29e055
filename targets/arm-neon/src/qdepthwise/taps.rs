//! Sums over the taps of a window, for every channel of a pixel.

use core::arch::aarch64::*;

use ingraft_kernel::qdepthwise::QDepthwise;
use ingraft_kernel::window::Pixel;

use super::Sink;
use crate::lanes::{block, load_i32};

/// The largest window; the scalar reference computes larger ones.
pub(super) const MAX_TAPS: usize = 128;

/// Channels in a whole vector of codes.
const LANES: usize = 16;

/// The operands of a convolution with the taps of one pixel.
pub(super) struct Taps<'a> {
    conv: &'a QDepthwise<'a>,
    /// A pixel of padding.
    padding: &'a [i8],
    /// Every tap's codes, each of as many as there are channels.
    inputs: [&'a [i8]; MAX_TAPS],
    /// Number of taps.
    count: usize,
    /// Whether the products of two taps fit int16.
    pairs: bool,
}

impl<'a> Taps<'a> {
    /// `None` when an operand is too short or there are too many taps.
    pub(super) fn new(conv: &'a QDepthwise<'a>, padding: &'a [i8]) -> Option<Self> {
        let channels = conv.shape.output[3];
        let count = conv.shape.row();
        let fits = count <= MAX_TAPS
            && padding.len() == channels
            && conv.bias.len() == channels
            && conv.weight.len() == count * channels;
        let pairs = conv.weight.iter().fold(0i8, |least, w| least.min(*w)) != i8::MIN;
        fits.then_some(Self { conv, padding, inputs: [padding; MAX_TAPS], count, pairs })
    }

    /// The taps of `pixel`.
    #[inline(always)]
    pub(super) fn place(&mut self, pixel: Pixel) -> Option<&Self> {
        let (shape, channels) = (&self.conv.shape, self.padding.len());
        let width = shape.kernel[1];
        let mut inputs = self.inputs.iter_mut();
        for ky in 0..shape.kernel[0] {
            for kx in 0..width {
                *inputs.next()? = match shape.tap(pixel, ky, kx) {
                    Some(at) => self.conv.input.get(at * channels..)?.get(..channels)?,
                    None => self.padding,
                };
            }
        }
        Some(self)
    }

    /// Gives the sums of every channel, with bias, to `sink`. The last vector of channels may
    /// overlap the one before it.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn sums(&self, sink: &mut impl Sink) -> Option<()> {
        let inputs = self.inputs.get(..self.count)?;
        match (inputs.first_chunk::<9>(), self.pairs) {
            (Some(nine), true) if inputs.len() == nine.len() => self.vectors::<true>(nine, sink),
            (_, true) => self.vectors::<true>(inputs, sink),
            (_, false) => self.vectors::<false>(inputs, sink),
        }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn vectors<const PAIRS: bool>(&self, inputs: &[&'a [i8]], sink: &mut impl Sink) -> Option<()> {
        let channels = self.padding.len();
        let whole = channels - channels % LANES;
        for channel in (0..whole).step_by(LANES) {
            // SAFETY: sixteen channels from `channel` on exist.
            unsafe { sink.put(channel, self.sixteen::<PAIRS>(inputs, channel))? };
        }
        match channels - whole {
            0 => Some(()),
            // SAFETY: there are more than sixteen channels.
            rest if rest > 8 && whole > 0 => unsafe {
                sink.put(channels - LANES, self.sixteen::<PAIRS>(inputs, channels - LANES))
            },
            rest if channels >= 8 => {
                if rest > 8 {
                    // SAFETY: eight channels from `whole` on exist.
                    unsafe { sink.put(whole, self.eight(inputs, whole))? };
                }
                // SAFETY: there are at least eight channels.
                unsafe { sink.put(channels - 8, self.eight(inputs, channels - 8)) }
            }
            _ => (0..channels).try_for_each(|channel| {
                let sum = self.one(inputs, channel)?;
                // SAFETY: this function runs only with NEON.
                unsafe { sink.put_one(channel, sum) }
            }),
        }
    }

    /// Sums of sixteen channels.
    ///
    /// # Safety
    /// `channel + 16` is at most the number of channels, and `inputs` are from [`Self::place`].
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn sixteen<const PAIRS: bool>(&self, inputs: &[&'a [i8]], channel: usize) -> [int32x4_t; 4] {
        let channels = self.padding.len();
        let mut weight = self.conv.weight.as_ptr().wrapping_add(channel);
        let mut sums = load_i32(&block(self.conv.bias, channel));
        let mut next = |input: &&[i8]| {
            // SAFETY: every tap has as many codes as there are channels, and so have the
            // weights of every tap, which `Self::new` found one behind the other.
            let codes = unsafe { (vld1q_s8(input.as_ptr().add(channel)), vld1q_s8(weight)) };
            weight = weight.wrapping_add(channels);
            codes
        };
        let (pairs, rest) = if PAIRS { inputs.as_chunks::<2>() } else { (&[][..], inputs) };
        for [first, second] in pairs {
            let ((x, w), (y, v)) = (next(first), next(second));
            let low = vmull_s8(vget_low_s8(x), vget_low_s8(w));
            let high = vmull_high_s8(x, w);
            add(&mut sums, vmlal_s8(low, vget_low_s8(y), vget_low_s8(v)), vmlal_high_s8(high, y, v));
        }
        for input in rest {
            let (x, w) = next(input);
            add(&mut sums, vmull_s8(vget_low_s8(x), vget_low_s8(w)), vmull_high_s8(x, w));
        }
        sums
    }

    /// Sums of eight channels.
    ///
    /// # Safety
    /// `channel + 8` is at most the number of channels, and `inputs` are from [`Self::place`].
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn eight(&self, inputs: &[&'a [i8]], channel: usize) -> [int32x4_t; 2] {
        let mut sums: [int32x4_t; 2] = load_i32(&block(self.conv.bias, channel));
        let channels = self.padding.len();
        for (tap, input) in inputs.iter().enumerate() {
            // SAFETY: every tap has as many codes as there are channels, and so have the
            // weights of every tap, which `Self::new` found one behind the other.
            let products = unsafe {
                let w = vld1_s8(self.conv.weight.as_ptr().add(tap * channels + channel));
                vmull_s8(vld1_s8(input.as_ptr().add(channel)), w)
            };
            sums = [vaddw_s16(sums[0], vget_low_s16(products)), vaddw_high_s16(sums[1], products)];
        }
        sums
    }

    /// The sum of one channel.
    fn one(&self, inputs: &[&'a [i8]], channel: usize) -> Option<i32> {
        let mut sum = *self.conv.bias.get(channel)?;
        for (tap, input) in inputs.iter().enumerate() {
            let w = self.conv.weight.get(tap * self.padding.len() + channel)?;
            sum = sum.wrapping_add(i32::from(*input.get(channel)?) * i32::from(*w));
        }
        Some(sum)
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn add(sums: &mut [int32x4_t; 4], low: int16x8_t, high: int16x8_t) {
    let [a, b, c, d] = sums;
    *a = vaddw_s16(*a, vget_low_s16(low));
    *b = vaddw_high_s16(*b, low);
    *c = vaddw_s16(*c, vget_low_s16(high));
    *d = vaddw_high_s16(*d, high);
}
