//! Strided boxes.

use crate::graph::tensor;

/// Row-major strides of a shape, in elements.
pub fn strides(shape: &[usize]) -> Vec<isize> {
    let mut step = 1isize;
    let mut strides: Vec<isize> = Vec::with_capacity(shape.len());
    for &extent in shape.iter().rev() {
        strides.push(step);
        step = step.saturating_mul(extent as isize);
    }
    strides.reverse();
    strides
}

/// Strides that read a tensor of shape `from` as if it had been broadcast to `to`.
pub fn broadcast_strides(from: &[usize], to: &[usize]) -> Vec<isize> {
    let own =
        strides(from).into_iter().zip(from).map(|(stride, &extent)| if extent == 1 { 0 } else { stride });
    let missing = core::iter::repeat_n(0, to.len().saturating_sub(from.len()));
    missing.chain(own).collect()
}

/// Offsets of all places of a strided box, in row-major order.
pub struct Walk<'a> {
    shape: &'a [usize],
    strides: &'a [isize],
    place: Vec<usize>,
    offset: isize,
    left: usize,
}

impl<'a> Walk<'a> {
    /// A walk over `shape` from `start`; `None` where there is not one stride per dimension.
    pub fn new(shape: &'a [usize], start: isize, strides: &'a [isize]) -> Option<Self> {
        let left = tensor::elements(shape)?;
        let place = vec![0; shape.len()];
        (shape.len() == strides.len()).then_some(Self { shape, strides, place, offset: start, left })
    }
}

impl Iterator for Walk<'_> {
    type Item = isize;

    fn next(&mut self) -> Option<isize> {
        self.left = self.left.checked_sub(1)?;
        let here = self.offset;
        for ((place, &extent), &stride) in self.place.iter_mut().zip(self.shape).zip(self.strides).rev() {
            *place += 1;
            self.offset = self.offset.wrapping_add(stride);
            if *place < extent {
                break;
            }
            self.offset = self.offset.wrapping_sub(stride.wrapping_mul(extent as isize));
            *place = 0;
        }
        Some(here)
    }
}
