//! Tiles of a convolution: some pixels by some output channels.
//!
//! A convolution is a matrix product of patches (rows of activations) with
//! weight rows, both contiguous along the inner extent. Patches are copied
//! once per tile into [`Panels`], so that one pass over a weight row feeds
//! three pixels; weights are read in place.

use ingraft_kernel::window::ConvShape;
use ingraft_kernel::{Call, KernelError};
use ingraft_tensor::bytes::Plain;

/// Pixels per tile: enough that weights are read from cache most of the time.
pub(crate) const PIXELS: usize = 12;
/// Output channels per tile.
pub(crate) const STRIP: usize = 64;
/// Pixels whose rows are interleaved: with four weight rows, twelve sums stay in registers.
pub(crate) const WIDTH: usize = 3;

/// One value per pixel and channel of a tile.
pub(crate) type Tile<T> = [[T; STRIP]; PIXELS];

/// Rows of activations in blocks of `N`, zero-padded, [`WIDTH`] rows interleaved.
#[derive(Debug)]
pub(crate) struct Panels<'m, T, const N: usize> {
    blocks: &'m mut [[T; N]],
    /// Elements per row.
    len: usize,
    /// Number of rows.
    rows: usize,
}

impl<'m, T: Plain + Default, const N: usize> Panels<'m, T, N> {
    /// Blocks that a tile of rows with `len` elements needs.
    pub(crate) const fn blocks(len: usize) -> usize {
        len.div_ceil(N) * PIXELS
    }

    /// Panels of `rows` rows with `len` elements in `memory`; `None` when they do not fit.
    pub(crate) fn new(memory: &'m mut [[T; N]], len: usize, rows: usize) -> Option<Self> {
        (len.div_ceil(N) * rows <= memory.len()).then_some(Self { blocks: memory, len, rows })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The same memory for `rows` rows; `None` when they do not fit.
    #[inline(always)]
    pub(crate) fn set_rows(&mut self, rows: usize) -> Option<()> {
        (self.len.div_ceil(N) * rows <= self.blocks.len()).then_some(())?;
        self.rows = rows;
        Some(())
    }

    /// Writes `values` into row `row` from element `first` on, which begins a block.
    #[inline(always)]
    pub(crate) fn fill<S: Copy>(
        &mut self,
        row: usize,
        first: usize,
        values: &[S],
        convert: impl Fn(S) -> T,
    ) -> Option<()> {
        let (start, width) = self.locate(row, first / N);
        let blocks = self.blocks.get_mut(start..)?.iter_mut().step_by(width);
        let (whole, rest) = values.as_chunks::<N>();
        let mut blocks = blocks.into_iter();
        for values in whole {
            blocks.next()?.iter_mut().zip(values).for_each(|(b, v)| *b = convert(*v));
        }
        if !rest.is_empty() {
            let block = blocks.next()?;
            *block = [T::default(); N];
            block.iter_mut().zip(rest).for_each(|(b, v)| *b = convert(*v));
        }
        Some(())
    }

    /// Groups of interleaved rows: first row and number of rows.
    #[inline(always)]
    pub(crate) fn groups(&self) -> impl Iterator<Item = (usize, usize)> + use<T, N> {
        let rows = self.rows;
        (0..rows).step_by(WIDTH).map(move |first| (first, WIDTH.min(rows - first)))
    }

    /// The blocks of the `P` interleaved rows from `first` on.
    #[inline(always)]
    pub(crate) fn group<const P: usize>(&self, first: usize) -> &[[[T; N]; P]] {
        let depth = self.len.div_ceil(N);
        self.blocks.get(first * depth..).and_then(|b| b.get(..P * depth)).unwrap_or(&[]).as_chunks().0
    }

    /// Element `index` of row `row`, or `None` past the end.
    #[inline(always)]
    pub(crate) fn at(&self, row: usize, index: usize) -> Option<T> {
        if index >= self.len {
            return None;
        }
        let (start, _) = self.locate(row, index / N);
        self.blocks.get(start)?.get(index % N).copied()
    }

    /// Position of block `block` of `row`, and the distance to the next.
    #[inline(always)]
    fn locate(&self, row: usize, block: usize) -> (usize, usize) {
        let lane = row % WIDTH;
        let first = row - lane;
        let width = WIDTH.min(self.rows.saturating_sub(first));
        (first * self.len.div_ceil(N) + block * width + lane, width.max(1))
    }
}

/// Output pixels computed together, of one group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// The group.
    pub(crate) group: usize,
    /// First pixel, counted over the whole output.
    pub(crate) first: usize,
    /// Number of pixels, at most [`PIXELS`].
    pub(crate) pixels: usize,
}

/// Output channels computed together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strip {
    /// First channel.
    pub(crate) channel: usize,
    /// Number of channels, at most [`STRIP`].
    pub(crate) count: usize,
}

impl Run {
    /// All runs of `group`, in order.
    pub(crate) fn all(shape: &ConvShape, group: usize) -> impl Iterator<Item = Self> + use<> {
        let pixels = shape.output[0] * shape.output[1] * shape.output[2];
        let run = move |first| Self { group, first, pixels: PIXELS.min(pixels - first) };
        (0..pixels).step_by(PIXELS).map(run)
    }

    /// The strips of the run's group, in order.
    pub(crate) fn strips(&self, shape: &ConvShape) -> impl Iterator<Item = Strip> + use<> {
        let (count, start) = (shape.out_group, self.group * shape.out_group);
        (0..count)
            .step_by(STRIP)
            .map(move |first| Strip { channel: start + first, count: STRIP.min(count - first) })
    }

    /// Calls `visit(row, patch)` with the patch under every pixel.
    #[inline(always)]
    pub(crate) fn for_each_patch<T: Copy>(
        &self,
        shape: &ConvShape,
        input: &[T],
        fill: T,
        buffer: &mut [T],
        mut visit: impl FnMut(usize, &[T]) -> Option<()>,
    ) -> Option<()> {
        for row in 0..self.pixels {
            let pixel = shape.pixel(self.first + row)?;
            visit(row, shape.patch(input, fill, pixel, self.group, buffer)?)?;
        }
        Some(())
    }

    /// The rows of `tile` with the position of their first element in the output.
    #[inline(always)]
    pub(crate) fn rows<'t, T>(
        &self,
        strip: Strip,
        shape: &ConvShape,
        tile: &'t Tile<T>,
    ) -> impl Iterator<Item = (usize, &'t [T])> + use<'t, T> {
        let (first, channels) = (self.first, shape.output[3]);
        let rows = tile.iter().take(self.pixels).enumerate();
        rows.map(move |(i, row)| {
            ((first + i) * channels + strip.channel, row.get(..strip.count).unwrap_or(row))
        })
    }
}

impl Strip {
    /// The part of `values` that belongs to the channels.
    #[inline(always)]
    pub(crate) fn of<'v, T>(&self, values: &'v [T]) -> Option<&'v [T]> {
        values.get(self.channel..)?.get(..self.count)
    }
}

/// What a failure means once the operands were found to agree: a term that does
/// not fit, or else too little workspace.
pub(crate) fn after_operands(call: &Call<'_, '_>) -> KernelError {
    if call.terms.is_none() { KernelError::Memory(call.op) } else { KernelError::Terms(call.op) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_keep_rows_apart_and_end_in_zeros() {
        for (rows, len) in [(1, 5), (2, 4), (4, 9), (PIXELS, 7)] {
            let mut memory = [[-1i16; 4]; PIXELS * 3];
            let mut panels = Panels::new(&mut memory, len, rows).unwrap();
            for row in 0..rows {
                let values: [i16; 9] = core::array::from_fn(|i| (row * 10 + i) as i16);
                panels.fill(row, 0, &values[..len], |v| v).unwrap();
            }
            for (first, width) in panels.groups() {
                for row in first..first + width {
                    assert_eq!(panels.at(row, len - 1), Some((row * 10 + len - 1) as i16));
                    assert_eq!(panels.at(row, len), None);
                }
            }
            let [first, ..] = panels.group::<1>(0) else { panic!("no blocks") };
            assert_eq!(first[0], [0, 1, 2, 3]);
            let depth = len.div_ceil(4);
            let last = memory[rows * depth - 1];
            let tail = len - (depth - 1) * 4;
            assert!(last[tail..].iter().all(|v| *v == 0), "{last:?}");
        }
    }

    #[test]
    fn panels_refuse_more_than_they_hold() {
        assert!(Panels::new(&mut [[0i16; 4]; 5], 8, 3).is_none());
    }
}
