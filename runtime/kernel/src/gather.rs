//! Slices and elements picked along an axis by integer index.

mod elements;

pub use elements::KERNEL as KERNEL_ELEMENTS;
pub(crate) use elements::Picks;

use ingraft_tensor::{DType, Shape};

use crate::attrs::GatherAttrs;
use crate::{Call, Factors, Kernel, KernelError, OpCode, SiteTerms, SparseValues, Step, check};

/// `out[a.., i.., b..] = data[a.., indices[i..], b..]` for elements of any type.
///
/// Real factors and entries of an adapter add to rows of an f32 table as they are picked: row `i` of `up·down`, and of Δ.
///
/// # Shapes
/// Inputs: data of any shape, indices i32 or i64 of any shape; output with the
/// data's dimensions, the axis replaced by the dimensions of the indices.
///
/// # Errors
/// [`KernelError::Index`] for an index outside `−extent..extent`; a negative
/// index counts from the end. [`KernelError::Terms`] for other terms, or at what is no such table.
pub const KERNEL: Kernel = Kernel::new("gather_x_x__scalar", OpCode::Gather, None, None, run).checked(check);

/// Extents around the axis.
#[derive(Clone, Copy)]
pub(crate) struct Extents {
    pub(crate) outer: usize,
    axis: usize,
    /// Elements of one picked slice.
    pub(crate) slice: usize,
}

impl Extents {
    pub(crate) fn new(data: Shape, axis: u32) -> Option<Self> {
        let (outer, rest) = data.dims().split_at_checked(axis as usize)?;
        let (&axis, inner) = rest.split_first()?;
        let product = |dims: &[u32]| dims.iter().fold(1usize, |n, &d| n.wrapping_mul(d as usize));
        Some(Self { outer: product(outer), axis: axis as usize, slice: product(inner) })
    }

    /// The first element of the slice that `index` picks within the `outer`th block; `None` outside.
    #[inline(always)]
    pub(crate) fn start(&self, outer: usize, index: i64) -> Option<usize> {
        let wrapped = if index < 0 { index.checked_add(self.axis as i64)? } else { index };
        let position = usize::try_from(wrapped).ok().filter(|&i| i < self.axis)?;
        Some(outer.wrapping_mul(self.axis).wrapping_add(position).wrapping_mul(self.slice))
    }
}

/// The integers of input `index`, i32 or i64.
pub(crate) fn integers<'c>(call: &Call<'c, '_>, index: usize) -> Result<Integers<'c>, KernelError> {
    let view = call.input(index)?;
    match view.as_slice::<i32>() {
        Some(narrow) => Ok(Integers::Narrow(narrow)),
        None => Ok(Integers::Wide(view.as_slice::<i64>().ok_or(call.operands())?)),
    }
}

/// Indices of either type.
#[derive(Clone, Copy)]
pub(crate) enum Integers<'c> {
    Narrow(&'c [i32]),
    Wide(&'c [i64]),
}

impl Integers<'_> {
    /// The values in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = i64> + Clone {
        let (narrow, wide): (&[i32], &[i64]) = match self {
            Self::Narrow(narrow) => (narrow, &[]),
            Self::Wide(wide) => (&[], wide),
        };
        narrow.iter().map(|&i| i64::from(i)).chain(wide.iter().copied())
    }
}

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    let attrs: &GatherAttrs = step.attrs()?;
    check::operands(step, 2, 1)?;
    let (data, indices, out) = (step.input(0)?, step.input(1)?, step.output(0)?);
    check::require(step, data.dtype == out.dtype && matches!(indices.dtype, DType::I32 | DType::I64))?;
    let axis = attrs.axis as usize;
    check::require(step, axis < data.shape.rank())?;
    let kept = data.shape.dims().iter().enumerate().filter(|&(i, _)| i != axis).map(|(_, &d)| d as usize);
    let elements = kept.fold(indices.shape.elements(), usize::saturating_mul);
    check::require(step, elements == out.shape.elements())
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let attrs: &GatherAttrs = call.attrs()?;
    let (data, indices) = (call.input(0)?, integers(call, 1)?);
    let extents = Extents::new(data.shape(), attrs.axis).ok_or(call.operands())?;
    let outside = KernelError::Index(call.op);
    let dtype = data.dtype();
    gather(&extents, dtype.size(), data.bytes(), indices, call.output(0)?.bytes()).ok_or(outside)?;
    if call.terms.is_none() {
        return Ok(());
    }
    // One block of slices: a slice is a row.
    let table = extents.outer == 1 && dtype == DType::F32;
    let others = SiteTerms { two_factor: None, sparse: None, ..call.terms };
    let (terms, refused) = (call.terms, KernelError::Terms(call.op));
    (table && others.is_none()).then_some(()).ok_or(refused)?;
    let rows = call.slice_mut::<f32>(0)?.chunks_exact_mut(extents.slice.max(1));
    for (row, index) in rows.zip(indices.iter()) {
        let start = extents.start(0, index).ok_or(outside)?;
        let at = start.checked_div(extents.slice).unwrap_or(0);
        adapt(&terms, at, row).ok_or(refused)?;
    }
    Ok(())
}

/// Adds row `at` of what `terms` are; `None` where they have none.
fn adapt(terms: &SiteTerms<'_>, at: usize, row: &mut [f32]) -> Option<()> {
    if let Some(term) = terms.two_factor {
        let Factors::F32 { down, up } = term.factors else { return None };
        let up = up.get(at.checked_mul(term.rank)?..)?.get(..term.rank)?;
        for (factor, down) in up.iter().zip(down.chunks_exact(row.len().max(1))) {
            row.iter_mut().zip(down).for_each(|(y, d)| *y += factor * d);
        }
    }
    if let Some(sparse) = terms.sparse {
        let SparseValues::F32(values) = sparse.values else { return None };
        let span = sparse.span(at)?;
        let (indices, values) = (sparse.indices.get(span.clone())?, values.get(span)?);
        for (index, value) in indices.iter().zip(values) {
            *row.get_mut(usize::from(*index))? += value;
        }
    }
    Some(())
}

fn gather(extents: &Extents, size: usize, data: &[u8], indices: Integers<'_>, out: &mut [u8]) -> Option<()> {
    let mut slices = out.chunks_exact_mut(extents.slice.wrapping_mul(size).max(1));
    for outer in 0..extents.outer {
        for index in indices.iter() {
            let start = extents.start(outer, index)?.wrapping_mul(size);
            let Some(slice) = slices.next() else { return Some(()) };
            for (y, x) in slice.iter_mut().zip(data.get(start..)?) {
                *y = *x;
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::test_case::{Random, Tensor, run};

    #[test]
    fn picks_slices_along_every_axis() {
        let mut random = Random(41);
        let dims = [3u32, 4, 5];
        for dtype in [DType::I8, DType::F16, DType::F32, DType::I64] {
            let mut data = Tensor::zeros(dtype, &dims);
            data.bytes_mut().iter_mut().for_each(|b| *b = random.word() as u8);
            let size = dtype.size();
            for axis in 0..3u32 {
                let extent = dims[axis as usize] as i32;
                let indices: std::vec::Vec<i32> = (0..6).map(|_| random.int(-extent, extent - 1)).collect();
                let wide: std::vec::Vec<i64> = indices.iter().map(|&i| i as i64).collect();
                let mut want = std::vec::Vec::new();
                let outer: u32 = dims[..axis as usize].iter().product();
                let inner: u32 = dims[axis as usize + 1..].iter().product();
                for o in 0..outer as usize {
                    for &i in &indices {
                        let i = i.rem_euclid(extent) as usize;
                        let at = (o * extent as usize + i) * inner as usize * size;
                        want.extend_from_slice(&data.bytes()[at..at + inner as usize * size]);
                    }
                }
                for indices in [Tensor::new(&[2, 3], &indices), Tensor::new(&[2, 3], &wide)] {
                    let mut out = Tensor::zeros(dtype, &[outer, 2, 3, inner]);
                    run(&KERNEL, &GatherAttrs { axis }, &[&data, &indices], &mut [&mut out]).unwrap();
                    assert_eq!(out.bytes(), want);
                }
            }
        }
    }

    #[test]
    fn an_index_outside_is_an_error() {
        let data = Tensor::zeros(DType::F32, &[4, 2]);
        let mut out = Tensor::zeros(DType::F32, &[1, 2]);
        for index in [4i64, -5, i64::MIN, i64::MAX, 1 << 32] {
            let have = run(
                &KERNEL,
                &GatherAttrs { axis: 0 },
                &[&data, &Tensor::new(&[1], &[index])],
                &mut [&mut out],
            );
            assert_eq!(have, Err(KernelError::Index(OpCode::Gather)));
        }
        let index = Tensor::new(&[1], &[0i64]);
        assert!(run(&KERNEL, &GatherAttrs { axis: 2 }, &[&data, &index], &mut [&mut out]).is_err());
        assert!(run(&KERNEL, &GatherAttrs { axis: 1 }, &[&data, &index], &mut [&mut out]).is_err());
    }
}
