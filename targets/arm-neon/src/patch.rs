//! Gathering the patches under output pixels.

use ingraft_kernel::window::{ConvShape, Pixel};

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
    /// Writes the patch under `pixel` in weight-row order to the front of `out`, and
    /// perhaps up to [`SLACK`] unspecified elements after it.
    #[inline(always)]
    pub(crate) fn copy(&self, pixel: Pixel, out: &mut [T]) -> Option<()> {
        let shape = self.shape;
        let ([_, height, width, _], [kh, kw]) = (shape.input, shape.kernel);
        // Where the taps of a kernel row lie together in the input, they are copied together.
        let together = shape.groups == 1 && shape.dilation[1] == 1;
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
        let ([_, _, width, channels], kw) = (self.shape.input, self.shape.kernel[1]);
        let (begin, before) = (x * self.shape.stride[1], self.shape.pad[1]);
        let left = before.saturating_sub(begin).min(kw);
        let end = (before + width).saturating_sub(begin).clamp(left, kw);
        if left > 0 {
            out.get_mut(..left * channels)?.fill(self.fill);
        }
        if end > left {
            let source = self.input.get((first + begin + left - before) * channels..)?;
            copy(out.get_mut(left * channels..)?, source, (end - left) * channels)?;
        }
        if end < kw {
            out.get_mut(end * channels..kw * channels)?.fill(self.fill);
        }
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
