//! Windows of three or five columns, and at most as many rows, by `SDOT`: four rows of the image side by side, for two lines
//! of the output.
//!
//! # Numerics
//! As in the row without: exact, and accumulators wrap.
//!
//! # Limits
//! Four rows of a column, eight channels of them, take 4 loads and 4 permutations, and serve two lines and three pixels of
//! each. So sixteen codes of a 3×3 window take 12 `SDOT`, by products in int16 38 operations and 9 loads; then either way 22 to
//! become codes. A 5×5 window takes 40, of eight rows with two that count for nothing, where there were 104 and 25 loads.
//! Borders cost what other pixels do: columns outside the image are a register.

use core::arch::aarch64::*;
use core::array::from_fn as array;

use ingraft_kernel::qdepthwise::QDepthwise;
use ingraft_kernel::window::ConvShape;
use ingraft_kernel::{Call, Kernel, KernelError, OpCode, Step};
use ingraft_tensor::DType;

use super::{is_plain, padding, shape};
use crate::asm::sdot;
use crate::lanes::store_i8;
use crate::requantize::Limits;
use crate::tile::{after_operands, take};

/// int8 output; active terms and masks take the row without `SDOT`.
pub(crate) const KERNEL: Kernel = Kernel::new(
    "qdepthwise_qs8_qc8w_qs8__dotprod",
    OpCode::QDepthwise,
    Some(DType::I8),
    Some(DType::I8),
    run,
)
.checked(check)
.with_workspace(workspace);

/// Channels computed together.
const LANES: usize = 8;
/// Rows that meet in an `SDOT`.
const QUAD: usize = 4;
/// Rows under two lines of the widest window, in whole quads.
const ROWS: usize = 2 * QUAD;

/// `QUADS` quads of rows, as [`side_by_side`] makes them: a column of the image.
type Column<const QUADS: usize> = [[int8x16_t; 2]; QUADS];

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    (super::KERNEL.check)(step)?;
    let suits = |shape: ConvShape| {
        let [height, width] = shape.kernel;
        [3, 5].contains(&width)
            && height <= width
            && shape.pad[1] < width
            && [shape.stride, shape.dilation] == [[1; 2]; 2]
            && shape.output[3] >= LANES
    };
    if shape(step).is_some_and(suits) { Ok(()) } else { Err(KernelError::Operands(step.op)) }
}

fn workspace(step: &Step<'_>) -> usize {
    let bytes = shape(step).map_or(0, |shape| blocks(&shape).count() * weights(&shape) + padding(&shape));
    bytes.max((super::KERNEL.workspace)(step))
}

/// The first of some channels, all of which are covered: the last overlap those before.
fn blocks(shape: &ConvShape) -> impl Iterator<Item = usize> + use<> {
    let channels = shape.output[3];
    (0..channels).step_by(LANES).map(move |first| first.min(channels.saturating_sub(LANES)))
}

/// Bytes of the weights of some channels: for every column and quad, those of the upper line and of the lower.
fn weights(shape: &ConvShape) -> usize {
    let width = shape.kernel[1];
    width * (width + 1).div_ceil(QUAD) * 2 * QUAD * LANES
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    if !is_plain(call) {
        return (super::KERNEL.run)(call);
    }
    // SAFETY: this row leaves this crate only against a proof of `dotprod`.
    unsafe { codes(call) }
}

#[target_feature(enable = "neon,dotprod")]
fn codes(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (conv, error) = (QDepthwise::new(call)?, after_operands(call));
    let mut memory = core::mem::take(&mut call.workspace);
    let weights: &mut [i8] =
        take(&mut memory, blocks(&conv.shape).count() * weights(&conv.shape)).ok_or(error)?;
    let padding: &mut [i8] = take(&mut memory, padding(&conv.shape)).ok_or(error)?;
    padding.fill(conv.attrs.in_zero_point as i8);
    let (layer, out) = (Layer { conv: &conv, padding, limits: Limits::of(conv.attrs) }, call.slice_mut(0)?);
    let done = match conv.shape.kernel[1] {
        3 => layer.compute::<3, 1>(weights, out),
        _ => layer.compute::<5, 2>(weights, out),
    };
    done.ok_or(error)
}

struct Layer<'a> {
    conv: &'a QDepthwise<'a>,
    /// A row of zero points.
    padding: &'a [i8],
    limits: Limits,
}

impl<'a> Layer<'a> {
    /// Windows of `WIDTH` columns, whose rows under two lines are `QUADS` quads.
    #[target_feature(enable = "neon,dotprod")]
    fn compute<const WIDTH: usize, const QUADS: usize>(
        &self,
        weights: &mut [i8],
        out: &mut [i8],
    ) -> Option<()> {
        let size = self::weights(&self.conv.shape);
        for (weights, first) in weights.chunks_exact_mut(size).zip(blocks(&self.conv.shape)) {
            self.arrange::<WIDTH, QUADS>(first, weights)?;
        }
        let [samples, height, width, channels] = self.conv.shape.output;
        let line = (width * channels).max(1);
        for (n, out) in out.chunks_exact_mut((height * line).max(1)).enumerate().take(samples) {
            for (y, out) in out.chunks_mut(2 * line).enumerate() {
                let mut rows = [self.padding.as_ptr(); ROWS];
                for (i, row) in rows.iter_mut().enumerate().take(WIDTH + 1) {
                    *row = self.row(n, 2 * y + i)?.as_ptr();
                }
                for (weights, first) in weights.chunks_exact(size).zip(blocks(&self.conv.shape)) {
                    // SAFETY: rows under these lines were found whole, and eight channels from `first` on exist.
                    unsafe { self.lines::<WIDTH, QUADS>(&rows, first, weights, out)? };
                }
            }
        }
        Some(())
    }

    /// Row `index` of a sample, counted from the first of its padding.
    fn row(&self, n: usize, index: usize) -> Option<&'a [i8]> {
        let ConvShape { input: [_, height, width, channels], pad, .. } = self.conv.shape;
        let (y, len) = (index.wrapping_sub(pad[0]), width * channels);
        let row = if y < height { self.conv.input.get((n * height + y) * len..)? } else { self.padding };
        row.get(..len)
    }

    /// Writes the weights of the channels from `first` on.
    #[target_feature(enable = "neon")]
    fn arrange<const WIDTH: usize, const QUADS: usize>(&self, first: usize, out: &mut [i8]) -> Option<()> {
        let channels = self.conv.shape.output[3];
        let (mut out, zero) = (out.as_chunks_mut::<16>().0.iter_mut(), vdup_n_s8(0));
        for kx in 0..WIDTH {
            let mut rows = [zero; ROWS];
            for (ky, row) in rows.iter_mut().enumerate().take(self.conv.shape.kernel[0]) {
                let codes = self.conv.weight.get((ky * WIDTH + kx) * channels + first..)?;
                // SAFETY: eight codes were found there.
                *row = unsafe { vld1_s8(codes.first_chunk::<LANES>()?.as_ptr()) };
            }
            // The window of the lower line begins a row later.
            let lower: [_; ROWS] = core::array::from_fn(|i| if i == 0 { zero } else { rows[i - 1] });
            for (upper, lower) in rows.as_chunks::<QUAD>().0.iter().zip(lower.as_chunks().0).take(QUADS) {
                let vectors = side_by_side(*upper).into_iter().chain(side_by_side(*lower));
                vectors.zip(&mut out).for_each(|(w, out)| store_i8(out, w));
            }
        }
        Some(())
    }

    /// Two lines, or the last, of the channels from `first` on.
    ///
    /// # Safety
    /// The first `WIDTH + 1` of `rows` are the pixels of a line of the image, and `first + 8` at most their channels.
    #[target_feature(enable = "neon,dotprod")]
    unsafe fn lines<const WIDTH: usize, const QUADS: usize>(
        &self,
        rows: &[*const i8; ROWS],
        first: usize,
        weights: &[i8],
        out: &mut [i8],
    ) -> Option<()> {
        let ConvShape { input: [_, _, columns, channels], output: [_, _, width, _], pad, .. } =
            self.conv.shape;
        let (line, len) = (width * channels, out.len());
        (len >= line && weights.len() >= WIDTH * QUADS * 64).then_some(())?;
        let rows = rows.map(|row| row.wrapping_add(first));
        let upper = out.as_mut_ptr().wrapping_add(first);
        // Below an odd line at the end there is none: that one is written in its place before it.
        let below = if len >= 2 * line { line } else { 0 };
        // SAFETY: as many bytes were found.
        let vector = |i: usize| unsafe { vld1q_s8(weights.as_ptr().add(16 * i)) };
        let w: [[[int8x16_t; 4]; QUADS]; WIDTH] =
            array(|kx| array(|q| array(|i| vector((kx * QUADS + q) * 4 + i))));
        let bias = self.conv.bias.get(first..)?.first_chunk::<LANES>()?.as_ptr();
        let multiplier = self.conv.multiplier.get(first..)?.first_chunk::<LANES>()?.as_ptr();
        // SAFETY: eight of each.
        let (bias, [low, high]) = unsafe {
            ([vld1q_s32(bias), vld1q_s32(bias.add(4))], [vld1q_f32(multiplier), vld1q_f32(multiplier.add(4))])
        };
        let multiplier = [low, high, low, high];
        // Columns are counted from the first of the padding.
        let load = |index: usize| -> Column<QUADS> {
            let at = (index - pad[1]) * channels;
            // Past the rows under both lines those before stand in: their weights are zero.
            let row = |i: usize| rows[if i > WIDTH { i - 2 } else { i }].wrapping_add(at);
            // SAFETY: this column is inside the image, and eight of its channels inside the row.
            array(|q| side_by_side(array(|i| unsafe { vld1_s8(row(q * QUAD + i)) })))
        };
        let outside: Column<QUADS> = [[vdupq_n_s8(self.conv.attrs.in_zero_point as i8); 2]; QUADS];
        let column = |index: usize| if index.wrapping_sub(pad[1]) < columns { load(index) } else { outside };
        let put = |x: usize, window: &[Column<QUADS>; WIDTH]| {
            let mut sums = [bias[0], bias[1], bias[0], bias[1]];
            for (quad, w) in window.as_flattened().iter().zip(w.as_flattened()) {
                for (i, sum) in sums.iter_mut().enumerate() {
                    *sum = sdot(*sum, quad[i % 2], w[i]);
                }
            }
            let (codes, upper) = (self.limits.codes(&sums, &multiplier), upper.wrapping_add(x * channels));
            // SAFETY: the pixels of a line, and of each eight channels, were found in `out`.
            unsafe {
                vst1_s8(upper.wrapping_add(below), vget_high_s8(codes));
                vst1_s8(upper, vget_low_s8(codes));
            }
        };
        let mut window: [Column<QUADS>; WIDTH] = array(|i| if i == 0 { outside } else { column(i - 1) });
        // Pixels whose last column is inside: there is less padding than a window is wide.
        let end = (columns + pad[1]).saturating_sub(WIDTH - 1).min(width);
        for x in 0..end {
            window = slide(window, load(x + WIDTH - 1));
            put(x, &window);
        }
        for x in end..width {
            window = slide(window, outside);
            put(x, &window);
        }
        Some(())
    }
}

/// The window of the next pixel.
#[inline(always)]
fn slide<const QUADS: usize, const WIDTH: usize>(
    window: [Column<QUADS>; WIDTH],
    next: Column<QUADS>,
) -> [Column<QUADS>; WIDTH] {
    array(|i| if i + 1 < WIDTH { window[i + 1] } else { next })
}

/// The codes of four rows channel by channel, four channels in a vector.
#[inline]
#[target_feature(enable = "neon")]
fn side_by_side(rows: [int8x8_t; QUAD]) -> [int8x16_t; 2] {
    let [a, b, c, d] = rows.map(|row| vcombine_s8(row, row));
    let (upper, lower) = (vzip1q_s8(a, b), vzip1q_s8(c, d));
    let (upper, lower) = (vreinterpretq_s16_s8(upper), vreinterpretq_s16_s8(lower));
    [vzip1q_s16(upper, lower), vzip2q_s16(upper, lower)].map(|quads| vreinterpretq_s8_s16(quads))
}
