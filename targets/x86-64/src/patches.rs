//! Where the patches of a convolution lie in memory.
//!
//! A patch is a few segments: runs of bytes that are contiguous in the input
//! and in a weight row. Where the window stays inside the image and segments are
//! whole steps, patches are read from the input in place; otherwise the image is
//! copied with its padding around it, so that every patch of every layer is
//! addressed by the same strides: whole, or band by band where it would leave the
//! second-level cache. There is no matrix of patches.
//!
//! Where products are of codes moved to 0…255, or of 16-bit values, they become such in a copy: of the image, or of one
//! block of patches after another where a patch is a single segment.

mod addresses;
mod image;
#[cfg(test)]
mod tests;

use ingraft_kernel::window::ConvShape;

pub(crate) use self::addresses::{Addresses, Each, Even};
use self::image::{Image, move_lines, move_to};
pub(crate) use self::image::{pad, widen};

use crate::gemm::{BLOCK, TILE};

/// Bytes of a patch in one step of a product: four int8 codes, two as 16-bit values, or one f32.
pub(crate) const STEP: usize = 4;

/// Steps up to which a segment is short.
const FEW: usize = 4;

/// Bytes of codes of a block and their results that stay in the first level beside weights.
const NEAR: usize = 24 << 10;
/// Most times [`BLOCK`] pixels of a block.
const MOST: usize = 4;

/// Copies of blocks start at a cache line: vectors of 64 bytes then never cross one.
const LINE: usize = 64;

/// The segments of a weight row, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segments {
    /// Segments.
    pub(crate) count: usize,
    /// Bytes of each.
    pub(crate) len: usize,
    /// Bytes that one step multiplies: [`STEP`], or half of it where patches hold a byte as two.
    pub(crate) step: usize,
}

impl Segments {
    /// A row of `count` f32.
    pub(crate) const fn of_reals(count: usize) -> Self {
        Self { count: 1, len: count * size_of::<f32>(), step: STEP }
    }

    /// Bytes of a weight row.
    pub(crate) const fn row(self) -> usize {
        self.count * self.len
    }

    /// Steps of one segment; the last may be partial.
    pub(crate) const fn steps(self) -> usize {
        self.len.div_ceil(self.step)
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
                let at = step * self.step;
                (segment * self.len + at, self.step.min(self.len - at))
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
    /// Output pixels of a line; all of them where lines follow each other evenly.
    pub(crate) width: usize,
    /// Output pixels that one copy of the image serves, whole lines; all of them where none is made.
    pub(crate) band: usize,
    /// Pixels of a block where patches are copied so and nothing else is kept of each: what a block costs beside its tiles is
    /// shared by as many as stay in the first level.
    pub(crate) block: usize,
    /// Bytes of a patch for each of the input.
    wide: usize,
    /// Whether patches are never read from the input in place.
    copied: bool,
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
    image: Option<Image>,
}

impl Patches {
    /// The patches of a layer whose elements have `size` bytes, each of which takes `wide` bytes in a patch: read in place
    /// where that is possible, or always out of a copy.
    ///
    /// `None` when the image with its padding is larger than any that is worth copying.
    #[inline(always)]
    pub(crate) fn new(shape: &ConvShape, size: usize, wide: usize, copied: bool) -> Option<Self> {
        let [samples, height, width, _] = shape.output;
        let pixel_bytes = shape.input[3] * size;
        let [tall, across] = [reach(shape, 0)?, reach(shape, 1)?];
        let merged = shape.groups == 1 && shape.dilation[1] == 1;
        let (inner, len) = if merged { (1, shape.kernel[1]) } else { (shape.kernel[1], 1) };
        let segments =
            Segments { count: shape.kernel[0] * inner, len: len * shape.in_group * size, step: STEP / wide };
        let inside = shape.pad == [0, 0] && tall <= shape.input[1] && across <= shape.input[2];
        let source = shape.input[2] * pixel_bytes;
        let whole = if copied { segments.count == 1 } else { segments.len.is_multiple_of(STEP) };
        let image = (!inside || !whole).then_some(Image {
            lines: shape.input[1],
            source,
            wide,
            top: shape.pad[0],
            left: shape.pad[1].min(across) * pixel_bytes,
            height: tall,
            line: across.checked_mul(pixel_bytes)?,
            window: window(shape, 0)?,
            stride: shape.stride[0],
        });
        if image.is_some_and(|image| image.bytes().is_none()) {
            return None;
        }
        let line = image.map_or(source, |image| image.line * wide);
        let scale = if image.is_some() { wide } else { 1 };
        let patches = Self {
            samples,
            pixels: height * width,
            width,
            band: image.map_or(height, |image| image.band().min(height)) * width,
            block: BLOCK
                * (NEAR / (BLOCK * (segments.steps() * STEP + shape.output[3])).max(1)).clamp(1, MOST),
            wide,
            copied,
            sample: shape.input[1] * source,
            pixel: shape.stride[1] * pixel_bytes * scale,
            line: shape.stride[0] * line,
            group: shape.in_group * size * scale,
            segments,
            inner,
            inner_step: shape.dilation[1] * pixel_bytes * scale,
            outer_step: shape.dilation[0] * line,
            image,
        };
        Some(patches.merged())
    }

    /// Patches of `row` f32 that follow each other.
    #[inline(always)]
    pub(crate) fn of_reals(pixels: usize, row: usize) -> Self {
        let segments = Segments::of_reals(row);
        Self {
            samples: 1,
            pixels,
            width: pixels,
            band: pixels,
            block: BLOCK,
            wide: 1,
            copied: false,
            sample: pixels * segments.len,
            pixel: segments.len,
            line: 0,
            group: 0,
            segments,
            inner: 1,
            inner_step: 0,
            outer_step: 0,
            image: None,
        }
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
            self.band = self.pixels;
            self.samples = 1;
        }
        self
    }

    /// Bytes of the copy of a band, or of a block of patches; 0 for patches read in place.
    pub(crate) fn copy_bytes(&self) -> usize {
        match self.image {
            Some(image) => image.copy_bytes().unwrap_or(0),
            None if !self.copied => 0,
            None => self.block.min(self.pixels.next_multiple_of(TILE)) * self.segments.steps() * STEP + LINE,
        }
    }

    /// The part of `copy` that blocks are copied to.
    #[inline(always)]
    pub(crate) fn lines<'c>(&self, copy: &'c mut [u8]) -> &'c mut [u8] {
        let skip = if self.in_blocks() { copy.as_ptr().align_offset(LINE) } else { 0 };
        copy.get_mut(skip..).unwrap_or(&mut [])
    }

    /// Whether the image is copied.
    #[inline(always)]
    pub(crate) fn copies_image(&self) -> bool {
        self.image.is_some()
    }

    /// Whether patches are copied block by block.
    #[inline(always)]
    pub(crate) fn in_blocks(&self) -> bool {
        self.image.is_none() && self.copied
    }

    /// The same patches, out of a copy where those that are read in place are single segments that follow each other.
    #[inline(always)]
    pub(crate) fn moved(self) -> Self {
        let follow = self.pixel == self.segments.len && self.width == self.pixels;
        let whole = self.image.is_none() && self.segments.count == 1 && follow;
        Self { copied: self.copied || whole, ..self }
    }

    /// Copies `count` patches from `first` on, which lie in `bytes`, combined with `moved`. The patches as they lie in the
    /// copy.
    #[inline(always)]
    pub(crate) fn block(
        &self,
        bytes: &[u8],
        [first, count]: [usize; 2],
        moved: u8,
        copy: &mut [u8],
    ) -> Option<Self> {
        let (len, wide, pitch) = (self.segments.len, self.wide, self.segments.steps() * STEP);
        let rows = copy.get_mut(..count * pitch)?.chunks_exact_mut(pitch.max(1));
        if self.pixel == len && pitch == wide * len && self.width == self.pixels {
            let (bytes, ahead) = bytes.get(first * len..)?.split_at_checked(count * len)?;
            if wide == 1 {
                move_lines(bytes, moved, ahead, copy);
            } else {
                move_to(bytes, moved, wide, copy);
            }
        } else {
            let (line, column) = (first / self.width, first % self.width);
            let (mut line, mut column) = (line, column);
            for row in rows {
                let bytes = bytes.get(line * self.line + column * self.pixel..)?.get(..len)?;
                move_to(bytes, moved, wide, row);
                row.get_mut(wide * len..)?.fill(0);
                column += 1;
                if column == self.width {
                    (column, line) = (0, line + 1);
                }
            }
        }
        let (width, pixels, band) = (count, count, count);
        Some(Self { samples: 1, pixels, width, band, pixel: pitch, line: 0, group: 0, ..*self })
    }

    /// The bytes that the patches of band `band` of `sample` are addressed in, from its first pixel on: those of the
    /// input, or the copy made in `copy`, padding as `fill` and every byte combined with `moved`; and what is left of `copy`.
    #[inline(always)]
    pub(crate) fn of_band<'a>(
        &self,
        input: &'a [u8],
        [sample, band]: [usize; 2],
        [fill, moved]: [u8; 2],
        copy: &'a mut [u8],
    ) -> Option<(&'a [u8], &'a mut [u8])> {
        let input = input.get(sample * self.sample..)?;
        let Some(image) = self.image else { return Some((input, copy)) };
        let input = input.get(..self.sample)?;
        let (copy, rest) = copy.split_at_mut_checked(self.copy_bytes())?;
        image.copy(band, input, [fill ^ moved, moved], copy)?;
        Some((copy, rest))
    }

    /// Between patches of a line.
    #[inline(always)]
    pub(crate) fn pitch(&self) -> usize {
        self.pixel
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
        // A division would take as long as a row of products.
        let mut line = if self.width == self.pixels { 0 } else { pixel / self.width };
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
            *place = self.place(index / steps, index % steps);
        }
        places
    }

    /// Where the segment behind the one at `walk` begins in a patch: without a division, which takes as long as a row of products.
    #[inline(always)]
    pub(crate) fn next_segment(&self, walk: &mut Walk) {
        walk.column += 1;
        walk.at += self.inner_step;
        if walk.column == self.inner {
            (walk.column, walk.line) = (0, walk.line + 1);
            walk.at = walk.line * self.outer_step;
        }
    }

    /// Where `step` of `segment` lies in a patch.
    #[inline(always)]
    pub(crate) fn place(&self, segment: usize, step: usize) -> usize {
        let (line, column) = (segment / self.inner, segment % self.inner);
        line * self.outer_step + column * self.inner_step + step * STEP
    }

    /// Bytes from the start of a patch of group 0 past its last step in the last group.
    #[inline(always)]
    pub(crate) fn reach(&self, groups: usize) -> usize {
        let rows = self.segments.count.checked_div(self.inner).unwrap_or(0);
        groups.saturating_sub(1) * self.group
            + rows.saturating_sub(1) * self.outer_step
            + self.inner.saturating_sub(1) * self.inner_step
            + if self.in_blocks() { self.segments.len } else { self.segments.steps() * STEP }
    }
}

/// A segment of a patch, from the first on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Walk {
    column: usize,
    line: usize,
    /// Where it begins in the patch.
    pub(crate) at: usize,
}

/// Rows or columns (axis 0 or 1) of the padded image that windows cover.
fn reach(shape: &ConvShape, axis: usize) -> Option<usize> {
    let last = shape.output.get(axis + 1)?.saturating_sub(1).checked_mul(*shape.stride.get(axis)?)?;
    last.checked_add(window(shape, axis)?)
}

/// Rows or columns (axis 0 or 1) that one window covers.
fn window(shape: &ConvShape, axis: usize) -> Option<usize> {
    shape.kernel.get(axis)?.checked_sub(1)?.checked_mul(*shape.dilation.get(axis)?)?.checked_add(1)
}
