//! Strided copies and fills.

use ingraft_kernel::KernelError;
use ingraft_kernel::attrs::{CopyAttrs, FillAttrs};
use ingraft_tensor::MAX_RANK;

use crate::launch::{Launch, int};
use crate::params::{Copy, Fill};

/// Launches a strided copy.
pub(crate) fn copy(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let step = launch.step;
    let attrs: &CopyAttrs = step.attrs()?;
    let size = step.input(0)?.dtype.size();
    let used = attrs.extents.iter().take(attrs.rank as usize);
    let count: usize = used.map(|extent| *extent as usize).product();
    let offset = |first: u32| u64::from(first).saturating_mul(size as u64);
    let record = Copy {
        input: launch.input(0)?.saturating_add(offset(attrs.in_offset)),
        output: launch.output(0)?.saturating_add(offset(attrs.out_offset)),
        count: int(step, count)?,
        rank: attrs.rank.min(MAX_RANK as u32) as i32,
        size: size as i32,
        reserved: 0,
        extents: attrs.extents.map(|extent| extent as i32),
        in_strides: attrs.in_strides,
        out_strides: attrs.out_strides.map(|stride| stride as i32),
    };
    launch.elements("copy_x_x", count, &record)
}

/// Launches a fill.
pub(crate) fn fill(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let step = launch.step;
    let FillAttrs { value: [low, high] } = *step.attrs()?;
    let output = step.output(0)?;
    let count = output.shape.elements();
    let record = Fill {
        output: launch.output(0)?,
        value: u64::from(high) << 32 | u64::from(low),
        count: int(step, count)?,
        size: output.dtype.size() as i32,
    };
    launch.elements("fill_x", count, &record)
}
