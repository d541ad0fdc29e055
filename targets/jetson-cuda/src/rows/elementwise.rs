//! Additions, multiplications, tables, softmax and changes of scale.

use ingraft_kernel::attrs::{QBinaryAttrs, QSoftmaxAttrs, QuantizeAttrs};
use ingraft_kernel::{KernelError, Step};
use ingraft_tensor::{DType, Shape};

use crate::launch::{Launch, int};
use crate::params::{Lookup, Pair, QSoftmax, Rescale};
use crate::rows::walk::broadcast;

/// Threads of a block of softmax: a block a row.
const SOFTMAX_THREADS: u32 = 128;

/// Launches an addition.
pub(crate) fn add(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    pair(launch, "add_qs8_qs8_qs8")
}

/// Launches a multiplication.
pub(crate) fn multiply(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    pair(launch, "mul_qs8_qs8_qs8")
}

fn pair(launch: &mut Launch<'_, '_>, kernel: &str) -> Result<(), KernelError> {
    let step = launch.step;
    let attrs: &QBinaryAttrs = step.attrs()?;
    let (lhs, rhs, shape) = (step.input(0)?.shape, step.input(1)?.shape, step.output(0)?.shape);
    let count = shape.elements();
    // Operands of one shape are a single row.
    let same = lhs == shape && rhs == shape;
    let flat = Shape::new(&[count as u32]).map_err(|_| KernelError::Operands(step.op))?;
    let (lhs, rhs, shape) = if same { (flat, flat, flat) } else { (lhs, rhs, shape) };
    let mut record = Pair {
        lhs: launch.input(0)?,
        rhs: launch.input(1)?,
        output: launch.output(0)?,
        mask: launch.mask()?,
        count: int(step, count)?,
        rank: shape.rank() as i32,
        lhs_strides: broadcast(lhs, shape),
        rhs_strides: broadcast(rhs, shape),
        zero_points: attrs.zero_points,
        out_zero_point: attrs.out_zero_point,
        factors: attrs.factors,
        lo: attrs.lo,
        hi: attrs.hi,
        ..Pair::default()
    };
    record.extents.iter_mut().zip(shape.dims()).for_each(|(to, extent)| *to = *extent as i32);
    let fours = kernel == "add_qs8_qs8_qs8"
        && same
        && in_fours(count, record.mask, &[record.lhs, record.rhs, record.output]);
    if fours {
        launch.elements("add_qs8_fours", count / 4, &record)
    } else {
        launch.elements(kernel, count, &record)
    }
}

/// Whether a thread may take four elements: whole words everywhere, and no bits to write.
fn in_fours(count: usize, mask: u64, addresses: &[u64]) -> bool {
    mask == 0 && count.is_multiple_of(4) && addresses.iter().all(|address| address.is_multiple_of(16))
}

/// Launches a table of codes.
pub(crate) fn lookup(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let count = launch.step.output(0)?.shape.elements();
    let record = Lookup {
        input: launch.input(0)?,
        table: launch.input(1)?,
        output: launch.output(0)?,
        count: int(launch.step, count)?,
        reserved: 0,
    };
    launch.elements("lookup_qs8_qs8", count, &record)
}

/// Launches an int8 softmax.
pub(crate) fn softmax(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let step = launch.step;
    let attrs: &QSoftmaxAttrs = step.attrs()?;
    let shape = step.input(0)?.shape;
    let len = shape.dims().last().map_or(1, |len| *len as usize);
    let rows = shape.elements().checked_div(len).unwrap_or(0);
    let record = QSoftmax {
        input: launch.input(0)?,
        table: launch.input(1)?,
        output: launch.output(0)?,
        rows: int(step, rows)?,
        len: int(step, len)?,
        out_zero_point: attrs.out_zero_point,
        inv_scale: attrs.inv_scale,
    };
    launch.grid("softmax_qs8_qs8", (rows as u32, 1, 1), SOFTMAX_THREADS, &record)
}

/// Launches f32 to int8.
pub(crate) fn quantize(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    rescale(launch, "quantize_f32_qs8")
}

/// Launches int8 to int8.
pub(crate) fn requantize(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    rescale(launch, "requantize_qs8_qs8")
}

/// Launches int8 or i32 to f32.
pub(crate) fn dequantize(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let wide = launch.step.input_dtype(0) == Some(DType::I32);
    rescale(launch, if wide { "dequantize_s32_f32" } else { "dequantize_qs8_f32" })
}

fn rescale(launch: &mut Launch<'_, '_>, kernel: &str) -> Result<(), KernelError> {
    let step: &Step<'_> = launch.step;
    let attrs: &QuantizeAttrs = step.attrs()?;
    let count = step.output(0)?.shape.elements();
    let record = Rescale {
        input: launch.input(0)?,
        output: launch.output(0)?,
        mask: launch.mask()?,
        count: int(step, count)?,
        in_zero_point: attrs.in_zero_point,
        out_zero_point: attrs.out_zero_point,
        in_scale: attrs.in_scale,
        out_scale: attrs.out_scale,
        lo: attrs.lo,
        hi: attrs.hi,
    };
    let fours = kernel == "quantize_f32_qs8" && in_fours(count, record.mask, &[record.input, record.output]);
    if fours {
        launch.elements("quantize_f32_fours", count / 4, &record)
    } else {
        launch.elements(kernel, count, &record)
    }
}
