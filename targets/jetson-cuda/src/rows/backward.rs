//! Gradients of pools, additions, tables and copies.

use ingraft_kernel::attrs::{CopyAttrs, PoolAttrs};
use ingraft_kernel::{KernelError, Step};
use ingraft_tensor::{DType, MAX_RANK, Shape};

use super::layer_backward::operands;
use crate::launch::{Launch, int};
use crate::params::{Fill, GatherBack, LookupBack, PoolBack, Window};

/// Reads of one element from which a block shares them out.
const MANY: i32 = 64;
/// Threads of such a block.
const REPEATERS: u32 = 128;

/// Launches the gradient of a pool.
pub(crate) fn pool(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let step = launch.step;
    let attrs: &PoolAttrs = step.attrs()?;
    let error = KernelError::Operands(step.op);
    let first = operands(step);
    let (dx, dy) = (step.output(0)?.shape, step.input(0)?.shape);
    let ([n, h, w, c], [_, oh, ow, _]) = (dx.nhwc().ok_or(error)?, dy.nhwc().ok_or(error)?);
    let kept = step.inputs().get(first).map(|x| x.dtype);
    let [_, _, bottom, right] = attrs.window.pad;
    let record = PoolBack {
        dy: launch.input(0)?,
        mask: if first == 2 { launch.input(1)? } else { 0 },
        input: if kept.is_some() { launch.input(first)? } else { 0 },
        dx: launch.output(0)?,
        n: int(step, n)?,
        h: int(step, h)?,
        w: int(step, w)?,
        c: int(step, c)?,
        oh: int(step, oh)?,
        ow: int(step, ow)?,
        window: Window::from(&attrs.window),
        pad_end: [bottom as i32, right as i32],
        kind: attrs.kind as i32,
        codes: i32::from(kept == Some(DType::I8)),
        accumulate: (launch.accumulate & 1) as i32,
        reserved: 0,
    };
    let count = dx.elements();
    int(step, count)?;
    launch.elements("pool_backward_f32_f32", count, &record)
}

/// Launches the gradient of an operand of an addition, or of a rounding step.
pub(crate) fn add(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let step = launch.step;
    let (dy, dx) = (step.input(0)?.shape, step.output(0)?.shape);
    let flat = Shape::new(&[dy.elements() as u32]).map_err(|_| KernelError::Operands(step.op))?;
    let (dy, dx) = if dy.elements() == dx.elements() { (flat, flat) } else { (dy, dx) };
    let missing = dy.rank().saturating_sub(dx.rank());
    let mut gather = Gather::default();
    for (axis, (extent, stride)) in dy.dims().iter().zip(dy.strides()).enumerate() {
        let own = axis.checked_sub(missing).map_or(1, |axis| dx.dim(axis));
        let repeats = own != *extent as usize;
        let to = axis.checked_sub(missing).and_then(|axis| dx.strides().get(axis).copied()).unwrap_or(0);
        gather.push(step, *extent, stride as i32, if repeats { None } else { Some(to as i32) })?;
    }
    let mask = if operands(step) == 2 { launch.input(1)? } else { 0 };
    gather.launch(launch, mask)
}

/// Launches the gradient of a table.
pub(crate) fn lookup(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let count = launch.step.output(0)?.shape.elements();
    let record = LookupBack {
        dy: launch.input(0)?,
        input: launch.input(1)?,
        table: launch.input(2)?,
        dx: launch.output(0)?,
        count: int(launch.step, count)?,
        accumulate: (launch.accumulate & 1) as i32,
    };
    launch.elements("lookup_backward_f32_f32", count, &record)
}

/// Launches the gradient of a strided copy.
pub(crate) fn copy(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let step = launch.step;
    let attrs: &CopyAttrs = step.attrs()?;
    let mut gather = Gather::default();
    for (extent, (from, to)) in used(attrs) {
        gather.push(step, extent, to as i32, if from == 0 { None } else { Some(from) })?;
    }
    gather.record.dy_first = int(step, attrs.out_offset as usize)?;
    gather.record.dx_first = int(step, attrs.in_offset as usize)?;
    let count = step.output(0)?.shape.elements();
    if gather.count != count && launch.accumulate & 1 == 0 {
        // What was not copied has no gradient.
        let record = Fill { output: launch.output(0)?, value: 0, count: int(step, count)?, size: 4 };
        launch.elements("fill_x", count, &record)?;
        launch.accumulate |= 1;
    }
    gather.launch(launch, 0)
}

/// Whether a copy reads each element once, or repeats it along whole axes.
pub(crate) fn copies_once(step: &Step<'_>) -> bool {
    let Ok(attrs) = step.attrs::<CopyAttrs>() else { return false };
    let mut axes: Vec<(usize, usize)> = used(attrs)
        .filter(|(extent, (from, _))| *from != 0 && *extent > 1)
        .map(|(extent, (from, _))| (from.unsigned_abs() as usize, extent as usize))
        .collect();
    axes.sort_unstable();
    let mut reach = 0usize;
    axes.iter().all(|(stride, extent)| {
        let apart = *stride > reach;
        reach = reach.saturating_add(stride.saturating_mul(extent.saturating_sub(1)));
        apart
    })
}

/// Extents of a copy with the strides it reads and writes by.
fn used(attrs: &CopyAttrs) -> impl Iterator<Item = (u32, (i32, u32))> {
    let strides = attrs.in_strides.into_iter().zip(attrs.out_strides);
    attrs.extents.into_iter().zip(strides).take(attrs.rank as usize)
}

/// Axes of a gradient by whether they are kept or summed over.
struct Gather {
    record: GatherBack,
    kept: usize,
    summed: usize,
    /// Elements written.
    count: usize,
    repeats: usize,
}

impl Default for Gather {
    fn default() -> Self {
        Self { record: GatherBack::default(), kept: 0, summed: 0, count: 1, repeats: 1 }
    }
}

impl Gather {
    /// Adds an axis, kept with the stride `to`, or summed over.
    fn push(&mut self, step: &Step<'_>, extent: u32, from: i32, to: Option<i32>) -> Result<(), KernelError> {
        let error = KernelError::Operands(step.op);
        let record = &mut self.record;
        if let Some(to) = to {
            let at = self.kept;
            *record.extents.get_mut(at).ok_or(error)? = extent as i32;
            *record.dy_strides.get_mut(at).ok_or(error)? = from;
            *record.dx_strides.get_mut(at).ok_or(error)? = to;
            self.kept += 1;
            self.count = self.count.saturating_mul(extent as usize);
        } else {
            let at = self.summed;
            *record.repeat_extents.get_mut(at).ok_or(error)? = extent as i32;
            *record.repeat_strides.get_mut(at).ok_or(error)? = from;
            self.summed += 1;
            self.repeats = self.repeats.saturating_mul(extent as usize);
        }
        Ok(())
    }

    fn launch(self, launch: &mut Launch<'_, '_>, mask: u64) -> Result<(), KernelError> {
        let mut record = GatherBack {
            dy: launch.input(0)?,
            mask,
            dx: launch.output(0)?,
            count: int(launch.step, self.count)?,
            repeats: int(launch.step, self.repeats)?,
            accumulate: (launch.accumulate & 1) as i32,
            ..self.record
        };
        // One loop serves both ranks.
        record.rank = MAX_RANK as i32;
        for extent in record.extents.iter_mut().skip(self.kept) {
            *extent = 1;
        }
        for extent in record.repeat_extents.iter_mut().skip(self.summed) {
            *extent = 1;
        }
        if record.repeats < MANY {
            return launch.elements("gather_backward_each", self.count, &record);
        }
        launch.grid("gather_backward_many", (record.count as u32, 1, 1), REPEATERS, &record)
    }
}
