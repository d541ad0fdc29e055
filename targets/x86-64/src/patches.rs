//! Where the patches of a convolution lie in memory.
//!
//! A patch is a few segments: runs of bytes that are contiguous in the input
//! and in a weight row. Where the window stays inside the image and segments are
//! whole steps, patches are read from the input in place; otherwise the image is
//! copied once with its padding around it, so that every patch of every layer is
//! addressed by the same strides. There is no matrix of patches.

use ingraft_kernel::window::ConvShape;

/// Bytes of one step of a product: four int8 codes or one f32.
pub(crate) const STEP: usize = 4;

/// Steps up to which a segment is short.
const FEW: usize = 4;

/// The segments of a weight row, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segments {
    /// Segments.
    pub(crate) count: usize,
    /// Bytes of each.
    pub(crate) len: usize,
}

impl Segments {
    /// Bytes of a weight row.
    pub(crate) const fn row(self) -> usize {
        self.count * self.len
    }

    /// Steps of one segment; the last may be partial.
    pub(crate) const fn steps(self) -> usize {
        self.len.div_ceil(STEP)
    }

    /// Steps of a patch.
    pub(crate) const fn total_steps(self) -> usize {
        self.count * self.steps()
    }

    /// First byte in a weight row and number of bytes of every step.
    #[inline(always)]
    pub(crate) fn steps_of_row(self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.count).flat_map(move |segment| {
            (0..self.steps()).map(move |step| {
                let at = step * STEP;
                (segment * self.len + at, STEP.min(self.len - at))
            })
        })
    }
}

/// Strides of a layer's patches, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patches {
    /// Samples that are addressed one by one.
    pub(crate) samples: usize,
    /// Output pixels of a sample.
    pub(crate) pixels: usize,
    /// Output pixels of a line.
    pub(crate) width: usize,
    /// Between the samples of the input.
    sample: usize,
    /// Between pixels of a line.
    pixel: usize,
    /// Between lines.
    line: usize,
    /// Between groups.
    pub(crate) group: usize,
    /// The segments.
    pub(crate) segments: Segments,
    /// Segments per row of the window.
    pub(crate) inner: usize,
    /// Between segments of a row of the window.
    pub(crate) inner_step: usize,
    /// Between rows of the window.
    pub(crate) outer_step: usize,
    /// The image with its padding, where it has to be copied.
    pub(crate) image: Option<Image>,
}

/// A sample with padding around it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Image {
    /// Lines of the source.
    lines: usize,
    /// Bytes of a line of the source.
    source: usize,
    /// Lines above the source.
    top: usize,
    /// Bytes left of the source.
    left: usize,
    /// Lines of the copy.
    height: usize,
    /// Bytes of a line of the copy.
    line: usize,
}

impl Patches {
    /// The patches of a layer whose elements have `size` bytes.
    ///
    /// `None` when the image with its padding is larger than any that is worth copying.
    #[inline(always)]
    pub(crate) fn new(shape: &ConvShape, size: usize) -> Option<Self> {
        let [samples, height, width, _] = shape.output;
        let channel_bytes = shape.input[3] * size;
        let [tall, wide] = [reach(shape, 0)?, reach(shape, 1)?];
        let merged = shape.groups == 1 && shape.dilation[1] == 1;
        let (inner, len) = if merged { (1, shape.kernel[1]) } else { (shape.kernel[1], 1) };
        let segments = Segments { count: shape.kernel[0] * inner, len: len * shape.in_group * size };
        let inside = shape.pad == [0, 0] && tall <= shape.input[1] && wide <= shape.input[2];
        let source = shape.input[2] * channel_bytes;
        let image = (!inside || !segments.len.is_multiple_of(STEP)).then_some(Image {
            lines: shape.input[1],
            source,
            top: shape.pad[0],
            left: shape.pad[1].min(wide) * channel_bytes,
            height: tall,
            line: wide.checked_mul(channel_bytes)?,
        });
        if image.is_some_and(|image| image.bytes().is_none()) {
            return None;
        }
        let line = image.map_or(source, |image| image.line);
        let patches = Self {
            samples,
            pixels: height * width,
            width,
            sample: shape.input[1] * source,
            pixel: shape.stride[1] * channel_bytes,
            line: shape.stride[0] * line,
            group: shape.in_group * size,
            segments,
            inner,
            inner_step: shape.dilation[1] * channel_bytes,
            outer_step: shape.dilation[0] * line,
            image,
        };
        Some(patches.merged())
    }

    /// The same patches with lines and samples that follow each other evenly made one line.
    #[inline(always)]
    fn merged(mut self) -> Self {
        if self.line == self.width * self.pixel || self.pixels == self.width {
            self.width = self.pixels;
        }
        let even = self.width == self.pixels && self.sample == self.pixels * self.pixel;
        if self.image.is_none() && even && self.samples > 0 {
            self.pixels *= self.samples;
            self.width = self.pixels;
            self.samples = 1;
        }
        self
    }

    /// Bytes of the copy of a sample; 0 for patches read in place.
    pub(crate) fn copy_bytes(&self) -> usize {
        self.image.and_then(|image| image.bytes()).unwrap_or(0)
    }

    /// The bytes patches of `sample` are addressed in: those of the input, or the copy made in
    /// `copy`, padding as `fill` and every byte combined with `moved`.
    #[inline(always)]
    pub(crate) fn of_sample<'a>(
        &self,
        input: &'a [u8],
        sample: usize,
        [fill, moved]: [u8; 2],
        copy: &'a mut [u8],
    ) -> Option<&'a [u8]> {
        let input = input.get(sample * self.sample..)?;
        let Some(image) = self.image else { return Some(input) };
        let input = input.get(..self.sample)?;
        let copy = copy.get_mut(..self.copy_bytes())?;
        image.copy(input, fill ^ moved, moved, copy)?;
        Some(copy)
    }

    /// Offset of the patch of `pixel`.
    #[inline(always)]
    pub(crate) fn offset(&self, pixel: usize) -> usize {
        let line = pixel / self.width;
        line * self.line + (pixel - line * self.width) * self.pixel
    }

    /// Offsets of `M` patches from `pixel` on; those past `count` repeat the last.
    #[inline(always)]
    pub(crate) fn offsets<const M: usize>(&self, pixel: usize, count: usize) -> [usize; M] {
        let mut line = pixel / self.width;
        let mut column = pixel - line * self.width;
        let mut at = line * self.line + column * self.pixel;
        let mut offsets = [at; M];
        for offset in offsets.iter_mut().take(count).skip(1) {
            column += 1;
            at += self.pixel;
            if column == self.width {
                (column, line) = (0, line + 1);
                at = line * self.line;
            }
            *offset = at;
        }
        offsets
    }

    /// Where the steps of a patch lie, where segments are so short that going from one to the next
    /// takes longer than their products, and `places` has room; else nothing.
    #[inline(always)]
    pub(crate) fn places<'p>(&self, places: &'p mut [usize]) -> &'p [usize] {
        let steps = self.segments.steps();
        let total = self.segments.total_steps();
        if self.segments.count < 2 || steps > FEW || total > places.len() {
            return &[];
        }
        let places = places.get_mut(..total).unwrap_or(&mut []);
        for (index, place) in places.iter_mut().enumerate() {
            let (segment, step) = (index / steps, index % steps);
            let (line, column) = (segment / self.inner, segment % self.inner);
            *place = line * self.outer_step + column * self.inner_step + step * STEP;
        }
        places
    }

    /// Bytes from the start of a patch of group 0 past its last step in the last group.
    #[inline(always)]
    pub(crate) fn reach(&self, groups: usize) -> usize {
        let rows = self.segments.count.checked_div(self.inner).unwrap_or(0);
        groups.saturating_sub(1) * self.group
            + rows.saturating_sub(1) * self.outer_step
            + self.inner.saturating_sub(1) * self.inner_step
            + self.segments.steps() * STEP
    }
}

/// Rows or columns (axis 0 or 1) of the padded image that windows cover.
fn reach(shape: &ConvShape, axis: usize) -> Option<usize> {
    let last = shape.output.get(axis + 1)?.saturating_sub(1).checked_mul(*shape.stride.get(axis)?)?;
    let window = shape.kernel.get(axis)?.checked_sub(1)?.checked_mul(*shape.dilation.get(axis)?)?;
    last.checked_add(window)?.checked_add(1)
}

/// The largest copy of an image: what 32-bit offsets address.
const MOST_BYTES: usize = u32::MAX as usize;

impl Image {
    /// Bytes of the copy, with room to read a last, partial step whole.
    fn bytes(&self) -> Option<usize> {
        self.height.checked_mul(self.line)?.checked_add(STEP).filter(|bytes| *bytes <= MOST_BYTES)
    }

    fn copy(&self, input: &[u8], fill: u8, moved: u8, copy: &mut [u8]) -> Option<()> {
        let left = self.left;
        let width = self.source.min(self.line - left);
        for (y, line) in copy.chunks_exact_mut(self.line.max(1)).take(self.height).enumerate() {
            match y.checked_sub(self.top).filter(|y| *y < self.lines) {
                Some(y) => {
                    line.get_mut(..left)?.fill(fill);
                    let source = input.get(y * self.source..)?.get(..width)?;
                    let to = line.get_mut(left..left + width)?;
                    to.iter_mut().zip(source).for_each(|(to, byte)| *to = byte ^ moved);
                    line.get_mut(left + width..)?.fill(fill);
                }
                None => line.fill(fill),
            }
        }
        let end = self.height * self.line;
        copy.get_mut(end..end + STEP)?.fill(0);
        Some(())
    }
}
