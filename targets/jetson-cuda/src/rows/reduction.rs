//! What looks along axes: reductions, positions of extremes, softmax, normalization.

use ingraft_kernel::KernelError;
use ingraft_kernel::attrs::{ArgReduceAttrs, NormAttrs, ReduceAttrs, SoftmaxAttrs};
use ingraft_kernel::norm::normalized;
use ingraft_kernel::reduce::ReduceFn;
use ingraft_tensor::{DType, Shape};

use crate::launch::{Launch, int};
use crate::params::float::{ArgReduce, Norm, Reduce, Softmax};
use crate::rows::walk::Walk;

/// Threads of a block.
pub(crate) const THREADS: u32 = 256;
/// Threads of a warp; rows of as many warps are one block.
const WARP: usize = 32;
/// Warps of a block where each takes a row.
const WARPS: usize = 4;
/// Elements from which a row takes a block: more than a warp keeps in registers.
const LONG: usize = 257;
/// Elements from which a result takes a block.
const DEEP: usize = 512;
/// Elements from which results that lie side by side take more threads each.
const SHALLOW: usize = 128;

/// The axes of a shape that a reduction keeps, and those that it reduces.
#[derive(Clone, Copy)]
pub(crate) struct Axes {
    pub(crate) kept: Walk<1>,
    pub(crate) reduced: Walk<1>,
    /// Elements of a result.
    pub(crate) count: usize,
}

impl Axes {
    /// Those of `shape`, of which the bits of `axes` are reduced.
    pub(crate) fn new(shape: Shape, axes: u32) -> Self {
        let all = shape.dims().iter().zip(shape.strides()).zip(0u32..);
        let part = |reduced: bool| {
            let own = all.clone().filter(move |(_, axis)| (axes >> axis & 1 == 1) == reduced);
            own.map(|((extent, stride), _)| (*extent, [stride as i32]))
        };
        let count = part(true).fold(1usize, |n, (extent, _)| n.saturating_mul(extent as usize));
        Self { kept: Walk::new(part(false)), reduced: Walk::new(part(true)), count }
    }

    /// Whether what belongs to neighboring results lies side by side.
    pub(crate) fn side_by_side(&self) -> bool {
        let last = (self.kept.rank as usize).saturating_sub(1);
        self.kept.strides[0][last] == 1
    }
}

/// Rows along the last axis, and elements of each.
pub(crate) fn rows(shape: Shape) -> (usize, usize) {
    let len = shape.dims().last().map_or(1, |len| *len as usize);
    (shape.elements().checked_div(len).unwrap_or(0), len)
}

/// Launches a reduction.
pub(crate) fn reduce(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let step = launch.step;
    let attrs: &ReduceAttrs = step.attrs()?;
    let (input, results) = (step.input(0)?, step.output(0)?.shape.elements());
    let axes = Axes::new(input.shape, attrs.axes);
    let Axes { kept, reduced, count } = axes;
    let mean = ReduceFn::from_code(attrs.function) == Some(ReduceFn::Mean);
    let codes = input.dtype == DType::I8;
    let function = if codes && mean { ReduceFn::Sum.code() } else { attrs.function };
    let record = Reduce {
        input: launch.input(0)?,
        output: launch.output(0)?,
        results: int(step, results)?,
        count: int(step, count)?,
        kept_rank: kept.rank,
        reduced_rank: reduced.rank,
        kept: kept.extents,
        kept_strides: kept.strides[0],
        reduced: reduced.extents,
        reduced_strides: reduced.strides[0],
        function: function as i32,
        in_zero_point: attrs.in_zero_point,
        out_zero_point: attrs.out_zero_point,
        factor: if codes && mean { attrs.ratio / count.max(1) as f32 } else { attrs.ratio },
        lo: attrs.lo,
        hi: attrs.hi,
    };
    let side = results > 1 && axes.side_by_side();
    let (lanes, suffix, threads) = match (side, count) {
        (true, ..SHALLOW) => (32, "side", THREADS),
        (true, _) => (8, "deep", 4 * THREADS),
        (false, ..DEEP) => (8, "rows", THREADS),
        (false, _) => (1, "one", THREADS),
    };
    let family = match input.dtype {
        DType::F32 => "f32",
        DType::I8 => "qs8",
        DType::I32 => "s32",
        _ => "s64",
    };
    let blocks = results.div_ceil(lanes) as u32;
    launch.grid(&format!("reduce_{family}_{suffix}"), (blocks, 1, 1), threads, &record)
}

/// Launches a search for extremes.
pub(crate) fn arg_reduce(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let step = launch.step;
    let attrs: &ArgReduceAttrs = step.attrs()?;
    let input = step.input(0)?;
    let from = input.shape.dims().get(attrs.axis as usize..).and_then(<[u32]>::split_first);
    let (extent, inner) = from.ok_or(KernelError::Operands(step.op))?;
    let results = step.output(0)?.shape.elements();
    let record = ArgReduce {
        input: launch.input(0)?,
        output: launch.output(0)?,
        results: int(step, results)?,
        extent: *extent as i32,
        inner: int(step, inner.iter().map(|extent| *extent as usize).product())?,
        smallest: attrs.smallest as i32,
        last: attrs.last as i32,
        reserved: 0,
    };
    let kernel = match input.dtype {
        DType::F32 => "arg_f32",
        DType::I8 => "arg_qs8",
        DType::I32 => "arg_s32",
        _ => "arg_s64",
    };
    launch.grid(kernel, (results.div_ceil(WARPS) as u32, 1, 1), (WARPS * WARP) as u32, &record)
}

/// The grid and the threads of a block for rows of `len`, and whether each row takes a warp.
pub(crate) fn rows_grid(rows: usize, len: usize) -> (bool, (u32, u32, u32), u32) {
    if len < LONG {
        (true, (rows.div_ceil(WARPS) as u32, 1, 1), (WARPS * WARP) as u32)
    } else {
        (false, (rows as u32, 1, 1), THREADS)
    }
}

/// Launches an f32 softmax.
pub(crate) fn softmax(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let step = launch.step;
    let attrs: &SoftmaxAttrs = step.attrs()?;
    let (rows, len) = rows(step.input(0)?.shape);
    let record = Softmax {
        input: launch.input(0)?,
        output: launch.output(0)?,
        rows: int(step, rows)?,
        len: int(step, len)?,
        log: attrs.log as i32,
        reserved: 0,
    };
    let (warp, grid, threads) = rows_grid(rows, len);
    launch.grid(if warp { "softmax_f32_warp" } else { "softmax_f32_block" }, grid, threads, &record)
}

/// Launches a normalization.
pub(crate) fn norm(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let step = launch.step;
    let attrs: &NormAttrs = step.attrs()?;
    let shape = step.input(0)?.shape;
    let len = normalized(shape, attrs.axes).ok_or(KernelError::Operands(step.op))?;
    launch.terms.of_norm(step.op, len)?;
    let rows = shape.elements().checked_div(len).unwrap_or(0);
    let record = Norm {
        input: launch.input(0)?,
        scale: launch.optional(1)?,
        shift: launch.optional(2)?,
        output: launch.output(0)?,
        terms: launch.terms()?,
        rows: int(step, rows)?,
        len: int(step, len)?,
        kind: attrs.kind as i32,
        epsilon: attrs.epsilon,
    };
    let (warp, grid, threads) = rows_grid(rows, len);
    launch.grid(if warp { "norm_f32_warp" } else { "norm_f32_block" }, grid, threads, &record)
}
