//! Batched products of two activations.

use ingraft_kernel::KernelError;
use ingraft_tensor::Shape;

use crate::launch::{Launch, int};
use crate::params::float::MatMul;
use crate::rows::real::Cut;
use crate::rows::walk::Walk;

fn record(launch: &mut Launch<'_, '_>) -> Result<MatMul, KernelError> {
    let step = launch.step;
    let error = KernelError::Operands(step.op);
    let parts = |shape: Shape| -> Option<(Shape, [u32; 2])> {
        let (batch, matrix) = shape.dims().split_last_chunk::<2>()?;
        Some((Shape::new(batch).ok()?, *matrix))
    };
    let (lhs, [_, k]) = parts(step.input(0)?.shape).ok_or(error)?;
    let (rhs, _) = parts(step.input(1)?.shape).ok_or(error)?;
    let (out, [m, n]) = parts(step.output(0)?.shape).ok_or(error)?;
    int(step, step.output(0)?.shape.elements())?;
    let walk = Walk::broadcast(out, [lhs, rhs]);
    Ok(MatMul {
        lhs: launch.input(0)?,
        rhs: launch.input(1)?,
        output: launch.output(0)?,
        m: m as i32,
        k: k as i32,
        n: n as i32,
        batches: int(step, out.elements())?,
        rank: walk.rank,
        extents: walk.extents,
        lhs_strides: walk.strides[0],
        rhs_strides: walk.strides[1],
        ..MatMul::default()
    })
}

/// Launches an f32 product.
pub(crate) fn matmul(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let record = record(launch)?;
    let [m, k, n, batches] = [record.m, record.k, record.n, record.batches].map(|v| v as usize);
    let cut = Cut::new([m, n, k], batches).of_product();
    let (rows, columns) = (m.div_ceil(cut.tile).saturating_mul(batches), n.div_ceil(cut.tile));
    let reading = if k.is_multiple_of(4) && n.is_multiple_of(4) { "fours" } else { "single" };
    let kernel = format!("matmul_f32_{reading}_{}", cut.name);
    launch.grid(&kernel, (rows as u32, columns as u32, 1), cut.threads, &record)
}

/// Launches an int8 product to i32.
pub(crate) fn matmul_integer(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let record = record(launch)?;
    let step = launch.step;
    let record = MatMul {
        lhs_zero: launch.input(2)?,
        rhs_zero: launch.input(3)?,
        lhs_zeros: int(step, step.input(2)?.shape.elements())?,
        rhs_zeros: int(step, step.input(3)?.shape.elements())?,
        ..record
    };
    launch.elements("matmul_qs8_qs8_s32", step.output(0)?.shape.elements(), &record)
}
