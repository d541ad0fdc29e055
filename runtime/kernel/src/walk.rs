//! Walking several strided operands in step, row by row.
//!
//! Broadcasting, strided copies and reductions differ only in strides, so they
//! share one odometer. Dimensions that are contiguous in every operand are
//! merged first: two operands of one shape are a single row.

use ingraft_tensor::{MAX_RANK, Shape};

/// One dimension of a walk: its extent and each operand's stride in elements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dim<const N: usize> {
    /// Number of positions.
    pub(crate) extent: usize,
    /// Elements between positions, per operand.
    pub(crate) strides: [isize; N],
}

/// An iterator over rows: yields the offset of each operand's first element.
///
/// Offsets wrap instead of panicking; a caller whose strides come from a file
/// proves the range first or looks elements up with `get`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk<const N: usize> {
    /// Elements in a row.
    pub(crate) len: usize,
    /// Elements between neighbors within a row, per operand.
    pub(crate) steps: [isize; N],
    outer: [(Dim<N>, usize); MAX_RANK],
    offsets: [usize; N],
    rows: usize,
}

impl<const N: usize> Walk<N> {
    /// A walk over `dims`, outermost first, from the given offsets.
    pub(crate) fn new(dims: &[Dim<N>], offsets: [usize; N]) -> Self {
        let mut outer = [(Dim { extent: 1, strides: [0; N] }, 0); MAX_RANK];
        let mut row = Dim { extent: 1, strides: [0; N] };
        // Without this an empty innermost dimension would still be visited once per outer position.
        let mut rows = usize::from(dims.iter().all(|dim| dim.extent != 0));
        let mut slots = outer.iter_mut().rev();
        for dim in dims.iter().rev().filter(|dim| dim.extent != 1) {
            if row.extent == 1 {
                row = *dim;
            } else if rows <= 1 && continues(dim, &row) {
                row.extent = row.extent.wrapping_mul(dim.extent);
            } else if let Some(slot) = slots.next() {
                *slot = (*dim, 0);
                rows = rows.wrapping_mul(dim.extent);
            }
        }
        Self { len: row.extent, steps: row.strides, outer, offsets, rows }
    }

    /// A walk over the row-major elements of `out` with operands that broadcast
    /// to it; `None` when one does not.
    pub(crate) fn broadcast(out: Shape, operands: [Shape; N]) -> Option<Self> {
        let mut dims = [Dim { extent: 1, strides: [0; N] }; MAX_RANK];
        for (dim, &extent) in dims.iter_mut().skip(MAX_RANK.wrapping_sub(out.rank())).zip(out.dims()) {
            dim.extent = extent as usize;
        }
        for (n, shape) in operands.iter().enumerate() {
            if shape.rank() > out.rank() {
                return None;
            }
            let strides = shape.strides();
            let aligned = dims.iter_mut().skip(MAX_RANK.wrapping_sub(shape.rank()));
            for (dim, (&extent, &stride)) in aligned.zip(shape.dims().iter().zip(&strides)) {
                let step = match extent as usize {
                    1 => 0,
                    extent if extent == dim.extent => stride as isize,
                    _ => return None,
                };
                if let Some(slot) = dim.strides.get_mut(n) {
                    *slot = step;
                }
            }
        }
        Some(Self::new(&dims, [0; N]))
    }

    /// The same walk with other starting offsets.
    pub(crate) fn at(mut self, offsets: [usize; N]) -> Self {
        self.offsets = offsets;
        self
    }

    /// The offsets of every element, in order.
    pub(crate) fn elements(self) -> impl Iterator<Item = [usize; N]> + Clone {
        let (len, steps) = (self.len, self.steps);
        self.flat_map(move |row| {
            (0..len as isize).map(move |i| {
                let mut offsets = row;
                for (offset, step) in offsets.iter_mut().zip(steps) {
                    *offset = offset.wrapping_add(i.wrapping_mul(step) as usize);
                }
                offsets
            })
        })
    }

    /// Calls `block` with the offsets and the length of pieces of at most
    /// [`BLOCK`] elements, in order; stops with `None` when it does.
    pub(crate) fn blocks(self, mut block: impl FnMut([usize; N], usize) -> Option<()>) -> Option<()> {
        let (len, steps) = (self.len, self.steps);
        for mut offsets in self {
            let mut left = len;
            while left > 0 {
                let count = left.min(BLOCK);
                block(offsets, count)?;
                left = left.wrapping_sub(count);
                for (offset, step) in offsets.iter_mut().zip(steps) {
                    *offset = offset.wrapping_add((count as isize).wrapping_mul(step) as usize);
                }
            }
        }
        Some(())
    }
}

impl<const N: usize> Iterator for Walk<N> {
    type Item = [usize; N];

    fn next(&mut self) -> Option<[usize; N]> {
        self.rows = self.rows.checked_sub(1)?;
        let now = self.offsets;
        for (dim, index) in self.outer.iter_mut().rev() {
            *index = index.wrapping_add(1);
            let advanced = *index < dim.extent;
            let count = if advanced { 1 } else { 1isize.wrapping_sub(*index as isize) };
            for (offset, stride) in self.offsets.iter_mut().zip(dim.strides) {
                *offset = offset.wrapping_add(count.wrapping_mul(stride) as usize);
            }
            if advanced {
                break;
            }
            *index = 0;
        }
        Some(now)
    }
}

/// `len` elements from `offset`: the slice itself, or `buffer` filled with the
/// one element that `step` 0 repeats. `None` outside `data`.
pub(crate) fn lane<'a, T: Copy>(
    data: &'a [T],
    offset: usize,
    step: isize,
    len: usize,
    buffer: &'a mut [T; BLOCK],
) -> Option<&'a [T]> {
    if step != 0 {
        return data.get(offset..offset.checked_add(len)?);
    }
    let value = *data.get(offset)?;
    let block = buffer.get_mut(..len)?;
    block.fill(value);
    Some(block)
}

/// Rows of `len` elements; none for `len` 0.
///
/// `chunks_exact` in a zip divides by its length, which leaves the panic for
/// zero in the linked code; this iterator does not.
#[derive(Clone, Debug)]
pub(crate) struct Rows<'a, T> {
    data: &'a [T],
    len: usize,
}

impl<'a, T> Rows<'a, T> {
    pub(crate) fn new(data: &'a [T], len: usize) -> Self {
        Self { data: if len == 0 { &[] } else { data }, len }
    }
}

impl<'a, T> Iterator for Rows<'a, T> {
    type Item = &'a [T];

    fn next(&mut self) -> Option<&'a [T]> {
        // Not empty: an empty row would never use the data up.
        self.data.first()?;
        let (row, rest) = self.data.split_at_checked(self.len)?;
        self.data = rest;
        Some(row)
    }
}

/// Whether `outer` continues `row` without a gap in every operand.
fn continues<const N: usize>(outer: &Dim<N>, row: &Dim<N>) -> bool {
    let end = row.extent as isize;
    outer.strides.iter().zip(row.strides).all(|(&stride, step)| stride == end.wrapping_mul(step))
}

/// Most elements handled in one block: what a stack buffer holds.
pub(crate) const BLOCK: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_shapes_are_one_row() {
        let shape = Shape::new(&[2, 3, 4]).unwrap();
        let mut walk = Walk::broadcast(shape, [shape, shape]).unwrap();
        assert_eq!((walk.len, walk.steps), (24, [1, 1]));
        assert_eq!(walk.next(), Some([0, 0]));
        assert_eq!(walk.next(), None);
    }

    #[test]
    fn broadcast_visits_numpy_order() {
        let shape = |dims: &[u32]| Shape::new(dims).unwrap();
        let walk = Walk::broadcast(shape(&[2, 3, 2]), [shape(&[3, 1]), shape(&[2, 1, 2])]).unwrap();
        let want =
            [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 2], [2, 3]];
        assert!(walk.elements().eq(want));
        assert!(Walk::broadcast(shape(&[2, 3]), [shape(&[2])]).is_none());
        assert!(Walk::broadcast(shape(&[3]), [shape(&[1, 3])]).is_none());
    }

    #[test]
    fn negative_strides_run_backwards() {
        let dims = [Dim { extent: 2, strides: [1] }, Dim { extent: 3, strides: [-2] }];
        assert!(Walk::new(&dims, [4]).elements().eq([[4], [2], [0], [5], [3], [1]]));
    }

    #[test]
    fn empty_and_scalar() {
        let empty = Shape::new(&[3, 0, 2]).unwrap();
        assert_eq!(Walk::broadcast(empty, [empty]).unwrap().elements().count(), 0);
        assert_eq!(Walk::broadcast(Shape::SCALAR, [Shape::SCALAR]).unwrap().elements().count(), 1);
    }

    #[test]
    fn blocks_cover_long_rows() {
        let shape = Shape::new(&[150]).unwrap();
        let mut seen = [(0, 0); 3];
        let mut slots = seen.iter_mut();
        let walk = Walk::broadcast(shape, [shape]).unwrap();
        walk.blocks(|[offset], len| slots.next().map(|s| *s = (offset, len))).unwrap();
        assert_eq!(seen, [(0, 64), (64, 64), (128, 22)]);
    }
}
