//! Slices and elements picked by index.

use ingraft_kernel::attrs::GatherAttrs;
use ingraft_kernel::conv::check_float_terms;
use ingraft_kernel::{KernelError, Operand, Place, SiteTerms};
use ingraft_tensor::{DType, MAX_RANK, bytes};

use crate::launch::{Launch, int};
use crate::params::float::{Elements, Gather};

/// Whether indices are known only when the step runs; constant ones are checked here.
fn watched(launch: &Launch<'_, '_>, indices: &Operand<'_>, extent: usize) -> Result<bool, KernelError> {
    let Place::Plan(constant) = indices.place else { return Ok(true) };
    let extent = extent as i64;
    let inside = |index: i64| (extent.saturating_neg()..extent).contains(&index);
    let all = match indices.dtype {
        DType::I64 => bytes::cast::<i64>(constant).map(|all| all.iter().all(|i| inside(*i))),
        _ => bytes::cast::<i32>(constant).map(|all| all.iter().all(|i| inside(i64::from(*i)))),
    };
    match all {
        Some(true) => Ok(false),
        Some(false) => Err(KernelError::Index(launch.step.op)),
        None => Err(KernelError::Operands(launch.step.op)),
    }
}

/// Launches a pick of slices; rows of an f32 table with what an adapter adds to them.
pub(crate) fn gather(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let step = launch.step;
    let GatherAttrs { axis } = *step.attrs()?;
    let (data, indices) = (step.input(0)?, step.input(1)?);
    let error = KernelError::Operands(step.op);
    let (outer, rest) = data.shape.dims().split_at_checked(axis as usize).ok_or(error)?;
    let (&extent, inner) = rest.split_first().ok_or(error)?;
    let product = |dims: &[u32]| dims.iter().fold(1usize, |n, d| n.saturating_mul(*d as usize));
    let (outer, slice) = (product(outer), product(inner));
    let others = SiteTerms { two_factor: None, sparse: None, ..launch.terms };
    let table = outer == 1 && data.dtype == DType::F32;
    check_float_terms(step.op, &launch.terms)?;
    if !(launch.terms.is_none() || table && others.is_none()) {
        return Err(KernelError::Terms(step.op));
    }
    let watch = watched(launch, &indices, extent as usize)?;
    let count = step.output(0)?.shape.elements();
    int(step, count)?;
    let record = Gather {
        data: launch.input(0)?,
        indices: launch.input(1)?,
        output: launch.output(0)?,
        terms: launch.terms()?,
        status: launch.status(watch),
        outer: int(step, outer)?,
        picks: int(step, indices.shape.elements())?,
        axis: extent as i32,
        slice: int(step, slice)?,
        size: data.dtype.size() as i32,
        wide: i32::from(indices.dtype == DType::I64),
    };
    launch.elements("gather_x_x", count, &record)
}

/// Launches a pick of one element an index.
pub(crate) fn elements(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let step = launch.step;
    let GatherAttrs { axis } = *step.attrs()?;
    let (data, indices) = (step.input(0)?, step.input(1)?);
    let (axis, extent) = (axis as usize, data.shape.dim(axis as usize));
    let watch = watched(launch, &indices, extent)?;
    let count = step.output(0)?.shape.elements();
    let (mut extents, mut strides, mut stride) = ([1; MAX_RANK], [0; MAX_RANK], 0);
    let dims = indices.shape.dims().iter().zip(data.shape.strides()).enumerate();
    for (i, (picks, step)) in dims {
        extents[i] = *picks as i32;
        if i == axis {
            stride = step as i32;
        } else {
            strides[i] = step as i32;
        }
    }
    let record = Elements {
        data: launch.input(0)?,
        indices: launch.input(1)?,
        output: launch.output(0)?,
        status: launch.status(watch),
        count: int(step, count)?,
        rank: indices.shape.rank() as i32,
        extents,
        strides,
        extent: int(step, extent)?,
        stride,
        size: data.dtype.size() as i32,
        wide: i32::from(indices.dtype == DType::I64),
    };
    launch.elements("gather_elements_x_x", count, &record)
}
