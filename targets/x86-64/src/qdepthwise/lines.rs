//! A ring of input lines with their padding, codes moved to 0…255.

use ingraft_kernel::window::ConvShape;

use super::packing::{Blocks, Order};
use crate::patches::{pad, widen};

/// Extents of the ring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines {
    /// Lines held: those under one window.
    held: usize,
    /// Bytes of a line with its padding.
    line: usize,
    /// Bytes of padding on the left.
    left: usize,
    /// Bytes past the last line that vectors may read.
    slack: usize,
    /// Bytes of a code.
    wide: usize,
}

/// No ring is larger: dilations from a file must not claim memory without bound.
const MOST_BYTES: usize = 1 << 28;

impl Lines {
    /// The ring of a layer, or `None` when it would be unreasonably large.
    pub(super) fn new(shape: &ConvShape, order: Order) -> Option<Self> {
        let pixel = shape.input[3].checked_mul(order.wide)?;
        let held = shape.kernel[0].checked_sub(1)?.checked_mul(shape.dilation[0])?.checked_add(1)?;
        let wide = shape.kernel[1].checked_sub(1)?.checked_mul(shape.dilation[1])?;
        let last = shape.output[2].saturating_sub(1).checked_mul(shape.stride[1])?;
        let line = last.checked_add(wide)?.checked_add(1)?.checked_mul(pixel)?;
        let left = shape.pad[1].checked_mul(pixel)?.min(line);
        let blocks = Blocks::new(shape, order);
        let slack = blocks.pixels * pixel + blocks.count * order.block * order.wide;
        let lines = Self { held, line, left, slack, wide: order.wide };
        held.checked_mul(line)?.checked_add(slack).filter(|bytes| *bytes <= MOST_BYTES).map(|_| lines)
    }

    /// Bytes of the ring.
    pub(super) fn bytes(&self) -> usize {
        self.held * self.line + self.slack
    }
}

/// The ring, filled line by line.
pub(super) struct Ring<'m> {
    lines: Lines,
    memory: &'m mut [u8],
    /// The next line to fill, counted from the first line of padding.
    next: usize,
}

impl<'m> Ring<'m> {
    pub(super) fn new(lines: Lines, memory: &'m mut [u8]) -> Option<Self> {
        Some(Self { lines, memory: memory.get_mut(..lines.bytes())?, next: 0 })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.memory
    }

    /// Fills the lines under the windows of output line `y`; padding has code `zero_point`.
    #[inline(always)]
    pub(super) fn advance(
        &mut self,
        shape: &ConvShape,
        input: &[u8],
        y: usize,
        zero_point: u8,
    ) -> Option<()> {
        let first = y * shape.stride[0];
        let Lines { held, line, left, wide, .. } = self.lines;
        let source_bytes = shape.input[2] * shape.input[3];
        self.next = self.next.max(first);
        while self.next < first + held {
            let to = self.memory.get_mut(self.next % held * line..)?.get_mut(..line)?;
            let fill = zero_point ^ 0x80;
            match self.next.checked_sub(shape.pad[0]).filter(|y| *y < shape.input[1]) {
                Some(y) => {
                    let source = input.get(y * source_bytes..)?.get(..source_bytes)?;
                    let (before, to) = to.split_at_mut_checked(left)?;
                    let (to, after) = to.split_at_mut_checked((source_bytes * wide).min(to.len()))?;
                    pad(before, fill, wide);
                    if wide == 1 {
                        to.iter_mut().zip(source).for_each(|(to, code)| *to = *code ^ 0x80);
                    } else {
                        widen(source, 0x80, to);
                    }
                    pad(after, fill, wide);
                }
                None => pad(to, fill, wide),
            }
            self.next += 1;
        }
        Some(())
    }

    /// Where the taps of output line `y` lie; those past the window's last repeat its first.
    pub(super) fn taps(&self, shape: &ConvShape, y: usize, taps: &mut [usize]) {
        let step = shape.dilation[1] * shape.input[3] * self.lines.wide;
        let line =
            |ky: usize| (y * shape.stride[0] + ky * shape.dilation[0]) % self.lines.held * self.lines.line;
        taps.fill(line(0));
        for (ky, taps) in taps.chunks_mut(shape.kernel[1]).take(shape.kernel[0]).enumerate() {
            taps.iter_mut().enumerate().for_each(|(kx, tap)| *tap = line(ky) + kx * step);
        }
    }
}
