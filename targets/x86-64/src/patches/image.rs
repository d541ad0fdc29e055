//! Copies of images, with their padding around them and codes moved on the way.

use super::{LINE, STEP};
use crate::simd::fetch_at;

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
    /// Lines of the image with its padding, as far as windows reach.
    pub(super) height: usize,
    /// Bytes of a line of it.
    pub(super) line: usize,
    /// Lines of a window.
    pub(super) window: usize,
    /// Lines from a window to the one below.
    pub(super) stride: usize,
}

/// Bytes up to which an image is copied whole, and what the copy of a band is near to: a part of the second-level cache.
const BAND_BYTES: usize = 512 << 10;

/// The largest image: what 32-bit offsets address.
const MOST_BYTES: usize = u32::MAX as usize;

impl Image {
    /// Bytes of the whole image with its padding, and room to read a last, partial step whole.
    pub(super) fn bytes(&self) -> Option<usize> {
        self.lines_bytes(self.height)
    }

    fn lines_bytes(&self, lines: usize) -> Option<usize> {
        let line = self.line.checked_mul(self.wide)?;
        lines.checked_mul(line)?.checked_add(STEP).filter(|bytes| *bytes <= MOST_BYTES)
    }

    /// Output lines that one copy serves.
    pub(super) fn band(&self) -> usize {
        if self.bytes().is_some_and(|bytes| bytes <= BAND_BYTES) {
            return usize::MAX;
        }
        let lines = BAND_BYTES / (self.line * self.wide).max(1);
        lines.saturating_sub(self.window) / self.stride.max(1) + 1
    }

    /// Lines of the copy for a band.
    fn band_lines(&self) -> usize {
        let below = (self.band() - 1).saturating_mul(self.stride);
        below.saturating_add(self.window).min(self.height)
    }

    /// Bytes of the copy for a band.
    pub(super) fn copy_bytes(&self) -> Option<usize> {
        self.lines_bytes(self.band_lines())
    }

    /// Copies the lines of band `band`: `fill` for padding, what is copied combined with `moved`.
    #[inline(always)]
    pub(super) fn copy(
        &self,
        band: usize,
        input: &[u8],
        [fill, moved]: [u8; 2],
        copy: &mut [u8],
    ) -> Option<()> {
        let (wide, line) = (self.wide, self.line * self.wide);
        let (left, width) = (self.left * wide, self.source.min(self.line - self.left));
        let first = band.saturating_mul(self.band()).saturating_mul(self.stride);
        let lines = self.band_lines().min(self.height.checked_sub(first)?);
        for (y, line) in (first..).zip(copy.chunks_exact_mut(line.max(1)).take(lines)) {
            match y.checked_sub(self.top).filter(|y| *y < self.lines) {
                Some(y) => {
                    pad(line.get_mut(..left)?, fill, wide);
                    let source = input.get(y * self.source..)?.get(..width)?;
                    let to = line.get_mut(left..left + width * wide)?;
                    move_to(source, moved, wide, to);
                    pad(line.get_mut(left + width * wide..)?, fill, wide);
                }
                None => pad(line, fill, wide),
            }
        }
        let end = lines * line;
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

/// As many bytes as `to` has room for, combined with `moved`: as they are, or as 16-bit values where `wide` is 2.
#[inline(always)]
pub(super) fn move_to(bytes: &[u8], moved: u8, wide: usize, to: &mut [u8]) {
    if wide == 1 {
        to.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte ^ moved);
    } else {
        widen(bytes, moved, to);
    }
}

/// `bytes`, combined with `moved`; what is moved next has as many lines fetched from `ahead`.
#[inline(always)]
pub(super) fn move_lines(bytes: &[u8], moved: u8, ahead: &[u8], to: &mut [u8]) {
    let ((lines, rest), (to, to_rest)) = (bytes.as_chunks::<LINE>(), to.as_chunks_mut::<LINE>());
    for (at, (to, line)) in to.iter_mut().zip(lines).enumerate() {
        if let Some(next) = ahead.get(at * LINE) {
            fetch_at(next);
        }
        *to = line.map(|byte| byte ^ moved);
    }
    let to = to.get_mut(lines.len()..).and_then(<[_]>::first_mut).map_or(to_rest, |line| line.as_mut_slice());
    move_to(rest, moved, 1, to);
}

/// As many bytes as `to` has room for, combined with `moved`, as 16-bit values.
#[inline(always)]
pub(crate) fn widen(bytes: &[u8], moved: u8, to: &mut [u8]) {
    let to = to.as_chunks_mut::<2>().0;
    to.iter_mut().zip(bytes).for_each(|(to, byte)| *to = u16::from(byte ^ moved).to_le_bytes());
}
