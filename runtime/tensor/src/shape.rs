//! Shapes of fixed maximum rank.

/// The largest rank a plan can hold.
pub const MAX_RANK: usize = 6;

/// The extents of a tensor, outermost first, without allocation.
///
/// A scalar has rank 0 and one element. The element count is checked at
/// construction to fit 31 bits, so products of extents cannot overflow later.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [u32; MAX_RANK],
    rank: u8,
}

/// Why a list of extents is not a [`Shape`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShapeError {
    /// More than [`MAX_RANK`] dimensions.
    Rank(usize),
    /// More than 2³¹−1 elements.
    TooLarge,
}

impl core::fmt::Display for ShapeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Rank(rank) => write!(f, "rank {rank} is above the limit of {MAX_RANK}"),
            Self::TooLarge => f.write_str("more than 2^31-1 elements"),
        }
    }
}

impl core::error::Error for ShapeError {}

impl Shape {
    /// The shape of a scalar.
    pub const SCALAR: Self = Self { dims: [1; MAX_RANK], rank: 0 };

    /// The shape of a vector without elements.
    pub const EMPTY: Self = Self { dims: [0, 1, 1, 1, 1, 1], rank: 1 };

    /// A shape with these extents.
    ///
    /// # Errors
    /// [`ShapeError`] when there are too many dimensions or elements.
    #[inline]
    pub fn new(extents: &[u32]) -> Result<Self, ShapeError> {
        if extents.len() > MAX_RANK {
            return Err(ShapeError::Rank(extents.len()));
        }
        let mut shape = Self { dims: [1; MAX_RANK], rank: extents.len() as u8 };
        let mut elements = 1u64;
        for (dim, &extent) in shape.dims.iter_mut().zip(extents) {
            *dim = extent;
            elements = elements.saturating_mul(extent as u64);
            // A zero extent must not hide an oversized one behind it.
            if elements > i32::MAX as u64 || extent > i32::MAX as u32 {
                return Err(ShapeError::TooLarge);
            }
        }
        Ok(shape)
    }

    /// The extents, outermost first.
    #[inline]
    pub fn dims(&self) -> &[u32] {
        self.dims.get(..self.rank as usize).unwrap_or(&[])
    }

    /// Number of dimensions.
    #[inline]
    pub fn rank(&self) -> usize {
        self.rank as usize
    }

    /// Number of elements.
    #[inline]
    pub fn elements(&self) -> usize {
        self.dims().iter().fold(1usize, |n, &d| n.wrapping_mul(d as usize))
    }

    /// Extent of dimension `axis`, or 1 past the end.
    #[inline]
    pub fn dim(&self, axis: usize) -> usize {
        self.dims().get(axis).map_or(1, |&d| d as usize)
    }

    /// The extents as `[N, H, W, C]`: missing leading dimensions are 1, `None` above rank 4.
    #[inline]
    pub fn nhwc(&self) -> Option<[usize; 4]> {
        let mut out = [1usize; 4];
        let skip = 4usize.checked_sub(self.rank())?;
        for (o, &d) in out.iter_mut().skip(skip).zip(self.dims()) {
            *o = d as usize;
        }
        Some(out)
    }

    /// Row-major strides in elements; unused trailing entries are 0.
    pub fn strides(&self) -> [usize; MAX_RANK] {
        let mut strides = [0usize; MAX_RANK];
        let mut step = 1usize;
        let rank = self.rank();
        // Zips of equal lengths only: reversing any other leaves a panic in the linked code.
        for ((s, &d), axis) in strides.iter_mut().zip(&self.dims).zip(0..MAX_RANK).rev() {
            if axis < rank {
                *s = step;
                step = step.wrapping_mul(d as usize);
            }
        }
        strides
    }
}

impl core::fmt::Debug for Shape {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.dims().fmt(f)
    }
}

impl core::fmt::Display for Shape {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Debug::fmt(self.dims(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_are_row_major() {
        let shape = Shape::new(&[2, 3, 4]).unwrap();
        assert_eq!(shape.strides()[..3], [12, 4, 1]);
        assert_eq!(shape.elements(), 24);
        assert_eq!(Shape::SCALAR.elements(), 1);
    }

    #[test]
    fn refuses_what_would_overflow() {
        assert_eq!(Shape::new(&[1; 7]), Err(ShapeError::Rank(7)));
        assert_eq!(Shape::new(&[65536, 65536]), Err(ShapeError::TooLarge));
        assert_eq!(Shape::new(&[0, u32::MAX]), Err(ShapeError::TooLarge));
        assert_eq!(Shape::new(&[0, 5]).unwrap().elements(), 0);
    }
}
