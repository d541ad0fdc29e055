//! Patches of a convolution: where they lie in the input, or gathered.

use ingraft_kernel::window::{ConvShape, Pixel};

/// The patches of one group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patches<'a> {
    /// Extents.
    pub(crate) shape: &'a ConvShape,
    /// Activations.
    pub(crate) input: &'a [i8],
    /// The code of padding.
    pub(crate) fill: i8,
    /// The group.
    pub(crate) group: usize,
}

/// Whether a patch is a run of the input.
pub(crate) fn in_place(shape: &ConvShape) -> bool {
    shape.kernel == [1, 1] && shape.pad == [0, 0]
}

/// Bytes that gathering a patch takes.
pub(crate) fn buffer_bytes(shape: &ConvShape) -> usize {
    if in_place(shape) { 0 } else { shape.row() }
}

impl<'a> Patches<'a> {
    /// The patch of output pixel `index`, in `buffer` unless it is a run of the input.
    #[inline]
    pub(crate) fn get<'b>(&self, index: usize, buffer: &'b mut [i8]) -> Option<&'b [i8]>
    where
        'a: 'b,
    {
        let (shape, pixel) = (self.shape, self.shape.pixel(index)?);
        if in_place(shape) {
            let at = shape.tap(pixel, 0, 0)? * shape.input[3] + self.group * shape.in_group;
            return self.input.get(at..)?.get(..shape.in_group);
        }
        let buffer = buffer.get_mut(..shape.row())?;
        let lines = buffer.chunks_exact_mut((shape.kernel[1] * shape.in_group).max(1));
        for (ky, line) in lines.enumerate() {
            match (self.line(pixel.y, ky), shape.dilation[1] == 1 && shape.groups == 1) {
                (None, _) => line.fill(self.fill),
                (Some(y), true) => self.run(pixel.n * shape.input[1] + y, pixel.x, line)?,
                (Some(_), false) => self.taps(pixel, ky, line)?,
            }
        }
        Some(buffer)
    }

    /// The input row under row `ky` of the window; `None` in the padding.
    #[inline(always)]
    fn line(&self, y: usize, ky: usize) -> Option<usize> {
        let shape = self.shape;
        let y = (y * shape.stride[0] + ky * shape.dilation[0]).wrapping_sub(shape.pad[0]);
        (y < shape.input[1]).then_some(y)
    }

    /// A line of the window without gaps: padding, a run of input row `row`, padding.
    #[inline(always)]
    fn run(&self, row: usize, x: usize, line: &mut [i8]) -> Option<()> {
        let (shape, channels) = (self.shape, self.shape.input[3]);
        let (start, end) = (x * shape.stride[1], row * shape.input[2]);
        let left = shape.pad[1].saturating_sub(start).min(shape.kernel[1]);
        let from = (start + left).saturating_sub(shape.pad[1]).min(shape.input[2]);
        let count = (shape.input[2] - from).min(shape.kernel[1] - left);
        let source = self.input.get((end + from) * channels..)?.get(..count * channels)?;
        let (before, rest) = line.split_at_mut_checked(left * channels)?;
        let (inside, after) = rest.split_at_mut_checked(count * channels)?;
        before.fill(self.fill);
        inside.iter_mut().zip(source).for_each(|(to, from)| *to = *from);
        after.fill(self.fill);
        Some(())
    }

    /// A line of the window tap by tap.
    fn taps(&self, pixel: Pixel, ky: usize, line: &mut [i8]) -> Option<()> {
        let shape = self.shape;
        for (kx, out) in line.chunks_exact_mut(shape.in_group.max(1)).enumerate() {
            match shape.tap(pixel, ky, kx) {
                None => out.fill(self.fill),
                Some(at) => {
                    let from = self.input.get(at * shape.input[3] + self.group * shape.in_group..)?;
                    let source = from.get(..shape.in_group)?;
                    out.iter_mut().zip(source).for_each(|(to, from)| *to = *from);
                }
            }
        }
        Some(())
    }
}
