//! Batched products of two activations: on reals, on codes, and on reals in f16 for who asks for it
//! ([`Cuda::with_halves`](crate::Cuda::with_halves)).
//!
//! # Numerics of f16
//! Both operands are rounded as they are read; products are exact, and summed in f32 on tensor cores, sixteen at a time. A result is
//! within `(2⁻¹⁰ + (len/16 + 12)·2⁻²²)·Σ|x·w| + len·2⁻²⁵·(max|x| + max|w| + 2⁻²⁵)` of the exact sum of its `len` products. Values
//! beyond 65504 become infinite.

use ingraft_kernel::{KernelError, Step};
use ingraft_tensor::Shape;

use crate::launch::{Launch, int};
use crate::params::float::MatMul;
use crate::rows::conv::ENOUGH;
use crate::rows::half::COLUMNS;
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

/// Rows and columns of a tile in f16, its warps, and the depth of one turn.
const HALF_TILE: [usize; 2] = [16, 32];
const HALF_WARPS: usize = 4;
const HALF_DEPTH: usize = 16;

/// Whether a tensor core has use for the columns of a product.
pub(crate) fn has_use_for_halves(step: &Step<'_>) -> bool {
    step.output(0)
        .is_ok_and(|output| output.shape.dims().last().is_some_and(|columns| *columns as usize >= COLUMNS))
}

/// Launches an f32 product in f16.
pub(crate) fn matmul_in_halves(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let record = record(launch)?;
    let [m, k, n, batches] = [record.m, record.k, record.n, record.batches].map(|v| v as usize);
    let reading = match (k.is_multiple_of(4), n.is_multiple_of(4)) {
        (true, true) => "fours",
        (true, false) => "left",
        (false, true) => "right",
        (false, false) => "single",
    };
    let [tile, columns] = [HALF_TILE[0], n.div_ceil(HALF_TILE[1])];
    // Warps have rows of their own where there are enough of them, else they share out the depth of a tile.
    let wide = m.div_ceil(HALF_WARPS * tile).saturating_mul(columns).saturating_mul(batches);
    let (cut, covered) =
        if k <= HALF_DEPTH || wide >= ENOUGH { ("wide", HALF_WARPS * tile) } else { ("split", tile) };
    let rows = m.div_ceil(covered).saturating_mul(batches);
    let kernel = format!("matmul_f16_{reading}_{cut}");
    launch.grid(&kernel, (rows as u32, columns as u32, 1), HALF_WARPS as u32 * 32, &record)
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
