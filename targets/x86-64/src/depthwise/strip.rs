//! A strip of pixels going down the lines of an image, its sums in registers.

use core::ops::Range;

use ingraft_kernel::window::ConvShape;

use crate::simd::{Simd, Task};

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

/// What a column outside the image holds.
static NOTHING: [f32; 16] = [0.0; 16];

/// Neighboring pixels of a vector of channels, on every line.
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
    #[inline(always)]
    pub(super) fn compute<S: Simd>(
        &self,
        simd: S,
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
        const { assert!(S::LANES <= NOTHING.len()) };
        let lanes = simd.part(channels - self.first);
        let left = (self.x * stride[1]) as isize - pad[1] as isize;
        let code = Code {
            simd,
            shape: layer.shape,
            input: input.as_ptr().wrapping_add(self.first),
            weight: layer.weight.as_ptr().wrapping_add(self.first),
            // SAFETY: only channels the layer has are read.
            bias: unsafe { simd.load_part(layer.bias.as_ptr().wrapping_add(self.first), lanes) },
            bounds: layer.bounds.map(|bound| simd.splat(bound)),
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
#[derive(Clone, Copy)]
struct Code<'a, S: Simd> {
    simd: S,
    shape: &'a ConvShape,
    /// The sample's first pixel, at the strip's first channel.
    input: *const f32,
    /// The first tap, at the strip's first channel.
    weight: *const f32,
    bias: S::Real,
    bounds: [S::Real; 2],
    /// Channels.
    lanes: S::Part,
    /// Column of the image under the first pixel's first tap.
    left: isize,
    /// Pixels.
    count: usize,
    /// The strip's first pixel on line 0.
    out: *mut f32,
}

impl<S: Simd> Code<'_, S> {
    /// A window of `WIDTH` columns, `STRIDE` between pixels.
    ///
    /// # Safety
    /// As [`Self::strip`].
    #[inline(always)]
    unsafe fn window<const WIDTH: usize, const STRIDE: usize>(&self, masked: bool, lines: Range<usize>) {
        // A strip of fewer pixels is rare, and as right with masks.
        match self.count {
            1 => self.simd.perform(Going::<S, 1, WIDTH, STRIDE, true> { code: *self, lines }),
            2 => self.simd.perform(Going::<S, 2, WIDTH, STRIDE, true> { code: *self, lines }),
            3 => self.simd.perform(Going::<S, 3, WIDTH, STRIDE, true> { code: *self, lines }),
            4 => self.simd.perform(Going::<S, 4, WIDTH, STRIDE, true> { code: *self, lines }),
            5 => self.simd.perform(Going::<S, 5, WIDTH, STRIDE, true> { code: *self, lines }),
            6 => self.simd.perform(Going::<S, 6, WIDTH, STRIDE, true> { code: *self, lines }),
            7 => self.simd.perform(Going::<S, 7, WIDTH, STRIDE, true> { code: *self, lines }),
            _ if masked => self.simd.perform(Going::<S, 8, WIDTH, STRIDE, true> { code: *self, lines }),
            _ => self.simd.perform(Going::<S, 8, WIDTH, STRIDE, false> { code: *self, lines }),
        }
    }

    /// # Safety
    /// - Image, weights and output have the lengths their extents say, and `lines` are lines of the output.
    /// - Without `MASKED` the strip has `P` pixels, a whole vector of channels and no column outside the image.
    #[inline(always)]
    unsafe fn strip<const P: usize, const WIDTH: usize, const STRIDE: usize, const MASKED: bool>(
        &self,
        lines: Range<usize>,
    ) {
        let ConvShape { input: [_, _, width, channels], dilation, .. } = *self.shape;
        let columns = if MASKED { self.columns() } else { [(NOTHING.as_ptr(), 0); COLUMNS] };
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
                    *w = unsafe { self.load::<MASKED>(weight.wrapping_add(kx * channels)) };
                }
                let first = first.wrapping_add(line);
                for (p, sum) in sums.iter_mut().enumerate() {
                    for (kx, w) in weights.iter().enumerate() {
                        let column = p * STRIDE + kx;
                        let from = if MASKED {
                            let (column, inside) = columns[column];
                            column.wrapping_add(line & inside)
                        } else {
                            first.wrapping_add(column * channels)
                        };
                        // SAFETY: the caller's contract; `line` lies inside the image.
                        let x = unsafe { self.load::<MASKED>(from) };
                        *sum = self.simd.mul_add(x, *w, *sum);
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
    #[inline(always)]
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
                    let w = unsafe { self.load::<true>(weight) };
                    for (p, sum) in sums.iter_mut().enumerate() {
                        let (column, inside) = self.column(p * stride[1] + kx * dilation[1]);
                        let from = column.wrapping_add((line * channels) & inside);
                        // SAFETY: as in a strip.
                        let x = unsafe { self.load::<true>(from) };
                        *sum = self.simd.mul_add(x, w, *sum);
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

    /// [`Self::column`] of every column.
    #[inline(always)]
    fn columns(&self) -> [(*const f32, usize); COLUMNS] {
        let mut columns = [(NOTHING.as_ptr(), 0); COLUMNS];
        columns.iter_mut().enumerate().for_each(|(index, column)| *column = self.column(index));
        columns
    }

    /// Where column `column` of the strip lies in line 0, and the bits of a line's distance from there: none outside the
    /// image, where every line holds [`NOTHING`].
    #[inline(always)]
    fn column(&self, column: usize) -> (*const f32, usize) {
        let [_, _, width, channels] = self.shape.input;
        match usize::try_from(self.left + column as isize) {
            Ok(column) if column < width => (self.input.wrapping_add(column * channels), usize::MAX),
            _ => (NOTHING.as_ptr(), 0),
        }
    }

    /// # Safety
    /// A vector lies at `from`, or with `MASKED` as many values as the strip has channels.
    #[inline(always)]
    unsafe fn load<const MASKED: bool>(&self, from: *const f32) -> S::Real {
        // SAFETY: the caller's contract.
        unsafe { if MASKED { self.simd.load_part(from, self.lanes) } else { self.simd.load(from) } }
    }

    /// Writes the strip's pixels on line `y`.
    ///
    /// # Safety
    /// As [`Self::strip`].
    #[inline(always)]
    unsafe fn store<const P: usize, const MASKED: bool>(&self, y: usize, sums: [S::Real; P]) {
        let [_, _, across, channels] = self.shape.output;
        let ([lo, hi], line) = (self.bounds, self.out.wrapping_add(y * across * channels));
        for (p, sum) in sums.into_iter().enumerate() {
            if !MASKED || p < self.count {
                let (to, value) = (line.wrapping_add(p * channels), self.simd.clamp(sum, lo, hi));
                // SAFETY: the caller's contract.
                unsafe {
                    if MASKED {
                        self.simd.store_part(to, value, self.lanes);
                    } else {
                        self.simd.store_some(to, value, S::LANES);
                    }
                }
            }
        }
    }
}

/// A strip on its way, in a function of its own: there are so many that they would be in each other's way.
///
/// Whoever makes one keeps the contract of [`Code::strip`].
struct Going<'a, S: Simd, const P: usize, const WIDTH: usize, const STRIDE: usize, const MASKED: bool> {
    code: Code<'a, S>,
    lines: Range<usize>,
}

impl<S: Simd, const P: usize, const WIDTH: usize, const STRIDE: usize, const MASKED: bool> Task<S>
    for Going<'_, S, P, WIDTH, STRIDE, MASKED>
{
    type Output = ();

    #[inline(always)]
    fn run(self, _: S) {
        let code = self.code;
        // SAFETY: the contract of whoever made it.
        unsafe { code.strip::<P, WIDTH, STRIDE, MASKED>(self.lines) }
    }
}
