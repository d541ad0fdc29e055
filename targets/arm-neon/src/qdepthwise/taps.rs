//! Sums over the taps of a window, for every channel of a run of pixels.

use core::arch::aarch64::*;

use ingraft_kernel::qdepthwise::QDepthwise;

use super::Sink;
use crate::lanes::{block, load_i32};

/// The largest window; the scalar reference computes larger ones.
pub(super) const MAX_TAPS: usize = 128;

/// Channels in a whole vector of codes.
const LANES: usize = 16;

/// Neighboring output pixels of one row that meet the padding in the same taps.
pub(super) struct Run<'a> {
    /// Index of the first pixel, counted over the whole output.
    pub(super) index: usize,
    /// Number of pixels.
    pub(super) pixels: usize,
    /// Every tap's codes from the first pixel on, up to the last channel of the last pixel.
    taps: &'a [&'a [i8]],
    /// From a pixel to the next, in codes.
    step: usize,
}

/// The operands of a convolution.
pub(super) struct Taps<'a> {
    conv: &'a QDepthwise<'a>,
    /// As many zero points as a run may read.
    padding: &'a [i8],
    channels: usize,
    /// Whether the products of two taps fit int16.
    pairs: bool,
}

impl<'a> Taps<'a> {
    /// `None` when an operand is too short or there are too many taps.
    pub(super) fn new(conv: &'a QDepthwise<'a>, padding: &'a [i8]) -> Option<Self> {
        let channels = conv.shape.output[3];
        let count = conv.shape.row();
        let fits = (1..=MAX_TAPS).contains(&count)
            && conv.bias.len() == channels
            && conv.weight.len() == count * channels;
        let pairs = conv.weight.iter().fold(0i8, |least, w| least.min(*w)) != i8::MIN;
        fits.then_some(Self { conv, padding, channels, pairs })
    }

    /// Calls `visit` with runs of at most `limit` pixels that cover the output in order.
    #[inline(always)]
    pub(super) fn for_each_run(
        &self,
        limit: usize,
        mut visit: impl FnMut(&Run<'_>) -> Option<()>,
    ) -> Option<()> {
        let shape = &self.conv.shape;
        let [samples, height, width, _] = shape.output;
        let mut taps = [self.padding; MAX_TAPS];
        for row in 0..samples * height {
            let mut column = 0;
            while column < width {
                let pixels = self.run_length(column).min(limit);
                let run = self.place(row, column, pixels, &mut taps)?;
                visit(&run)?;
                column += pixels;
            }
        }
        Some(())
    }

    /// How many pixels from `column` on meet no padding at the sides; one where a tap does.
    fn run_length(&self, column: usize) -> usize {
        let shape = &self.conv.shape;
        let (stride, reach) = (shape.stride[1], (shape.kernel[1] - 1) * shape.dilation[1]);
        // Columns of the input that the window's first tap may stand on, padding included.
        let end = (shape.input[2] + shape.pad[1]).saturating_sub(reach);
        let first = column * stride;
        let inside = if first < shape.pad[1] { 0 } else { end.saturating_sub(first).div_ceil(stride) };
        inside.clamp(1, shape.output[2] - column)
    }

    #[inline(always)]
    fn place<'t>(
        &self,
        row: usize,
        column: usize,
        pixels: usize,
        taps: &'t mut [&'a [i8]; MAX_TAPS],
    ) -> Option<Run<'t>> {
        let shape = &self.conv.shape;
        let [_, height, width, _] = shape.input;
        let n = row.checked_div(shape.output[1])?;
        let top = ((row - n * shape.output[1]) * shape.stride[0]).wrapping_sub(shape.pad[0]);
        let left = (column * shape.stride[1]).wrapping_sub(shape.pad[1]);
        let step = shape.stride[1] * self.channels;
        let len = (pixels - 1) * step + self.channels;
        let mut slots = taps.iter_mut();
        for ky in 0..shape.kernel[0] {
            let y = top.wrapping_add(ky * shape.dilation[0]);
            for kx in 0..shape.kernel[1] {
                let x = left.wrapping_add(kx * shape.dilation[1]);
                *slots.next()? = if y < height && x < width {
                    let at = ((n * height + y) * width + x) * self.channels;
                    self.conv.input.get(at..)?.get(..len)?
                } else {
                    self.padding.get(..len)?
                };
            }
        }
        let index = row * shape.output[2] + column;
        Some(Run { index, pixels, taps: taps.get(..shape.row())?, step })
    }

    /// Gives the sums of every channel, with bias, to `sink`. The last vector of channels may
    /// overlap the one before it.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn sums(&self, run: &Run<'_>, sink: &mut impl Sink) -> Option<()> {
        if self.pairs { self.vectors::<true>(run, sink) } else { self.vectors::<false>(run, sink) }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn vectors<const PAIRS: bool>(&self, run: &Run<'_>, sink: &mut impl Sink) -> Option<()> {
        let channels = self.channels;
        let whole = channels - channels % LANES;
        for channel in (0..whole).step_by(LANES) {
            // SAFETY: sixteen channels from `channel` on exist.
            unsafe { self.sixteen::<PAIRS>(run, channel, sink)? };
        }
        match channels - whole {
            0 => Some(()),
            // SAFETY: there are more than sixteen channels.
            rest if rest > 8 && whole > 0 => unsafe { self.sixteen::<PAIRS>(run, channels - LANES, sink) },
            rest if channels >= 8 => {
                if rest > 8 {
                    // SAFETY: eight channels from `whole` on exist.
                    unsafe { self.eight(run, whole, sink)? };
                }
                // SAFETY: there are at least eight channels.
                unsafe { self.eight(run, channels - 8, sink) }
            }
            _ => self.single(run, sink),
        }
    }

    /// Sums of sixteen channels.
    ///
    /// # Safety
    /// `channel + 16` is at most the number of channels.
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn sixteen<const PAIRS: bool>(
        &self,
        run: &Run<'_>,
        channel: usize,
        sink: &mut impl Sink,
    ) -> Option<()> {
        // SAFETY: the caller's promise.
        unsafe {
            match run.taps.first_chunk::<9>() {
                Some(nine) if run.taps.len() == 9 => self.held::<PAIRS, 9>(nine, run, channel, sink),
                _ => self.streamed::<PAIRS>(run, channel, sink),
            }
        }
    }

    /// Sums of sixteen channels whose weights stay in registers for the whole run.
    ///
    /// # Safety
    /// `channel + 16` is at most the number of channels, and `taps` are those of `run`.
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn held<const PAIRS: bool, const T: usize>(
        &self,
        taps: &[&[i8]; T],
        run: &Run<'_>,
        channel: usize,
        sink: &mut impl Sink,
    ) -> Option<()> {
        let bias = load_i32(&block(self.conv.bias, channel));
        let weight = self.conv.weight.as_ptr();
        // SAFETY: `Self::new` found as many weights as channels for each tap.
        let w: [int8x16_t; T] =
            core::array::from_fn(|t| unsafe { vld1q_s8(weight.add(t * self.channels + channel)) });
        let taps = taps.map(|tap| tap.as_ptr());
        let pairs = if PAIRS { T / 2 } else { 0 };
        // SAFETY: the processor executes NEON.
        let state = unsafe { sink.load::<4>(channel) };
        for pixel in 0..run.pixels {
            let at = pixel * run.step + channel;
            // SAFETY: `Self::place` found every channel of every pixel of the run in each tap.
            let x: [int8x16_t; T] = core::array::from_fn(|t| unsafe { vld1q_s8(taps[t].add(at)) });
            let mut sums = bias;
            for t in 0..pairs {
                add_pair(&mut sums, [x[2 * t], x[2 * t + 1]], [w[2 * t], w[2 * t + 1]]);
            }
            for t in 2 * pairs..T {
                add(&mut sums, x[t], w[t]);
            }
            // SAFETY: the processor executes NEON.
            unsafe { sink.put(&state, pixel, channel, sums)? };
        }
        Some(())
    }

    /// Sums of sixteen channels with weights read for each pixel.
    ///
    /// # Safety
    /// `channel + 16` is at most the number of channels.
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn streamed<const PAIRS: bool>(
        &self,
        run: &Run<'_>,
        channel: usize,
        sink: &mut impl Sink,
    ) -> Option<()> {
        let bias = load_i32(&block(self.conv.bias, channel));
        // SAFETY: the processor executes NEON.
        let state = unsafe { sink.load::<4>(channel) };
        for pixel in 0..run.pixels {
            let at = pixel * run.step + channel;
            let mut weight = self.conv.weight.as_ptr().wrapping_add(channel);
            let mut next = |tap: &[i8]| {
                // SAFETY: `Self::place` found every channel of every pixel of the run in each
                // tap, and `Self::new` as many weights as channels for each.
                let codes = unsafe { (vld1q_s8(tap.as_ptr().add(at)), vld1q_s8(weight)) };
                weight = weight.wrapping_add(self.channels);
                codes
            };
            let (pairs, rest) = if PAIRS { run.taps.as_chunks::<2>() } else { (&[][..], run.taps) };
            let mut sums = bias;
            for [first, second] in pairs {
                let ((x, w), (y, v)) = (next(first), next(second));
                add_pair(&mut sums, [x, y], [w, v]);
            }
            for tap in rest {
                let (x, w) = next(tap);
                add(&mut sums, x, w);
            }
            // SAFETY: the processor executes NEON.
            unsafe { sink.put(&state, pixel, channel, sums)? };
        }
        Some(())
    }

    /// Sums of eight channels.
    ///
    /// # Safety
    /// `channel + 8` is at most the number of channels.
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn eight(&self, run: &Run<'_>, channel: usize, sink: &mut impl Sink) -> Option<()> {
        let bias: [int32x4_t; 2] = load_i32(&block(self.conv.bias, channel));
        // SAFETY: the processor executes NEON.
        let state = unsafe { sink.load::<2>(channel) };
        for pixel in 0..run.pixels {
            let mut sums = bias;
            for (t, tap) in run.taps.iter().enumerate() {
                // SAFETY: `Self::place` found every channel of every pixel of the run in each
                // tap, and `Self::new` as many weights as channels for each.
                let products = unsafe {
                    let x = vld1_s8(tap.as_ptr().add(pixel * run.step + channel));
                    vmull_s8(x, vld1_s8(self.conv.weight.as_ptr().add(t * self.channels + channel)))
                };
                sums = [vaddw_s16(sums[0], vget_low_s16(products)), vaddw_high_s16(sums[1], products)];
            }
            // SAFETY: the processor executes NEON.
            unsafe { sink.put(&state, pixel, channel, sums)? };
        }
        Some(())
    }

    /// Sums one by one, of a tensor with fewer channels than a vector has.
    #[inline]
    #[target_feature(enable = "neon")]
    fn single(&self, run: &Run<'_>, sink: &mut impl Sink) -> Option<()> {
        for pixel in 0..run.pixels {
            for (channel, bias) in self.conv.bias.iter().enumerate() {
                let mut sum = *bias;
                for (t, tap) in run.taps.iter().enumerate() {
                    let x = i32::from(*tap.get(pixel * run.step + channel)?);
                    let w = self.conv.weight.get(t * self.channels + channel)?;
                    sum = sum.wrapping_add(x * i32::from(*w));
                }
                // SAFETY: the processor executes NEON.
                unsafe { sink.put_one(pixel, channel, sum)? };
            }
        }
        Some(())
    }
}

/// Adds the products of one tap.
#[inline]
#[target_feature(enable = "neon")]
fn add(sums: &mut [int32x4_t; 4], x: int8x16_t, w: int8x16_t) {
    widen(sums, vmull_s8(vget_low_s8(x), vget_low_s8(w)), vmull_high_s8(x, w));
}

/// Adds the products of two taps whose sums fit int16.
#[inline]
#[target_feature(enable = "neon")]
fn add_pair(sums: &mut [int32x4_t; 4], [x, y]: [int8x16_t; 2], [w, v]: [int8x16_t; 2]) {
    let low = vmull_s8(vget_low_s8(x), vget_low_s8(w));
    let high = vmull_high_s8(x, w);
    widen(sums, vmlal_s8(low, vget_low_s8(y), vget_low_s8(v)), vmlal_high_s8(high, y, v));
}

#[inline]
#[target_feature(enable = "neon")]
fn widen(sums: &mut [int32x4_t; 4], low: int16x8_t, high: int16x8_t) {
    let [a, b, c, d] = sums;
    *a = vaddw_s16(*a, vget_low_s16(low));
    *b = vaddw_high_s16(*b, low);
    *c = vaddw_s16(*c, vget_low_s16(high));
    *d = vaddw_high_s16(*d, high);
}
