//! Blocks of output pixels of a convolution and the rows they multiply.
//!
//! A convolution is a matrix product of patches (rows of activations) with
//! weight rows. The patches of 1×1 layers are read where they are; others are
//! gathered for one block of pixels at a time, never for the whole input.

use core::ops::Range;

use ingraft_kernel::window::{ConvShape, Pixel};
use ingraft_kernel::{Call, KernelError};
use ingraft_tensor::bytes::{Plain, cast_mut};

use crate::patch::{Patches, SLACK};

/// Pixels multiplied together: with sixteen channels their sums fill half of the registers.
pub(crate) const HEIGHT: usize = 4;
/// Pixels per block: for each panel of weights that is fetched, this many are computed.
pub(crate) const BLOCK: usize = 32;

/// Output pixels computed together, of one group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    /// The group.
    pub(crate) group: usize,
    /// First pixel, counted over the whole output.
    pub(crate) first: usize,
    /// Number of pixels.
    pub(crate) pixels: usize,
}

impl Block {
    /// All blocks of `group` with at most `size` pixels, in order.
    pub(crate) fn all(shape: &ConvShape, group: usize, size: usize) -> impl Iterator<Item = Self> + use<> {
        let [n, h, w, _] = shape.output;
        let pixels = n * h * w;
        (0..pixels).step_by(size.max(1)).map(move |first| Self {
            group,
            first,
            pixels: size.min(pixels - first),
        })
    }

    /// The tiles: first pixel within the block and number of pixels.
    pub(crate) fn tiles(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let pixels = self.pixels;
        (0..pixels).step_by(HEIGHT).map(move |first| (first, HEIGHT.min(pixels - first)))
    }
}

/// Whether the patch of every output pixel is the input pixel of the same index.
pub(crate) fn in_place(shape: &ConvShape) -> bool {
    shape.kernel == [1, 1]
        && shape.stride == [1, 1]
        && shape.pad == [0, 0]
        && shape.input[1..3] == shape.output[1..3]
}

/// The rows of a block. Each is readable past its end, up to a multiple of `ALIGN`
/// elements; what stands there is unspecified.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a, T, const ALIGN: usize> {
    values: &'a [T],
    stride: usize,
    /// Elements per row.
    pub(crate) len: usize,
}

impl<'a, T: Plain, const ALIGN: usize> Rows<'a, T, ALIGN> {
    /// No row.
    pub(crate) const EMPTY: Self = Self { values: &[], stride: 0, len: 0 };

    /// Elements that gathering a block takes.
    pub(crate) fn buffer(shape: &ConvShape) -> usize {
        shape.row().next_multiple_of(ALIGN) * BLOCK + SLACK
    }

    /// The rows of `block` where they are, or gathered into `buffer` with padding as `fill`;
    /// `None` when `input` or `buffer` is too short.
    #[inline(always)]
    pub(crate) fn new(
        shape: &ConvShape,
        input: &'a [T],
        fill: T,
        block: Block,
        buffer: &'a mut [T],
    ) -> Option<Self> {
        if in_place(shape)
            && let Some(rows) = Self::borrow(shape, input, block)
        {
            return Some(rows);
        }
        Self::gather(shape, input, fill, block, buffer)
    }

    /// Rows `first..first + count` of a matrix with rows of `len`, copied to `buffer` where the
    /// last would not be readable far enough; `None` when `matrix` or `buffer` is too short.
    #[inline(always)]
    pub(crate) fn of_matrix(
        matrix: &'a [T],
        len: usize,
        first: usize,
        count: usize,
        buffer: &'a mut [T],
    ) -> Option<Self> {
        let values = matrix.get(first * len..)?;
        let stride = len.next_multiple_of(ALIGN);
        if values.len() >= count.saturating_sub(1) * len + stride {
            return Some(Self { values, stride: len, len });
        }
        let buffer = buffer.get_mut(..count * stride)?;
        for (row, values) in buffer.chunks_exact_mut(stride.max(1)).zip(values.chunks_exact(len.max(1))) {
            row.get_mut(..len)?.copy_from_slice(values);
        }
        Some(Self { values: buffer, stride, len })
    }

    /// `None` when the last row is not readable far enough.
    #[inline(always)]
    fn borrow(shape: &ConvShape, input: &'a [T], block: Block) -> Option<Self> {
        let (len, stride) = (shape.row(), shape.input[3]);
        let start = block.first * stride + block.group * len;
        let count = block.pixels.checked_sub(1)? * stride + len.next_multiple_of(ALIGN);
        Some(Self { values: input.get(start..)?.get(..count)?, stride, len })
    }

    // In a function of its own: made part of a kernel, whose many values then change places with those of its loops, it takes
    // several times the instructions.
    #[inline(never)]
    fn gather(shape: &ConvShape, input: &[T], fill: T, block: Block, buffer: &'a mut [T]) -> Option<Self> {
        let len = shape.row();
        let stride = len.next_multiple_of(ALIGN);
        let patches = Patches { shape, input, fill, group: block.group };
        let mut pixel = shape.pixel(block.first)?;
        let mut done = 0;
        while done < block.pixels {
            let count = (block.pixels - done).min(shape.output[2] - pixel.x);
            patches.copy_pixels(pixel, count, buffer.get_mut(done * stride..)?, stride)?;
            done += count;
            pixel = next_line(shape, pixel);
        }
        Some(Self { values: buffer.get(..stride * block.pixels)?, stride, len })
    }

    /// Row `index` and what follows it.
    #[inline(always)]
    pub(crate) fn row(&self, index: usize) -> Option<&'a [T]> {
        self.values.get(index * self.stride..)
    }

    /// `P` rows from `first` on, past `count` of them the last of these again; `None` where `readable` elements of one do not
    /// lie there.
    #[inline(always)]
    pub(crate) fn tile<const P: usize>(
        &self,
        first: usize,
        count: usize,
        readable: usize,
    ) -> Option<[*const T; P]> {
        let values = self.row(first)?;
        let last = count.checked_sub(1)?;
        (values.len() >= last * self.stride + readable).then_some(())?;
        Some(core::array::from_fn(|i| values.as_ptr().wrapping_add(i.min(last) * self.stride)))
    }

    /// Element `index` of row `row`, or `None` past the end.
    #[inline(always)]
    pub(crate) fn at(&self, row: usize, index: usize) -> Option<T> {
        if index >= self.len {
            return None;
        }
        self.values.get(row * self.stride + index).copied()
    }
}

/// Takes `count` elements of `T` off the front of `memory`; `None` when they do not fit or are misaligned.
pub(crate) fn take<'m, T: Plain>(memory: &mut &'m mut [u8], count: usize) -> Option<&'m mut [T]> {
    let bytes = count.checked_mul(size_of::<T>())?;
    let (front, rest) = core::mem::take(memory).split_at_mut_checked(bytes)?;
    *memory = rest;
    cast_mut(front)
}

/// What a failure means once the operands were found to agree: a term that does
/// not fit, or else too little workspace.
pub(crate) fn after_operands(call: &Call<'_, '_>) -> KernelError {
    if call.terms.is_none() { KernelError::Memory(call.op) } else { KernelError::Terms(call.op) }
}

/// The first pixel of the line after that of `pixel`.
#[inline(always)]
fn next_line(shape: &ConvShape, Pixel { n, y, .. }: Pixel) -> Pixel {
    if y + 1 < shape.output[1] { Pixel { n, y: y + 1, x: 0 } } else { Pixel { n: n + 1, y: 0, x: 0 } }
}

/// The rows of the window that lie inside the image on output line `y`, and the line of the image under the first of them.
#[inline(always)]
pub(crate) fn rows_inside(shape: &ConvShape, y: usize) -> (Range<usize>, usize) {
    let ConvShape { input: [_, height, ..], kernel, stride, dilation, pad, .. } = *shape;
    let (begin, step) = (y * stride[0], dilation[0].max(1));
    let end = (pad[0] + height).saturating_sub(begin).div_ceil(step).min(kernel[0]);
    let first = pad[0].saturating_sub(begin).div_ceil(step).min(end);
    (first..end, (begin + first * step).saturating_sub(pad[0]))
}

/// The input position under tap `index`, counted along rows of the window; `None` in the padding.
#[inline(always)]
pub(crate) fn tap(shape: &ConvShape, pixel: Pixel, index: u16) -> Option<usize> {
    let (index, width) = (usize::from(index), shape.kernel[1]);
    let ky = index.checked_div(width)?;
    shape.tap(pixel, ky, index - ky * width)
}
