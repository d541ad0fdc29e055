//! Reading the incoming gradient through its mask.

use ingraft_kernel::backward::Incoming;

use crate::{Task, Vector};

/// Copies rows of the incoming gradient, masked elements as 0: row i begins at element `first + i·stride` there and
/// at `i·pitch` in `out`.
#[derive(Debug)]
pub(super) struct Read<'a, 'o> {
    pub(super) incoming: Incoming<'a>,
    pub(super) first: usize,
    pub(super) stride: usize,
    /// Elements of a row, and rows.
    pub(super) len: usize,
    pub(super) rows: usize,
    pub(super) out: &'o mut [f32],
    pub(super) pitch: usize,
}

impl<V: Vector> Task<V> for Read<'_, '_> {
    type Output = Option<()>;

    #[inline(always)]
    fn run(self, v: V) -> Option<()> {
        for row in 0..self.rows {
            let first = self.first + row * self.stride;
            let from = self.incoming.gradient.get(first..)?.get(..self.len)?;
            let to = self.out.get_mut(row * self.pitch..)?.get_mut(..self.len)?;
            let Some(mask) = self.incoming.mask else {
                to.copy_from_slice(from);
                continue;
            };
            for at in (0..self.len).step_by(V::LANES) {
                let count = V::LANES.min(self.len - at);
                let bits = bits(mask, first + at);
                // SAFETY: both slices have `count` elements from `at` on.
                unsafe {
                    let kept = v.keep(v.load_some(from.as_ptr().add(at), count), bits);
                    v.store_some(to.as_mut_ptr().add(at), kept, count);
                }
            }
        }
        Some(())
    }
}

/// Sixteen bits of `mask` from `index` on, 0 past the end.
#[inline(always)]
pub(super) fn bits(mask: &[u8], index: usize) -> u32 {
    let at = index / 8;
    let window = match mask.get(at..at + 4).and_then(|bytes| bytes.first_chunk()) {
        Some(bytes) => u32::from_le_bytes(*bytes),
        None => {
            let byte = |i: usize| u32::from(mask.get(at + i).copied().unwrap_or(0));
            byte(0) | byte(1) << 8 | byte(2) << 16
        }
    };
    window >> (index % 8)
}
