//! One element per index.

use ingraft_tensor::arrays::{arrays, arrays_mut};
use ingraft_tensor::{DType, Shape};

use super::{Integers, integers};
use crate::attrs::GatherAttrs;
use crate::walk::{Dim, Walk};
use crate::{Call, Kernel, KernelError, OpCode, Step, check};

/// `out[a, i, b] = data[a, indices[a, i, b], b]` for elements of any type.
///
/// # Shapes
/// Inputs: data, indices i32 or i64 of the same rank, none of whose dimensions
/// but the axis exceeds the data's; output like the indices.
///
/// # Errors
/// [`KernelError::Index`] for an index outside `−extent..extent`; a negative
/// index counts from the end.
pub const KERNEL: Kernel =
    Kernel::new("gather_elements_x_x__scalar", OpCode::GatherElements, None, None, run).checked(check);

/// A walk over the indices in order, giving the position in the data at index zero.
pub(crate) struct Picks {
    walk: Walk<1>,
    extent: i64,
    stride: i64,
}

impl Picks {
    pub(crate) fn new(data: Shape, indices: Shape, axis: u32) -> Option<Self> {
        let mut dims = [Dim { extent: 1, strides: [0] }; ingraft_tensor::MAX_RANK];
        let strides = data.strides();
        let shapes = data.dims().iter().zip(indices.dims()).zip(&strides);
        for ((dim, ((&extent, &picks), &stride)), i) in dims.iter_mut().zip(shapes).zip(0u32..) {
            let along = i == axis;
            (along || picks <= extent).then_some(())?;
            *dim = Dim { extent: picks as usize, strides: [if along { 0 } else { stride as isize }] };
        }
        let stride = *strides.get(axis as usize)? as i64;
        let fits = data.rank() == indices.rank() && (axis as usize) < data.rank();
        fits.then(|| Self { walk: Walk::new(&dims, [0]), extent: data.dim(axis as usize) as i64, stride })
    }

    /// The element of the data that each of `indices` picks, in order; `None` for an index outside.
    pub(crate) fn elements(&self, indices: impl Iterator<Item = i64>) -> impl Iterator<Item = Option<usize>> {
        let (extent, stride) = (self.extent, self.stride);
        indices.zip(self.walk.elements()).map(move |(index, [start])| {
            let wrapped = if index < 0 { index.checked_add(extent)? } else { index };
            (0..extent).contains(&wrapped).then_some(())?;
            Some(start.wrapping_add(wrapped.wrapping_mul(stride) as usize))
        })
    }

    fn gather<const N: usize>(&self, data: &[u8], indices: Integers<'_>, out: &mut [u8]) -> Option<()> {
        let data = arrays::<_, N>(data).0;
        let out = arrays_mut::<_, N>(out).0;
        for (y, at) in out.iter_mut().zip(self.elements(indices.iter())) {
            *y = *data.get(at?)?;
        }
        Some(())
    }
}

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    let attrs: &GatherAttrs = step.attrs()?;
    check::operands(step, 2, 1)?;
    let (data, indices, out) = (step.input(0)?, step.input(1)?, step.output(0)?);
    check::require(step, data.dtype == out.dtype && matches!(indices.dtype, DType::I32 | DType::I64))?;
    check::require(step, indices.shape.elements() == out.shape.elements())?;
    check::require(step, Picks::new(data.shape, indices.shape, attrs.axis).is_some())
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let attrs: &GatherAttrs = call.attrs()?;
    let (data, shape, indices) = (call.input(0)?, call.input(1)?.shape(), integers(call, 1)?);
    let picks = Picks::new(data.shape(), shape, attrs.axis).ok_or(call.operands())?;
    let outside = KernelError::Index(call.op);
    let out = call.output(0)?.bytes();
    match data.dtype().size() {
        1 => picks.gather::<1>(data.bytes(), indices, out),
        2 => picks.gather::<2>(data.bytes(), indices, out),
        4 => picks.gather::<4>(data.bytes(), indices, out),
        _ => picks.gather::<8>(data.bytes(), indices, out),
    }
    .ok_or(outside)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::test_case::{Random, Tensor, indices, position, run};

    #[test]
    fn picks_elements_along_every_axis() {
        let mut random = Random(43);
        let dims = [3u32, 4, 5];
        let data = Tensor::new(&dims, &random.floats(60, -1.0, 1.0));
        for (axis, picked) in [(0usize, [6u32, 4, 5]), (1, [3, 2, 5]), (2, [2, 3, 7])] {
            let extent = dims[axis] as i32;
            let count = picked.iter().product::<u32>();
            let picks: std::vec::Vec<i32> = (0..count).map(|_| random.int(-extent, extent - 1)).collect();
            let wide: std::vec::Vec<i64> = picks.iter().map(|&i| i as i64).collect();
            let want: std::vec::Vec<f32> = indices(&picked)
                .into_iter()
                .zip(&picks)
                .map(|(mut at, pick)| {
                    at[axis] = pick.rem_euclid(extent) as usize;
                    data.values::<f32>()[position(&dims, &at)]
                })
                .collect();
            for picks in [Tensor::new(&picked, &picks), Tensor::new(&picked, &wide)] {
                let mut out = Tensor::zeros(DType::F32, &picked);
                run(&KERNEL, &GatherAttrs { axis: axis as u32 }, &[&data, &picks], &mut [&mut out]).unwrap();
                assert_eq!(out.values::<f32>(), want);
            }
        }
    }

    #[test]
    fn an_index_outside_is_an_error() {
        let data = Tensor::zeros(DType::I8, &[4, 2]);
        for index in [4i64, -5, i64::MIN, i64::MAX] {
            let mut out = Tensor::zeros(DType::I8, &[1, 2]);
            let picks = Tensor::new(&[1, 2], &[0, index]);
            let result = run(&KERNEL, &GatherAttrs { axis: 0 }, &[&data, &picks], &mut [&mut out]);
            assert_eq!(result, Err(KernelError::Index(OpCode::GatherElements)));
        }
        let mut out = Tensor::zeros(DType::I8, &[4, 3]);
        let wide = Tensor::zeros(DType::I64, &[4, 3]);
        assert!(run(&KERNEL, &GatherAttrs { axis: 0 }, &[&data, &wide], &mut [&mut out]).is_err());
    }
}
