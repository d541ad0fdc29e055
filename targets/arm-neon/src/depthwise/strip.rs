//! Eight neighboring pixels by two vectors of channels, their sums in registers.
//!
//! # Blocking
//! A strip lies on one line of the output and takes one block of channels after another; the last block ends with the last
//! channel, over channels of the one before where they do not divide. Each column that any pixel of the strip sees is
//! loaded once for a row of the window. Columns outside the image are skipped, and with them the pixels past the end of a line.
//!
//! # Limits
//! A row of the window takes `kw` pairs of loads for its weights, one for each of `7·stride + kw` columns and `16·kw`
//! `FMLA`: 13 beside 48 at 3×3, 17 beside 80 at 5×5, 20 and 24 with stride 2.

use core::arch::aarch64::*;

use ingraft_kernel::window::ConvShape;
use ingraft_tensor::bytes::Plain;

use crate::tile::rows_inside;

/// Output pixels of a strip.
const PIXELS: usize = 8;

/// How activations meet weights.
pub(super) trait Taps: Sized {
    /// Of both.
    type Element: Plain;
    /// Some channels.
    type Vector: Copy;
    /// What two vectors of channels need besides their weights.
    type Channels: Copy;
    /// Results of two vectors of channels.
    type Reals: AsRef<[float32x4_t]>;
    /// Channels of two vectors.
    const BLOCK: usize;

    /// # Safety
    /// The layer has the block of channels from `first` on.
    unsafe fn channels(&self, first: usize) -> Self::Channels;
    /// Sums before the first tap.
    ///
    /// # Safety
    /// The processor executes what the implementation stands for.
    unsafe fn start(channels: &Self::Channels) -> [Self::Vector; 2];
    /// # Safety
    /// Two vectors lie at `from`.
    unsafe fn load(from: *const Self::Element) -> [Self::Vector; 2];
    /// `sum + w·x`, rounded once.
    ///
    /// # Safety
    /// The processor executes what the implementation stands for.
    unsafe fn add(sum: Self::Vector, w: Self::Vector, x: Self::Vector) -> Self::Vector;
    /// Results before the activation.
    ///
    /// # Safety
    /// The processor executes what the implementation stands for.
    unsafe fn finish(channels: &Self::Channels, sums: [Self::Vector; 2]) -> Self::Reals;
    /// [`Strip::compute`] in a function of its own, compiled for the instructions.
    ///
    /// # Safety
    /// Those of `compute` and the instructions.
    unsafe fn enter<const WIDTH: usize, const STRIDE: usize, const MASKED: bool>(strip: &Strip<'_, Self>);
}

/// Operands of a layer whose windows [`has_code`].
pub(super) struct Layer<'a, T: Taps> {
    pub(super) shape: &'a ConvShape,
    /// `[N, H, W, C]`.
    pub(super) input: &'a [T::Element],
    /// `[kh, kw, C]`.
    pub(super) weight: &'a [T::Element],
    pub(super) taps: T,
    /// Of the activation.
    pub(super) bounds: [f32; 2],
}

/// Whether strips of blocks of channels go over the layer.
pub(super) fn has_code(shape: &ConvShape, block: usize) -> bool {
    matches!((shape.kernel[1], shape.stride[1], shape.dilation[1]), (3 | 5, 1 | 2, 1))
        && shape.output[3] >= block
}

impl<T: Taps> Layer<'_, T> {
    /// Writes every pixel; `None` where the operands are too short or the window has no code.
    ///
    /// # Safety
    /// The processor executes what `T` stands for, and `T` has all channels of the shape.
    #[inline(always)]
    pub(super) unsafe fn compute(&self, out: &mut [f32]) -> Option<()> {
        let ConvShape { input: [n, height, width, channels], output, kernel, .. } = *self.shape;
        let fits = has_code(self.shape, T::BLOCK)
            && self.input.len() >= n * height * width * channels
            && self.weight.len() >= kernel[0] * kernel[1] * channels
            && out.len() == output.iter().product::<usize>()
            && output[0] == n
            && output[3] == channels;
        fits.then_some(())?;
        let mut lines = out.chunks_exact_mut((output[2] * channels).max(1));
        for sample in 0..n {
            for y in 0..output[1] {
                let rows = self.rows(sample, y);
                let out = lines.next()?;
                for x in (0..output[2]).step_by(PIXELS) {
                    // SAFETY: the operands are as long as their extents say, compared above, and as the caller vouches.
                    unsafe { self.strip(&rows, x, out) };
                }
            }
        }
        Some(())
    }

    /// The rows of the window inside the image at output line `y`.
    #[inline(always)]
    fn rows(&self, sample: usize, y: usize) -> Rows {
        let ConvShape { input: [_, height, width, channels], kernel, dilation, .. } = *self.shape;
        let (inside, line) = rows_inside(self.shape, y);
        Rows {
            input: (sample * height + line) * width * channels,
            weight: inside.start * kernel[1] * channels,
            count: inside.len(),
            step: dilation[0] * width * channels,
        }
    }

    /// Writes the pixels from `x` on of the line `out`.
    ///
    /// # Safety
    /// As [`Self::compute`]; the operands have the lengths that their extents say, and `x` is a pixel of the line.
    #[inline(always)]
    unsafe fn strip(&self, rows: &Rows, x: usize, out: &mut [f32]) {
        let ConvShape { input: [_, _, width, channels], output, kernel, stride, pad, .. } = *self.shape;
        let (left, count) = ((x * stride[1]) as isize - pad[1] as isize, PIXELS.min(output[2] - x));
        let columns = (count - 1) * stride[1] + kernel[1];
        let inside = (0..columns)
            .filter(|column| usize::try_from(left + *column as isize).is_ok_and(|column| column < width))
            .fold(0, |bits, column| bits | 1 << column);
        let code = Strip {
            layer: self,
            rows,
            input: self.input.as_ptr().wrapping_add(rows.input).wrapping_offset(left * channels as isize),
            inside,
            count,
            out: out.as_mut_ptr().wrapping_add(x * channels),
        };
        let masked = inside.count_ones() as usize != (PIXELS - 1) * stride[1] + kernel[1];
        // SAFETY: the caller's contract; without a mask all columns of all pixels lie inside the image.
        unsafe {
            match (kernel[1], stride[1], masked) {
                (3, 1, false) => T::enter::<3, 1, false>(&code),
                (3, 1, true) => T::enter::<3, 1, true>(&code),
                (3, _, false) => T::enter::<3, 2, false>(&code),
                (3, _, true) => T::enter::<3, 2, true>(&code),
                (_, 1, false) => T::enter::<5, 1, false>(&code),
                (_, 1, true) => T::enter::<5, 1, true>(&code),
                (_, _, false) => T::enter::<5, 2, false>(&code),
                (_, _, true) => T::enter::<5, 2, true>(&code),
            }
        }
    }
}

/// The part of a window that lies inside the image from top to bottom.
struct Rows {
    /// First element of its first line.
    input: usize,
    /// First weight of its first row.
    weight: usize,
    /// How many.
    count: usize,
    /// Elements from line to line.
    step: usize,
}

/// What the code of a strip reads and writes.
pub(super) struct Strip<'s, T: Taps> {
    layer: &'s Layer<'s, T>,
    rows: &'s Rows,
    /// Under the first tap of the first pixel, perhaps outside the image.
    input: *const T::Element,
    /// The columns of the strip that lie inside the image, a bit each.
    inside: u32,
    /// Pixels.
    count: usize,
    /// The first pixel.
    out: *mut f32,
}

impl<T: Taps> Strip<'_, T> {
    /// # Safety
    /// - As [`Layer::strip`].
    /// - Without `MASKED`, all columns of [`PIXELS`] pixels lie inside the image.
    #[inline(always)]
    pub(super) unsafe fn compute<const WIDTH: usize, const STRIDE: usize, const MASKED: bool>(&self) {
        let Layer { shape, weight, taps, bounds: [lo, hi], .. } = self.layer;
        let channels = shape.output[3];
        // SAFETY: NEON is part of what every implementation of `Taps` stands for.
        let (lo, hi) = unsafe { (vdupq_n_f32(*lo), vdupq_n_f32(*hi)) };
        for first in (0..channels).step_by(T::BLOCK) {
            let first = first.min(channels - T::BLOCK);
            // SAFETY: the block ends with the last channel at most.
            let constants = unsafe { taps.channels(first) };
            // SAFETY: the caller's contract.
            let mut sums = [unsafe { T::start(&constants) }; PIXELS];
            let mut x = self.input.wrapping_add(first);
            let mut w = weight.as_ptr().wrapping_add(self.rows.weight + first);
            for _ in 0..self.rows.count {
                // SAFETY: a row of the window has `WIDTH` taps of all channels.
                let weights: [_; WIDTH] =
                    core::array::from_fn(|kx| unsafe { T::load(w.wrapping_add(kx * channels)) });
                macro_rules! columns {
                    ($($column:literal)*) => {$(
                        if $column < (PIXELS - 1) * STRIDE + WIDTH && (!MASKED || self.inside >> $column & 1 == 1) {
                            // SAFETY: the column lies inside the image.
                            let x = unsafe { T::load(x.wrapping_add($column * channels)) };
                            for (kx, w) in weights.iter().enumerate() {
                                if kx <= $column && ($column - kx) % STRIDE == 0
                                    && let Some(sums) = sums.get_mut(($column - kx) / STRIDE)
                                {
                                    // SAFETY: the caller's contract.
                                    *sums = unsafe { [T::add(sums[0], w[0], x[0]), T::add(sums[1], w[1], x[1])] };
                                }
                            }
                        }
                    )*};
                }
                columns!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18);
                x = x.wrapping_add(self.rows.step);
                w = w.wrapping_add(WIDTH * channels);
            }
            for (p, sums) in sums.into_iter().enumerate() {
                if MASKED && p >= self.count {
                    break;
                }
                let out = self.out.wrapping_add(p * channels + first);
                // SAFETY: the caller's contract; the block of channels of the pixel has room at `out`.
                unsafe {
                    for (i, value) in T::finish(&constants, sums).as_ref().iter().enumerate() {
                        // As the reference, of a number and NaN these take the number.
                        vst1q_f32(out.wrapping_add(4 * i), vminnmq_f32(vmaxnmq_f32(*value, lo), hi));
                    }
                }
            }
        }
    }
}
