//! A strip of pixels going down the lines of an image, its sums in registers.

use core::arch::x86_64::*;
use core::ops::Range;

use ingraft_kernel::window::ConvShape;

/// Channels of a vector.
pub(super) const LANES: usize = 16;
/// Most pixels of a strip.
pub(super) const PIXELS: usize = 8;
/// Columns that the widest strip with code of its own sees.
const COLUMNS: usize = (PIXELS - 1) * 2 + 5;

/// A layer's constants.
#[derive(Debug)]
pub(super) struct Layer<'a> {
    pub(super) shape: &'a ConvShape,
    /// `[kh, kw, C]`.
    pub(super) weight: &'a [f32],
    pub(super) bias: &'a [f32],
    /// Of the activation.
    pub(super) bounds: [f32; 2],
}

impl Layer<'_> {
    /// The pixels of a line whose windows lie inside the image from left to right.
    pub(super) fn whole(&self) -> Range<usize> {
        let ConvShape { input: [_, _, width, _], kernel, stride, dilation, pad, .. } = *self.shape;
        let (stride, reach) = (stride[1].max(1), (kernel[1].max(1) - 1) * dilation[1]);
        let end = (pad[1] + width).checked_sub(reach + 1).map_or(0, |last| last / stride + 1);
        pad[1].div_ceil(stride)..end
    }
}

/// Neighboring pixels of sixteen channels, on every line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strip {
    /// First channel.
    pub(super) first: usize,
    /// Column of the first pixel of the output.
    pub(super) x: usize,
    /// Pixels, 1 to [`PIXELS`].
    pub(super) count: usize,
    /// Whether there are fewer channels, or columns outside the image.
    pub(super) masked: bool,
}

impl Strip {
    /// Computes `lines` with the code made for the window, if there is one.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn compute(
        &self,
        layer: &Layer<'_>,
        input: &[f32],
        out: &mut [f32],
        lines: Range<usize>,
    ) -> Option<()> {
        let ConvShape { input: [_, height, width, channels], output, kernel, stride, dilation, pad, .. } =
            *layer.shape;
        let fits = input.len() == height * width * channels
            && out.len() == output[1] * output[2] * channels
            && layer.weight.len() == kernel[0] * kernel[1] * channels
            && layer.bias.len() == channels
            && output[3] == channels
            && lines.end <= output[1]
            && self.first < channels
            && (1..=PIXELS).contains(&self.count)
            && self.x + self.count <= output[2];
        if !fits {
            return None;
        }
        let lanes = lanes(channels - self.first);
        let left = (self.x * stride[1]) as isize - pad[1] as isize;
        let code = Code {
            shape: layer.shape,
            input: input.as_ptr().wrapping_add(self.first),
            weight: layer.weight.as_ptr().wrapping_add(self.first),
            // SAFETY: the mask selects only channels the layer has.
            bias: unsafe { _mm512_maskz_loadu_ps(lanes, layer.bias.as_ptr().wrapping_add(self.first)) },
            bounds: layer.bounds.map(|bound| _mm512_set1_ps(bound)),
            lanes,
            left,
            count: self.count,
            out: out.as_mut_ptr().wrapping_add(self.x * channels + self.first),
        };
        // SAFETY: the operands have the lengths that the extents say, and strip and lines lie inside the output: compared
        // above. Without masks all channels exist and all columns lie inside the image: what `masked` says.
        unsafe {
            match (kernel[1], stride[1], dilation[1]) {
                (3, 1, 1) => code.window::<3, 1>(self.masked, lines),
                (3, 2, 1) => code.window::<3, 2>(self.masked, lines),
                (5, 1, 1) => code.window::<5, 1>(self.masked, lines),
                (5, 2, 1) => code.window::<5, 2>(self.masked, lines),
                _ => code.any(lines),
            }
        }
        Some(())
    }
}

/// What the code of a strip reads and writes.
struct Code<'a> {
    shape: &'a ConvShape,
    /// The sample's first pixel, at the strip's first channel.
    input: *const f32,
    /// The first tap, at the strip's first channel.
    weight: *const f32,
    bias: __m512,
    bounds: [__m512; 2],
    /// The channels.
    lanes: u16,
    /// Column of the image under the first pixel's first tap.
    left: isize,
    /// Pixels.
    count: usize,
    /// The strip's first pixel on line 0.
    out: *mut f32,
}

impl Code<'_> {
    /// A window of `WIDTH` columns, `STRIDE` between pixels.
    ///
    /// # Safety
    /// As [`Self::strip`].
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn window<const WIDTH: usize, const STRIDE: usize>(&self, masked: bool, lines: Range<usize>) {
        // SAFETY: the caller's contract. With more pixels than the strip has there are masks.
        unsafe {
            match (self.count, masked) {
                (8, false) => self.strip::<8, WIDTH, STRIDE, false>(lines),
                (7.., _) => self.strip::<8, WIDTH, STRIDE, true>(lines),
                (6, false) => self.strip::<6, WIDTH, STRIDE, false>(lines),
                (5.., _) => self.strip::<6, WIDTH, STRIDE, true>(lines),
                (4, false) => self.strip::<4, WIDTH, STRIDE, false>(lines),
                (3.., _) => self.strip::<4, WIDTH, STRIDE, true>(lines),
                _ => self.strip::<2, WIDTH, STRIDE, true>(lines),
            }
        }
    }

    /// # Safety
    /// - Image, weights and output have the lengths their extents say, and `lines` are lines of the output.
    /// - Without `MASKED` the strip has `P` pixels, sixteen channels and no column outside the image.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn strip<const P: usize, const WIDTH: usize, const STRIDE: usize, const MASKED: bool>(
        &self,
        lines: Range<usize>,
    ) {
        let ConvShape { input: [_, _, width, channels], dilation, .. } = *self.shape;
        let [places, masks] = if MASKED { self.columns() } else { [[0; COLUMNS]; 2] };
        let first = self.input.wrapping_offset(self.left * channels as isize);
        for y in lines {
            let (line, rows) = self.rows(y);
            let mut sums = [self.bias; P];
            for row in rows.clone() {
                let weight = self.weight.wrapping_add(row * WIDTH * channels);
                let line = (line + (row - rows.start) * dilation[0]) * width * channels;
                let mut weights = [self.bias; WIDTH];
                for (kx, w) in weights.iter_mut().enumerate() {
                    // SAFETY: the caller's contract; `row` is a row of the window.
                    *w = unsafe { self.load::<MASKED>(weight.wrapping_add(kx * channels), self.lanes) };
                }
                let (first, image) = (first.wrapping_add(line), self.input.wrapping_add(line));
                for (p, sum) in sums.iter_mut().enumerate() {
                    for (kx, w) in weights.iter().enumerate() {
                        let column = p * STRIDE + kx;
                        let from = if MASKED {
                            image.wrapping_add(places[column])
                        } else {
                            first.wrapping_add(column * channels)
                        };
                        // SAFETY: the caller's contract; `line` lies inside the image, and the mask of a column
                        // outside is empty.
                        let x = unsafe { self.load::<MASKED>(from, masks[column] as u16) };
                        *sum = _mm512_fmadd_ps(x, *w, *sum);
                    }
                }
            }
            // SAFETY: the caller's contract.
            unsafe { self.store::<P, MASKED>(y, sums) };
        }
    }

    /// Any window.
    ///
    /// # Safety
    /// As [`Self::strip`] with masks.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn any(&self, lines: Range<usize>) {
        let ConvShape { input: [_, _, width, channels], kernel, stride, dilation, .. } = *self.shape;
        for y in lines {
            let (line, rows) = self.rows(y);
            let mut sums = [self.bias; PIXELS];
            for row in rows.clone() {
                let line = (line + (row - rows.start) * dilation[0]) * width;
                for kx in 0..kernel[1] {
                    let weight = self.weight.wrapping_add((row * kernel[1] + kx) * channels);
                    // SAFETY: the caller's contract; row and column are those of a tap.
                    let w = unsafe { self.load::<true>(weight, self.lanes) };
                    for (p, sum) in sums.iter_mut().enumerate() {
                        let (place, mask) = self.column(p * stride[1] + kx * dilation[1]);
                        let from = self.input.wrapping_add(line * channels + place);
                        // SAFETY: as in a strip.
                        let x = unsafe { self.load::<true>(from, mask) };
                        *sum = _mm512_fmadd_ps(x, w, *sum);
                    }
                }
            }
            // SAFETY: the caller's contract.
            unsafe { self.store::<PIXELS, true>(y, sums) };
        }
    }

    /// First line of the image under the window at output line `y`, and the rows of the window inside the image.
    #[inline(always)]
    fn rows(&self, y: usize) -> (usize, Range<usize>) {
        let ConvShape { input: [_, height, ..], kernel, stride, dilation, pad, .. } = *self.shape;
        let (begin, step) = (y * stride[0], dilation[0]);
        // A division on every line would take as long as its products.
        let taps = |distance: usize| if step == 1 { distance } else { distance.div_ceil(step.max(1)) };
        let end = taps((pad[0] + height).saturating_sub(begin)).min(kernel[0]);
        let rows = taps(pad[0].saturating_sub(begin)).min(end)..end;
        ((begin + rows.start * step).saturating_sub(pad[0]), rows)
    }

    /// Where every column of a strip lies in a line, and its channels.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn columns(&self) -> [[usize; COLUMNS]; 2] {
        let (mut places, mut masks) = ([0; COLUMNS], [0; COLUMNS]);
        for (column, (place, mask)) in places.iter_mut().zip(&mut masks).enumerate() {
            let (at, lanes) = self.column(column);
            (*place, *mask) = (at, lanes.into());
        }
        [places, masks]
    }

    /// Where column `column` of the strip lies in a line, and the channels to load of it: outside the image none, and of
    /// a place inside, as processors take long to find out that nothing is wanted of memory that is not there.
    #[inline(always)]
    fn column(&self, column: usize) -> (usize, u16) {
        let [_, _, width, channels] = self.shape.input;
        match usize::try_from(self.left + column as isize) {
            Ok(column) if column < width => (column * channels, self.lanes),
            _ => (0, 0),
        }
    }

    /// # Safety
    /// Sixteen values lie at `from`, or with `MASKED` those of the mask.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load<const MASKED: bool>(&self, from: *const f32, mask: u16) -> __m512 {
        // SAFETY: the caller's contract; no alignment is needed.
        unsafe { if MASKED { _mm512_maskz_loadu_ps(mask, from) } else { _mm512_loadu_ps(from) } }
    }

    /// Writes the strip's pixels on line `y`.
    ///
    /// # Safety
    /// As [`Self::strip`].
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn store<const P: usize, const MASKED: bool>(&self, y: usize, sums: [__m512; P]) {
        let [_, _, across, channels] = self.shape.output;
        let ([lo, hi], line) = (self.bounds, self.out.wrapping_add(y * across * channels));
        for (p, sum) in sums.into_iter().enumerate() {
            if !MASKED || p < self.count {
                let (to, value) =
                    (line.wrapping_add(p * channels), _mm512_min_ps(_mm512_max_ps(sum, lo), hi));
                // SAFETY: the caller's contract.
                unsafe {
                    if MASKED && self.lanes != u16::MAX {
                        _mm512_mask_storeu_ps(to, self.lanes, value);
                    } else {
                        _mm512_storeu_ps(to, value);
                    }
                }
            }
        }
    }
}

/// The first lanes, at most sixteen.
#[inline(always)]
fn lanes(count: usize) -> u16 {
    if count >= LANES { u16::MAX } else { (1 << count) - 1 }
}
