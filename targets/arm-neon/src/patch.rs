//! Gathering the patches under output pixels.

use core::ops::Range;

use ingraft_kernel::window::{ConvShape, Pixel};

use crate::tile::rows_inside;

/// Elements past the end of a patch that gathering it may write.
pub(crate) const SLACK: usize = 64;

/// Where patches are gathered from.
pub(crate) struct Patches<'a, T> {
    pub(crate) shape: &'a ConvShape,
    pub(crate) input: &'a [T],
    /// What stands in the padding.
    pub(crate) fill: T,
    pub(crate) group: usize,
}

impl<T: Copy> Patches<'_, T> {
    /// Writes the patches under `count` pixels of one line from `pixel` on, in weight-row order, to every `stride` elements of
    /// `out`, and perhaps up to [`SLACK`] unspecified elements after the last.
    #[inline(always)]
    pub(crate) fn copy_pixels(&self, pixel: Pixel, count: usize, out: &mut [T], stride: usize) -> Option<()> {
        let (inside, rows, end) = (self.columns(), self.rows(pixel), pixel.x + count);
        let mut x = pixel.x;
        while x < end {
            let out = out.get_mut((x - pixel.x) * stride..)?;
            let count = if self.together() { end - x } else { 0 };
            let copied = self.copy_together(&rows, x, count, out, stride);
            if copied == 0 {
                self.copy(Pixel { x, ..pixel }, out)?;
            }
            for border in (x..inside.start.min(x + copied)).chain(inside.end.max(x)..x + copied) {
                self.pad(&rows, border, out.get_mut((border - x) * stride..)?)?;
            }
            x += copied.max(1);
        }
        Some(())
    }

    /// Writes the padding beside the image into a patch that was copied together with what stands before and after its lines.
    #[inline(always)]
    fn pad(&self, rows: &Rows, x: usize, patch: &mut [T]) -> Option<()> {
        let (channels, taps, inside) = (self.shape.input[3], self.shape.kernel[1], self.taps(x));
        for row in rows.first..rows.end {
            let line = patch.get_mut(row * taps * channels..)?.get_mut(..taps * channels)?;
            fill(line.get_mut(..inside.start * channels)?, self.fill);
            fill(line.get_mut(inside.end * channels..)?, self.fill);
        }
        Some(())
    }

    /// The taps of a kernel row that lie inside the image.
    #[inline(always)]
    fn taps(&self, x: usize) -> Range<usize> {
        let ([_, _, width, _], kw) = (self.shape.input, self.shape.kernel[1]);
        let (begin, before) = (x * self.shape.stride[1], self.shape.pad[1]);
        let left = before.saturating_sub(begin).min(kw);
        left..(before + width).saturating_sub(begin).clamp(left, kw)
    }

    /// Whether the taps of a kernel row lie together in the input, and are copied together.
    #[inline(always)]
    fn together(&self) -> bool {
        self.shape.groups == 1 && self.shape.dilation[1] == 1
    }

    /// The pixels of a line whose kernel rows lie together, inside the image.
    #[inline(always)]
    fn columns(&self) -> Range<usize> {
        let ConvShape { input: [_, _, width, _], kernel, stride, pad, .. } = *self.shape;
        if !self.together() {
            return 0..0;
        }
        let step = stride[1].max(1);
        let end = (width + pad[1]).checked_sub(kernel[1]).map_or(0, |last| last / step + 1);
        pad[1].div_ceil(step)..end
    }

    /// The kernel rows that lie inside the image on the line of `pixel`.
    #[inline(always)]
    fn rows(&self, pixel: Pixel) -> Rows {
        let ConvShape { input: [_, height, width, channels], dilation, .. } = *self.shape;
        let (inside, line) = rows_inside(self.shape, pixel.y);
        let from = (pixel.n * height + line) * width * channels;
        Rows { first: inside.start, end: inside.end, from, pitch: dilation[0] * width * channels }
    }

    /// Writes the patches under at most `count` pixels of a line from `x` on, and gives how many: none where kernel rows are long,
    /// or what is read would pass either end of the input. In the place of padding beside the image stands what lies there in
    /// the input.
    #[inline(always)]
    fn copy_together(&self, rows: &Rows, x: usize, count: usize, out: &mut [T], stride: usize) -> usize {
        match self.shape.kernel[1] * self.shape.input[3] {
            _ if count == 0 => 0,
            0..=16 => self.copy_rows::<16>(rows, x, count, out, stride),
            17..=32 => self.copy_rows::<32>(rows, x, count, out, stride),
            33..=48 => self.copy_rows::<48>(rows, x, count, out, stride),
            49..=64 => self.copy_rows::<64>(rows, x, count, out, stride),
            65..=96 => self.copy_rows::<96>(rows, x, count, out, stride),
            97..=128 => self.copy_rows::<128>(rows, x, count, out, stride),
            129..=192 => self.copy_rows::<192>(rows, x, count, out, stride),
            _ => 0,
        }
    }

    /// The same with `N` elements for every kernel row.
    #[inline(never)]
    fn copy_rows<const N: usize>(
        &self,
        rows: &Rows,
        x: usize,
        count: usize,
        out: &mut [T],
        stride: usize,
    ) -> usize {
        let ConvShape { input: [_, _, _, channels], kernel, stride: [_, step], pad, .. } = *self.shape;
        let (line, step) = (kernel[1] * channels, step * channels);
        let first = (rows.from + x * self.shape.stride[1] * channels).checked_sub(pad[1] * channels);
        let taken = rows.end - rows.first;
        let (Some(source), Some(last)) =
            (first.and_then(|first| self.input.get(first..)), taken.checked_sub(1))
        else {
            return 0;
        };
        // As many pixels as have whole vectors to read and room to write.
        let (from, to) = (last * rows.pitch + N, ((kernel[0] - 1) * line + N).max(kernel[0] * line));
        let fit = |len: usize, one: usize, step: usize| {
            len.checked_sub(one).map_or(0, |rest| rest / step.max(1) + 1)
        };
        let count = count.min(fit(source.len(), from, step)).min(fit(out.len(), to, stride));
        for i in 0..count {
            let (source, out) =
                (source.as_ptr().wrapping_add(i * step), out.as_mut_ptr().wrapping_add(i * stride));
            for row in 0..rows.first * line {
                // SAFETY: `count` pixels have room for `kernel[0]` rows.
                unsafe { out.add(row).write(self.fill) };
            }
            for row in 0..taken {
                // SAFETY: `count` pixels have `N` elements to read at each of these rows, and room for as many; slices that are
                // read and written do not overlap.
                unsafe {
                    let to = out.add((rows.first + row) * line);
                    to.cast::<[T; N]>()
                        .write_unaligned(source.add(row * rows.pitch).cast::<[T; N]>().read_unaligned());
                }
            }
            for row in rows.end * line..kernel[0] * line {
                // SAFETY: as above.
                unsafe { out.add(row).write(self.fill) };
            }
        }
        count
    }

    /// Writes one patch.
    #[inline(always)]
    fn copy(&self, pixel: Pixel, out: &mut [T]) -> Option<()> {
        let shape = self.shape;
        let ([_, height, width, _], [kh, kw]) = (shape.input, shape.kernel);
        let together = self.together();
        let top = (pixel.y * shape.stride[0]).wrapping_sub(shape.pad[0]);
        let line = kw * shape.in_group;
        for ky in 0..kh {
            let out = out.get_mut(ky * line..)?;
            let y = top.wrapping_add(ky * shape.dilation[0]);
            if y >= height {
                out.get_mut(..line)?.fill(self.fill);
                continue;
            }
            let first = (pixel.n * height + y) * width;
            if together { self.copy_line(first, pixel.x, out)? } else { self.copy_taps(first, pixel.x, out)? }
        }
        Some(())
    }

    /// The taps of a kernel row on the input row that begins with pixel `first`.
    #[inline(always)]
    fn copy_line(&self, first: usize, x: usize, out: &mut [T]) -> Option<()> {
        let (channels, Range { start, end }) = (self.shape.input[3], self.taps(x));
        fill(out.get_mut(..start * channels)?, self.fill);
        if start < end {
            let column = x * self.shape.stride[1] + start - self.shape.pad[1];
            let source = self.input.get((first + column) * channels..)?;
            copy(out.get_mut(start * channels..)?, source, (end - start) * channels)?;
        }
        fill(out.get_mut(end * channels..self.shape.kernel[1] * channels)?, self.fill);
        Some(())
    }

    /// The same, where the taps stand apart.
    #[inline(always)]
    fn copy_taps(&self, first: usize, x: usize, out: &mut [T]) -> Option<()> {
        let ([_, _, width, channels], len) = (self.shape.input, self.shape.in_group);
        let left = (x * self.shape.stride[1]).wrapping_sub(self.shape.pad[1]);
        for kx in 0..self.shape.kernel[1] {
            let out = out.get_mut(kx * len..)?;
            let x = left.wrapping_add(kx * self.shape.dilation[1]);
            if x < width {
                copy(out, self.input.get((first + x) * channels + self.group * len..)?, len)?;
            } else {
                out.get_mut(..len)?.fill(self.fill);
            }
        }
        Some(())
    }
}

/// The part of a window that lies inside the image from top to bottom.
struct Rows {
    /// First row of the window, and the one after the last.
    first: usize,
    end: usize,
    /// The first element of the first row's line in the input.
    from: usize,
    /// Elements from row to row.
    pitch: usize,
}

/// Fills a slice: whole vectors take less than a call.
#[inline(always)]
fn fill<T: Copy>(out: &mut [T], value: T) {
    let (whole, rest) = out.as_chunks_mut::<16>();
    whole.iter_mut().for_each(|out| *out = [value; 16]);
    rest.iter_mut().for_each(|out| *out = value);
}

/// Copies `len` elements and perhaps more: a few whole vectors take less than a call.
#[inline(always)]
fn copy<T: Copy>(out: &mut [T], source: &[T], len: usize) -> Option<()> {
    if len <= 16
        && let (Some(out), Some(source)) = (out.first_chunk_mut::<16>(), source.first_chunk())
    {
        *out = *source;
    } else if len <= SLACK
        && let (Some(out), Some(source)) = (out.first_chunk_mut::<SLACK>(), source.first_chunk())
    {
        *out = *source;
    } else {
        out.get_mut(..len)?.copy_from_slice(source.get(..len)?);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec;
    use std::vec::Vec;

    use ingraft_kernel::attrs::Window;
    use ingraft_tensor::Shape;

    use super::*;

    /// Lines of blocks at the border, inside and at the end of the input, rows of every number of vectors.
    #[test]
    fn blocks_of_pixels_hold_the_patches_of_each() {
        let padded =
            |kernel: [u32; 2], stride, dilation| Window { kernel, stride, dilation, pad: [1, 2, 2, 1] };
        for window in [
            padded([3, 3], [1, 1], [1, 1]),
            padded([3, 3], [2, 2], [1, 1]),
            padded([2, 5], [1, 3], [2, 1]),
            padded([3, 3], [1, 1], [1, 2]),
            padded([6, 1], [1, 1], [1, 1]),
        ] {
            for channels in [1, 3, 5, 16, 21, 40, 70] {
                for width in [3, 4, 11, 37] {
                    compare(&window, [2, 4, width, channels]);
                }
            }
        }
    }

    fn compare(window: &Window, input: [u32; 4]) {
        let (Some(height), Some(width)) =
            (window.output(0, input[1] as usize), window.output(1, input[2] as usize))
        else {
            return;
        };
        let output = [input[0], height as u32, width as u32, 1];
        let shape = |dims: &[u32; 4]| Shape::new(dims).unwrap();
        let shape = ConvShape::new(window, 1, shape(&input), shape(&output)).unwrap();
        let values: Vec<i16> = (0..shape.input.iter().product::<usize>()).map(|i| i as i16).collect();
        let patches = Patches { shape: &shape, input: &values, fill: -1, group: 0 };
        let (len, stride) = (shape.row(), shape.row().next_multiple_of(8));
        let (mut out, mut patch) = (vec![i16::MIN; stride * width + SLACK], vec![0; len]);
        for n in 0..shape.output[0] {
            for y in 0..height {
                for x in 0..width {
                    let count = (width - x).min(9);
                    patches.copy_pixels(Pixel { n, y, x }, count, &mut out, stride).unwrap();
                    for (i, have) in out.chunks(stride).take(count).enumerate() {
                        let want = shape.patch(&values, -1, Pixel { n, y, x: x + i }, 0, &mut patch).unwrap();
                        assert_eq!(&have[..len], want, "{shape:?} pixel {n}, {y}, {x} + {i}");
                    }
                }
            }
        }
    }
}
