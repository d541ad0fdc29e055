//! Dimensions as kernels walk them: neighbors that are contiguous in every operand are one.

use ingraft_tensor::{MAX_RANK, Shape};

/// Extents, outermost first, and the strides of `N` operands along them; at least one dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Walk<const N: usize> {
    pub(crate) rank: i32,
    pub(crate) extents: [i32; MAX_RANK],
    pub(crate) strides: [[i32; MAX_RANK]; N],
}

impl<const N: usize> Walk<N> {
    /// Of dimensions given outermost first, each with its extent and the strides of the operands.
    pub(crate) fn new(dims: impl IntoIterator<Item = (u32, [i32; N])>) -> Self {
        let mut walk = Self { rank: 0, extents: [1; MAX_RANK], strides: [[0; MAX_RANK]; N] };
        for (extent, strides) in dims.into_iter().filter(|(extent, _)| *extent != 1) {
            walk.push(extent as i32, strides);
        }
        walk.rank = walk.rank.max(1);
        walk
    }

    /// Over the elements of `out`, of operands that broadcast to it.
    pub(crate) fn broadcast(out: Shape, operands: [Shape; N]) -> Self {
        let strides = operands.map(|operand| broadcast(operand, out));
        Self::new(
            out.dims()
                .iter()
                .enumerate()
                .map(|(axis, extent)| (*extent, strides.map(|strides| strides[axis]))),
        )
    }

    fn push(&mut self, extent: i32, strides: [i32; N]) {
        let last = (self.rank as usize).checked_sub(1);
        let continues = last.is_some_and(|last| {
            let outer = self.strides.iter().map(|of| of[last]);
            outer.zip(strides).all(|(outer, inner)| outer == inner.wrapping_mul(extent))
        });
        let at = match last {
            Some(last) if continues => {
                self.extents[last] = self.extents[last].wrapping_mul(extent);
                last
            }
            _ => {
                let at = self.rank as usize;
                self.extents[at] = extent;
                self.rank += 1;
                at
            }
        };
        self.strides.iter_mut().zip(strides).for_each(|(of, stride)| of[at] = stride);
    }
}

/// The strides of an operand along the axes of `out`: 0 where it repeats.
pub(crate) fn broadcast(operand: Shape, out: Shape) -> [i32; MAX_RANK] {
    let mut strides = [0; MAX_RANK];
    let missing = out.rank().saturating_sub(operand.rank());
    let own = operand.dims().iter().zip(operand.strides());
    for (to, (extent, stride)) in strides.iter_mut().skip(missing).zip(own) {
        *to = if *extent == 1 { 0 } else { stride as i32 };
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(dims: &[u32]) -> Shape {
        Shape::new(dims).unwrap()
    }

    #[test]
    fn contiguous_dimensions_are_one() {
        let same = shape(&[2, 3, 4]);
        let walk = Walk::broadcast(same, [same, same]);
        assert_eq!((walk.rank, walk.extents[0], walk.strides[0][0]), (1, 24, 1));
        let walk = Walk::broadcast(same, [same, shape(&[4])]);
        assert_eq!((walk.rank, &walk.extents[..2]), (2, &[6, 4][..]));
        assert_eq!((&walk.strides[0][..2], &walk.strides[1][..2]), (&[4, 1][..], &[0, 1][..]));
        let walk = Walk::broadcast(same, [shape(&[]), shape(&[2, 1, 4])]);
        assert_eq!((walk.rank, &walk.strides[1][..3]), (3, &[4, 0, 1][..]));
        assert_eq!(Walk::broadcast(shape(&[]), [shape(&[])]).rank, 1);
    }
}
