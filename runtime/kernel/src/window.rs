//! Sliding windows over channels-last tensors: extents and patch gathering.

use ingraft_tensor::Shape;

use crate::attrs::Window;

/// A convolution's extents, checked once so that later products fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Input `[N, H, W, C]`.
    pub input: [usize; 4],
    /// Output `[N, H, W, C]`.
    pub output: [usize; 4],
    /// Geometry.
    pub kernel: [usize; 2],
    /// Steps between windows.
    pub stride: [usize; 2],
    /// Distances between taps.
    pub dilation: [usize; 2],
    /// Padding above and left.
    pub pad: [usize; 2],
    /// Groups.
    pub groups: usize,
    /// Input channels per group.
    pub in_group: usize,
    /// Output channels per group.
    pub out_group: usize,
}

impl ConvShape {
    /// The extents of a convolution, or `None` when shapes and attributes disagree.
    pub fn new(window: &Window, groups: usize, input: Shape, output: Shape) -> Option<Self> {
        let (input, output) = (input.nhwc()?, output.nhwc()?);
        let shape = Self {
            input,
            output,
            kernel: window.kernel.map(|v| v as usize),
            stride: window.stride.map(|v| v as usize),
            dilation: window.dilation.map(|v| v as usize),
            pad: [window.pad[0] as usize, window.pad[1] as usize],
            groups,
            in_group: input[3].checked_div(groups)?,
            out_group: output[3].checked_div(groups)?,
        };
        let fits = input[0] == output[0]
            && window.output(0, input[1])? == output[1]
            && window.output(1, input[2])? == output[2]
            && shape.in_group.checked_mul(groups)? == input[3]
            && shape.out_group.checked_mul(groups)? == output[3];
        let row = shape.kernel[0].checked_mul(shape.kernel[1])?.checked_mul(shape.in_group)?;
        (fits && row.checked_mul(output[3])? <= i32::MAX as usize).then_some(shape)
    }

    /// Elements of one weight row: kernel height × width × input channels per group.
    pub fn row(&self) -> usize {
        self.kernel[0].wrapping_mul(self.kernel[1]).wrapping_mul(self.in_group)
    }

    /// Whether every patch is a contiguous run of the input: 1×1, one group, no padding.
    pub fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.groups == 1 && self.pad == [0, 0]
    }

    /// Calls `visit(pixel, taps)` for every output pixel in order.
    #[inline(always)]
    pub fn for_each_pixel<E>(&self, mut visit: impl FnMut(usize, Pixel) -> Result<(), E>) -> Result<(), E> {
        let mut index = 0usize;
        for n in 0..self.output[0] {
            for y in 0..self.output[1] {
                for x in 0..self.output[2] {
                    visit(index, Pixel { n, y, x })?;
                    index = index.wrapping_add(1);
                }
            }
        }
        Ok(())
    }

    /// Output pixel `index`, counted over samples, rows and columns.
    #[inline(always)]
    pub fn pixel(&self, index: usize) -> Option<Pixel> {
        let [_, height, width, _] = self.output;
        let row = index.checked_div(width)?;
        let n = row.checked_div(height)?;
        let (y, x) = (row.wrapping_sub(n.wrapping_mul(height)), index.wrapping_sub(row.wrapping_mul(width)));
        Some(Pixel { n, y, x })
    }

    /// The input row and column of tap `(ky, kx)` at `pixel`, or `None` in the padding.
    #[inline(always)]
    pub fn tap(&self, pixel: Pixel, ky: usize, kx: usize) -> Option<usize> {
        let at = |o: usize, axis: usize, k: usize| {
            let ((stride, dilation), pad) =
                self.stride.get(axis).zip(self.dilation.get(axis)).zip(self.pad.get(axis))?;
            let i = o.wrapping_mul(*stride).wrapping_add(k.wrapping_mul(*dilation)).wrapping_sub(*pad);
            (i < *self.input.get(axis + 1)?).then_some(i)
        };
        let (iy, ix) = (at(pixel.y, 0, ky)?, at(pixel.x, 1, kx)?);
        let row = pixel.n.wrapping_mul(self.input[1]).wrapping_add(iy);
        Some(row.wrapping_mul(self.input[2]).wrapping_add(ix))
    }

    /// The patch of `group` under `pixel` in weight-row order, padding as `fill`.
    ///
    /// Borrows the input where it is already contiguous, else gathers into `buffer`.
    #[inline(always)]
    pub fn patch<'a, T: Copy>(
        &self,
        input: &'a [T],
        fill: T,
        pixel: Pixel,
        group: usize,
        buffer: &'a mut [T],
    ) -> Option<&'a [T]> {
        let channels = self.input[3];
        if self.is_pointwise() {
            let start = self.tap(pixel, 0, 0)?.wrapping_mul(channels);
            return input.get(start..)?.get(..channels);
        }
        let buffer = buffer.get_mut(..self.row())?;
        let mut taps = buffer.chunks_exact_mut(self.in_group.max(1));
        for ky in 0..self.kernel[0] {
            for kx in 0..self.kernel[1] {
                let out = taps.next()?;
                match self.tap(pixel, ky, kx) {
                    Some(at) => {
                        let start = at.wrapping_mul(channels).wrapping_add(group.wrapping_mul(self.in_group));
                        let source = input.get(start..)?.get(..self.in_group)?;
                        out.iter_mut().zip(source).for_each(|(o, s)| *o = *s);
                    }
                    None => out.fill(fill),
                }
            }
        }
        Some(buffer)
    }
}

/// One output position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pixel {
    /// Sample.
    pub n: usize,
    /// Output row.
    pub y: usize,
    /// Output column.
    pub x: usize,
}

/// Row `index` of a matrix with rows of `len`, or `None` past the end.
#[inline(always)]
pub fn row<T>(matrix: &[T], index: usize, len: usize) -> Option<&[T]> {
    matrix.get(index.wrapping_mul(len)..)?.get(..len)
}

/// Mutable row `index` of a matrix with rows of `len`, or `None` past the end.
#[inline(always)]
pub fn row_mut<T>(matrix: &mut [T], index: usize, len: usize) -> Option<&mut [T]> {
    matrix.get_mut(index.wrapping_mul(len)..)?.get_mut(..len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patch_pads_and_dilates() {
        let window = Window { kernel: [1, 3], stride: [1, 1], dilation: [1, 2], pad: [0, 2, 0, 2] };
        let shape = Shape::new(&[1, 1, 4, 1]).unwrap();
        let conv = ConvShape::new(&window, 1, shape, shape).unwrap();
        let input = [1i8, 2, 3, 4];
        let mut buffer = [0i8; 3];
        let at = |x| Pixel { n: 0, y: 0, x };
        assert_eq!(conv.patch(&input, -7, at(0), 0, &mut buffer), Some(&[-7, 1, 3][..]));
        assert_eq!(conv.patch(&input, -7, at(3), 0, &mut buffer), Some(&[2, 4, -7][..]));
    }

    #[test]
    fn refuses_shapes_that_disagree() {
        let s = |d: &[u32]| Shape::new(d).unwrap();
        assert!(ConvShape::new(&Window::UNIT, 1, s(&[1, 2, 2, 3]), s(&[1, 2, 2, 5])).is_some());
        assert!(ConvShape::new(&Window::UNIT, 1, s(&[1, 2, 2, 3]), s(&[1, 2, 1, 5])).is_none());
        assert!(ConvShape::new(&Window::UNIT, 2, s(&[1, 2, 2, 3]), s(&[1, 2, 2, 4])).is_none());
        assert!(ConvShape::new(&Window::UNIT, 0, s(&[1, 2, 2, 3]), s(&[1, 2, 2, 4])).is_none());
        let zero = Window { stride: [0, 1], ..Window::UNIT };
        assert!(ConvShape::new(&zero, 1, s(&[1, 2, 2, 3]), s(&[1, 2, 2, 4])).is_none());
    }
}
