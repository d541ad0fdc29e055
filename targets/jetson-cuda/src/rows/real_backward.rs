//! Gradients of functions, choices, picks and products of reals.

use ingraft_kernel::attrs::{
    BinaryBackwardAttrs, GatherAttrs, MatMulBackwardAttrs, UnaryAttrs, WhereBackwardAttrs,
};
use ingraft_kernel::{KernelError, Step};
use ingraft_tensor::{DType, Shape};

use super::layer_backward::operands;
use super::walk::{Walk, broadcast};
use crate::launch::{Launch, int};
use crate::params::Fill;
use crate::params::gradient::{Gathered, MatMulBack, PickBack, UnaryBack};

/// Reads of one element from which a block shares them out, and threads of such a block.
const MANY: usize = 64;
const REPEATERS: u32 = 128;
/// Rows and columns of a block of a product, and its threads.
const SIDE: usize = 32;
const THREADS: u32 = 256;

/// Launches the gradient of a function of one operand.
pub(crate) fn unary(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let step = launch.step;
    let attrs: &UnaryAttrs = step.attrs()?;
    let count = step.output(0)?.shape.elements();
    let record = UnaryBack {
        dy: launch.input(0)?,
        input: launch.input(1)?,
        dx: launch.output(0)?,
        count: int(step, count)?,
        function: attrs.function as i32,
        alpha: attrs.alpha,
        beta: attrs.beta,
        accumulate: (launch.accumulate & 1) as i32,
        reserved: 0,
    };
    launch.elements("unary_backward_f32", count, &record)
}

/// Launches the gradient of an operand of a function of two.
pub(crate) fn binary(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let step = launch.step;
    let attrs: &BinaryBackwardAttrs = step.attrs()?;
    let first = operands(step);
    let (lhs, rhs) = (step.input(first)?, step.input(first + 1)?);
    let cut = Cut::new(step, step.input(0)?.shape, [lhs.shape, rhs.shape], attrs.operand == 1)?;
    let record = Gathered {
        mask: if first == 2 { launch.input(1)? } else { 0 },
        lhs: launch.input(first)?,
        rhs: launch.input(first + 1)?,
        function: attrs.function as i32,
        codes: [lhs, rhs].map(|operand| i32::from(operand.dtype == DType::I8)),
        zero_points: attrs.zero_points,
        scales: attrs.scales,
        lo: attrs.lo,
        hi: attrs.hi,
        ..Gathered::default()
    };
    cut.launch(launch, "binary", record)
}

/// Launches the gradient of what a choice may have taken.
pub(crate) fn choose(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let step = launch.step;
    let attrs: &WhereBackwardAttrs = step.attrs()?;
    let shapes = [step.input(1)?.shape, step.output(0)?.shape];
    let cut = Cut::new(step, step.input(0)?.shape, shapes, true)?;
    let record = Gathered { lhs: launch.input(1)?, function: attrs.operand as i32, ..Gathered::default() };
    cut.launch(launch, "where", record)
}

/// Dimensions of an output, by whether its wanted operand has them or was repeated along them.
struct Cut {
    kept: Walk<3>,
    summed: Walk<3>,
    count: usize,
    repeats: usize,
    right: bool,
}

impl Cut {
    fn new(step: &Step<'_>, dy: Shape, operands: [Shape; 2], right: bool) -> Result<Self, KernelError> {
        let [lhs, rhs] = operands.map(|operand| broadcast(operand, dy));
        let wanted = if right { rhs } else { lhs };
        let strides = dy.strides();
        let dims = || {
            let axes = dy.dims().iter().zip(strides).zip(lhs.iter().zip(&rhs)).zip(wanted);
            axes.map(|(((extent, own), (lhs, rhs)), wanted)| {
                (wanted != 0, (*extent, [own as i32, *lhs, *rhs]))
            })
        };
        let part = |own: bool| dims().filter(move |(kept, _)| *kept == own).map(|(_, dim)| dim);
        let product = |own: bool| part(own).fold(1usize, |n, (extent, _)| n.saturating_mul(extent as usize));
        int(step, dy.elements())?;
        let (kept, summed) = (Walk::new(part(true)), Walk::new(part(false)));
        Ok(Self { kept, summed, count: product(true), repeats: product(false), right })
    }

    fn launch(self, launch: &mut Launch<'_, '_>, name: &str, record: Gathered) -> Result<(), KernelError> {
        let record = Gathered {
            dy: launch.input(0)?,
            dx: launch.output(0)?,
            count: int(launch.step, self.count)?,
            repeats: int(launch.step, self.repeats)?,
            rank: self.kept.rank,
            summed_rank: self.summed.rank,
            extents: self.kept.extents,
            strides: self.kept.strides,
            summed: self.summed.extents,
            summed_strides: self.summed.strides,
            right: i32::from(self.right),
            accumulate: (launch.accumulate & 1) as i32,
            ..record
        };
        if self.repeats < MANY {
            return launch.elements(&format!("{name}_backward_each"), self.count, &record);
        }
        launch.grid(&format!("{name}_backward_many"), (record.count as u32, 1, 1), REPEATERS, &record)
    }
}

/// Launches the gradient of a factor of batched products.
pub(crate) fn matmul(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let step = launch.step;
    let attrs: &MatMulBackwardAttrs = step.attrs()?;
    let error = KernelError::Operands(step.op);
    let parts = |shape: Shape| -> Option<(Shape, [u32; 2])> {
        let (batch, matrix) = shape.dims().split_last_chunk::<2>()?;
        Some((Shape::new(batch).ok()?, *matrix))
    };
    let left = attrs.operand == 0;
    let (dy, [m, n]) = parts(step.input(0)?.shape).ok_or(error)?;
    let (other, [rows, columns]) = parts(step.input(1)?.shape).ok_or(error)?;
    let (wanted, _) = parts(step.output(0)?.shape).ok_or(error)?;
    let k = if left { rows } else { columns };
    let cut = Cut::new(step, dy, [other, wanted], true)?;
    let [rows, columns, depth] = if left { [m, k, n] } else { [k, n, m] };
    int(step, step.output(0)?.shape.elements())?;
    let record = MatMulBack {
        dy: launch.input(0)?,
        other: launch.input(1)?,
        dx: launch.output(0)?,
        rows: rows as i32,
        columns: columns as i32,
        depth: depth as i32,
        left: i32::from(left),
        repeats: int(step, cut.repeats)?,
        rank: cut.kept.rank,
        summed_rank: cut.summed.rank,
        accumulate: (launch.accumulate & 1) as i32,
        extents: cut.kept.extents,
        strides: cut.kept.strides,
        summed: cut.summed.extents,
        summed_strides: cut.summed.strides,
    };
    let blocks = (rows as usize).div_ceil(SIDE).saturating_mul(cut.count);
    let grid = (blocks as u32, (columns as usize).div_ceil(SIDE) as u32, 1);
    launch.grid("matmul_backward_f32", grid, THREADS, &record)
}

/// Launches the gradient of what was picked by index.
pub(crate) fn pick(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let step = launch.step;
    let attrs: &GatherAttrs = step.attrs()?;
    let (data, indices) = (step.output(0)?.shape, step.input(1)?);
    let (outer, rest) =
        data.dims().split_at_checked(attrs.axis as usize).ok_or(KernelError::Operands(step.op))?;
    let (axis, inner) = rest.split_first().ok_or(KernelError::Operands(step.op))?;
    let product = |dims: &[u32]| dims.iter().fold(1usize, |n, extent| n.saturating_mul(*extent as usize));
    let (outer, slice) = (product(outer), product(inner));
    if launch.accumulate & 1 == 0 {
        let count = int(step, data.elements())?;
        let record = Fill { output: launch.output(0)?, value: 0, count, size: 4 };
        launch.elements("fill_x", data.elements(), &record)?;
    }
    let record = PickBack {
        dy: launch.input(0)?,
        indices: launch.input(1)?,
        dx: launch.output(0)?,
        outer: int(step, outer)?,
        picks: int(step, indices.shape.elements())?,
        axis: *axis as i32,
        slice: int(step, slice)?,
        wide: i32::from(indices.dtype == DType::I64),
        reserved: 0,
    };
    launch.elements("pick_backward_f32", outer.saturating_mul(slice), &record)
}
