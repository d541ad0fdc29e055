//! Copies of images, with their padding around them and codes moved on the way.

use super::STEP;

/// A sample with padding around it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Image {
    /// Lines of the source.
    pub(super) lines: usize,
    /// Bytes of a line of the source.
    pub(super) source: usize,
    /// Bytes of the copy for each of the source.
    pub(super) wide: usize,
    /// Lines above the source.
    pub(super) top: usize,
    /// Bytes left of the source.
    pub(super) left: usize,
    /// Lines of the copy.
    pub(super) height: usize,
    /// Bytes of a line of the copy.
    pub(super) line: usize,
}

/// The largest copy of an image: what 32-bit offsets address.
const MOST_BYTES: usize = u32::MAX as usize;

impl Image {
    /// Bytes of the copy, with room to read a last, partial step whole.
    pub(super) fn bytes(&self) -> Option<usize> {
        let line = self.line.checked_mul(self.wide)?;
        self.height.checked_mul(line)?.checked_add(STEP).filter(|bytes| *bytes <= MOST_BYTES)
    }

    #[inline(always)]
    pub(super) fn copy(&self, input: &[u8], fill: u8, moved: u8, copy: &mut [u8]) -> Option<()> {
        let (wide, line) = (self.wide, self.line * self.wide);
        let (left, width) = (self.left * wide, self.source.min(self.line - self.left));
        for (y, line) in copy.chunks_exact_mut(line.max(1)).take(self.height).enumerate() {
            match y.checked_sub(self.top).filter(|y| *y < self.lines) {
                Some(y) => {
                    pad(line.get_mut(..left)?, fill, wide);
                    let source = input.get(y * self.source..)?.get(..width)?;
                    let to = line.get_mut(left..left + width * wide)?;
                    if wide == 1 {
                        to.iter_mut().zip(source).for_each(|(to, byte)| *to = byte ^ moved);
                    } else {
                        widen(source, moved, to);
                    }
                    pad(line.get_mut(left + width * wide..)?, fill, wide);
                }
                None => pad(line, fill, wide),
            }
        }
        let end = self.height * line;
        copy.get_mut(end..end + STEP)?.fill(0);
        Some(())
    }
}

/// Fills with padding: bytes, or 16-bit values where `wide` is 2.
#[inline(always)]
pub(crate) fn pad(bytes: &mut [u8], fill: u8, wide: usize) {
    if wide == 1 {
        bytes.fill(fill);
    } else {
        bytes.as_chunks_mut::<2>().0.fill([fill, 0]);
    }
}

/// As many bytes as `to` has room for, combined with `moved`, as 16-bit values.
#[inline(always)]
pub(crate) fn widen(bytes: &[u8], moved: u8, to: &mut [u8]) {
    let to = to.as_chunks_mut::<2>().0;
    to.iter_mut().zip(bytes).for_each(|(to, byte)| *to = u16::from(byte ^ moved).to_le_bytes());
}
