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

/// Codes of a line of the window.
struct Columns {
    /// In the padding, before those of the input.
    before: usize,
    /// Where those of the input begin in its row.
    from: usize,
    /// Codes of the input.
    count: usize,
}

impl<'a> Patches<'a> {
    /// The patch of output pixel `index`, in `buffer` unless it is a run of the input.
    #[cfg_attr(helium, inline)]
    #[cfg_attr(not(helium), inline(never))]
    pub(crate) fn get<'b>(&self, index: usize, buffer: &'b mut [i8]) -> Option<&'b [i8]>
    where
        'a: 'b,
    {
        let shape = self.shape;
        if !in_place(shape) {
            return self.gather(index, buffer);
        }
        let ([_, height, width, _], [_, rows, columns, channels]) = (shape.output, shape.input);
        let at =
            if height == rows && width == columns { index } else { shape.tap(shape.pixel(index)?, 0, 0)? };
        self.input.get(at * channels + self.group * shape.in_group..)?.get(..shape.in_group)
    }

    /// The patch of output pixel `index`, gathered into `buffer`.
    #[cfg_attr(helium, inline(never))]
    fn gather<'b>(&self, index: usize, buffer: &'b mut [i8]) -> Option<&'b [i8]> {
        let shape = self.shape;
        let (pixel, buffer) = (shape.pixel(index)?, buffer.get_mut(..shape.row())?);
        let run = (shape.dilation[1] == 1 && shape.groups == 1).then(|| self.columns(pixel.x));
        let lines = buffer.chunks_exact_mut((shape.kernel[1] * shape.in_group).max(1));
        let mut y = (pixel.y * shape.stride[0]).wrapping_sub(shape.pad[0]);
        for (ky, line) in lines.enumerate() {
            let row = (y < shape.input[1]).then(|| pixel.n * shape.input[1] + y);
            match &run {
                Some(columns) => self.run(row, columns, line)?,
                None => self.taps(pixel, ky, line)?,
            }
            y = y.wrapping_add(shape.dilation[0]);
        }
        Some(buffer)
    }

    /// What lies under the lines of a window without gaps at column `x`.
    #[inline(always)]
    fn columns(&self, x: usize) -> Columns {
        let (shape, channels, start) = (self.shape, self.shape.input[3], x * self.shape.stride[1]);
        let left = shape.pad[1].saturating_sub(start).min(shape.kernel[1]);
        let from = (start + left).saturating_sub(shape.pad[1]).min(shape.input[2]);
        let count = (shape.input[2] - from).min(shape.kernel[1] - left);
        Columns { before: left * channels, from: from * channels, count: count * channels }
    }

    /// A line of the window without gaps: padding, a run of input row `row`, padding; padding alone where there is no row.
    #[inline(always)]
    fn run(&self, row: Option<usize>, columns: &Columns, line: &mut [i8]) -> Option<()> {
        let (start, before, count) = match row {
            Some(row) => {
                let start = row * self.shape.input[2] * self.shape.input[3] + columns.from;
                (start, columns.before, columns.count)
            }
            None => (0, line.len(), 0),
        };
        let source = self.input.get(start..)?.get(..count)?;
        if cfg!(helium) && count == line.len() {
            copy(source, line);
            return Some(());
        }
        let (before, rest) = line.split_at_mut_checked(before)?;
        let (inside, after) = rest.split_at_mut_checked(count)?;
        before.fill(self.fill);
        copy(source, inside);
        after.fill(self.fill);
        Some(())
    }

    /// A line of the window tap by tap.
    #[inline(never)]
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

/// Copies a slice to another of its length.
#[inline(always)]
fn copy(from: &[i8], to: &mut [i8]) {
    // In fours on Helium, where most runs are shorter than what a call of `memcpy` takes; elsewhere that is the smaller.
    #[cfg(helium)]
    {
        let (fours, mut to_fours) = (from.chunks_exact(4), to.chunks_exact_mut(4));
        let rest = fours.remainder();
        for (to, from) in to_fours.by_ref().zip(fours) {
            if let (Some(to), Some(from)) = (to.first_chunk_mut::<4>(), from.first_chunk::<4>()) {
                *to = *from;
            }
        }
        to_fours.into_remainder().iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    }
    #[cfg(not(helium))]
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
}
