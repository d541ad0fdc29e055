//! Gradients of what looks along axes: softmax, normalization, reductions.

use ingraft_kernel::attrs::{NormAttrs, QSoftmaxAttrs, ReduceAttrs, SoftmaxAttrs};
use ingraft_kernel::norm::normalized;
use ingraft_kernel::reduce::ReduceFn;
use ingraft_kernel::{KernelError, Step};
use ingraft_tensor::DType;

use super::layer_backward::operands;
use super::reduction::{Axes, THREADS, rows, rows_grid};
use crate::launch::{Launch, int};
use crate::params::gradient::{NormBack, ReduceBack, SoftmaxBack};

/// Rows along the last axis, and elements of each, whose number the kernels can count.
fn countable(step: &Step<'_>) -> Result<(usize, usize), KernelError> {
    let shape = step.input(0)?.shape;
    int(step, shape.elements())?;
    Ok(rows(shape))
}

/// Launches the gradient of a softmax of reals.
pub(crate) fn softmax(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let (rows, len) = countable(launch.step)?;
    let record = SoftmaxBack {
        dy: launch.input(0)?,
        y: launch.input(1)?,
        dx: launch.output(0)?,
        rows: rows as i32,
        len: len as i32,
        log: launch.step.attrs::<SoftmaxAttrs>()?.log as i32,
        accumulate: (launch.accumulate & 1) as i32,
        ..SoftmaxBack::default()
    };
    let (warp, grid, threads) = rows_grid(rows, len);
    launch.grid(
        if warp { "softmax_backward_f32_warp" } else { "softmax_backward_f32_block" },
        grid,
        threads,
        &record,
    )
}

/// Launches the gradient of an int8 softmax.
pub(crate) fn softmax_quantized(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let (rows, len) = countable(launch.step)?;
    let attrs: &QSoftmaxAttrs = launch.step.attrs()?;
    let record = SoftmaxBack {
        dy: launch.input(0)?,
        y: launch.input(1)?,
        table: launch.input(2)?,
        dx: launch.output(0)?,
        rows: rows as i32,
        len: len as i32,
        accumulate: (launch.accumulate & 1) as i32,
        out_zero_point: attrs.out_zero_point,
        inv_scale: attrs.inv_scale,
        ..SoftmaxBack::default()
    };
    // A warp a row, however long.
    let (_, grid, threads) = rows_grid(rows, 1);
    launch.grid("softmax_backward_qs8", grid, threads, &record)
}

/// Launches the gradient of a normalization, and those of its scale and shift.
pub(crate) fn norm(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let step = launch.step;
    let attrs: &NormAttrs = step.attrs()?;
    let shape = step.input(1)?.shape;
    let len = normalized(shape, attrs.axes).ok_or(KernelError::Operands(step.op))?;
    launch.terms.of_norm(step.op, len)?;
    let sums = launch.sums;
    if [sums.down, sums.up, sums.sparse, sums.dense].iter().any(|sum| *sum != 0) {
        return Err(KernelError::Terms(step.op));
    }
    int(step, shape.elements())?;
    let rows = shape.elements().checked_div(len).unwrap_or(0);
    let trained = sums.scale != 0 || sums.shift != 0;
    let record = NormBack {
        dy: launch.input(0)?,
        input: launch.input(1)?,
        scale: launch.optional(2)?,
        dx: if step.outputs().is_empty() { 0 } else { launch.output(0)? },
        terms: launch.terms()?,
        moments: if trained { launch.scratch(rows.saturating_mul(8))? } else { 0 },
        dscale: sums.scale,
        dshift: sums.shift,
        rows: rows as i32,
        len: len as i32,
        kind: attrs.kind as i32,
        accumulate: (launch.accumulate & 1) as i32,
        epsilon: attrs.epsilon,
        reserved: 0,
    };
    if trained || record.dx != 0 {
        let (warp, grid, threads) = rows_grid(rows, len);
        launch.grid(
            if warp { "norm_backward_f32_warp" } else { "norm_backward_f32_block" },
            grid,
            threads,
            &record,
        )?;
    }
    if trained {
        launch.grid("norm_backward_terms", (len.div_ceil(32) as u32, 1, 1), THREADS, &record)?;
    }
    Ok(())
}

/// Launches the gradient of a reduction.
pub(crate) fn reduce(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let step = launch.step;
    let attrs: &ReduceAttrs = step.attrs()?;
    let first = operands(step);
    let (dx, results) = (step.output(0)?.shape, step.input(0)?.shape.elements());
    let axes = Axes::new(dx, attrs.axes);
    let Axes { kept, reduced, count } = axes;
    let function = ReduceFn::from_code(attrs.function).ok_or(KernelError::Operands(step.op))?;
    let input = step.inputs().get(first).map(|input| input.dtype);
    let record = ReduceBack {
        dy: launch.input(0)?,
        mask: if first == 2 { launch.input(1)? } else { 0 },
        input: if input.is_some() { launch.input(first)? } else { 0 },
        dx: launch.output(0)?,
        results: int(step, results)?,
        count: int(step, count)?,
        kept_rank: kept.rank,
        reduced_rank: reduced.rank,
        kept: kept.extents,
        kept_strides: kept.strides[0],
        reduced: reduced.extents,
        reduced_strides: reduced.strides[0],
        function: attrs.function as i32,
        codes: i32::from(input == Some(DType::I8)),
        accumulate: (launch.accumulate & 1) as i32,
        side: i32::from(axes.side_by_side()),
    };
    int(step, dx.elements())?;
    if matches!(function, ReduceFn::Sum | ReduceFn::Mean) {
        return launch.elements("reduce_backward_spread", dx.elements(), &record);
    }
    launch.grid("reduce_backward_block", (record.results as u32, 1, 1), THREADS, &record)
}
