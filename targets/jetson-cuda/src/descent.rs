//! The optimizer's step where parameters and gradients lie.

use cudarc::driver::CudaSlice;
use ingraft_kernel::descent::{Descent, Move, Rule, SQUARES};
use zerocopy::{Immutable, IntoBytes};

use crate::CudaError;
use crate::device::Device;
use crate::launch::launch_alone;
use crate::memory::CudaMemory;
use crate::params;

/// A group of parameters that moves alike, and how: the twin of `Moved` in `cu/types.cuh`.
#[derive(Clone, Copy, Debug, Default, PartialEq, IntoBytes, Immutable)]
#[repr(C)]
struct Moved {
    parameters: u64,
    gradients: u64,
    first: u64,
    second: u64,
    len: i32,
    rule: i32,
    penalized: i32,
    shrinks: i32,
    gradient: f32,
    scale: f32,
    penalty: f32,
    keep: f32,
    reach: f32,
    momentum: f32,
    new_first: f32,
    second_beta: f32,
    new_second: f32,
    root_bias: f32,
    epsilon: f32,
    threshold: f32,
}

/// Bytes of a group in its table.
pub(crate) const GROUP: usize = size_of::<Moved>();

/// Threads of a block, and parameters that it moves or whose gradients it squares.
const THREADS: u32 = 128;
const PIECE: usize = SQUARES;

/// Tables that the kernels read: how groups move, in which pieces, and sums of squares of the pieces.
#[derive(Default)]
pub(crate) struct Course {
    groups: Vec<Moved>,
    /// Group and first parameter of every piece.
    pieces: Vec<u32>,
    tables: Option<Tables>,
}

/// The tables on the device.
struct Tables {
    groups: CudaSlice<u8>,
    pieces: CudaSlice<u8>,
    totals: CudaSlice<u8>,
}

impl Course {
    /// Bytes on the device.
    pub(crate) fn held(&self) -> usize {
        let tables = self.tables.iter().flat_map(|tables| [&tables.groups, &tables.pieces, &tables.totals]);
        tables.map(CudaSlice::len).sum()
    }

    /// Brings `groups` to the device where they are not what is there.
    fn set(&mut self, device: &Device, memory: &CudaMemory, groups: Vec<Moved>) -> Result<(), CudaError> {
        if groups == self.groups && self.tables.is_some() {
            return Ok(());
        }
        let lengths = |groups: &[Moved]| groups.iter().map(|group| group.len).collect::<Vec<_>>();
        if self.tables.is_none() || lengths(&groups) != lengths(&self.groups) {
            self.pieces = (0u32..).zip(&groups).flat_map(|(index, group)| pieces(index, group.len)).collect();
            // What is replaced may still be read.
            memory.lane.stream.synchronize()?;
            self.tables = Some(Tables {
                groups: device.zeros(groups.len().saturating_mul(GROUP))?,
                pieces: device.copy_of(self.pieces.as_bytes())?,
                totals: device.zeros(self.blocks().saturating_mul(size_of::<f32>()))?,
            });
        }
        self.groups = groups;
        if let Some(tables) = &mut self.tables {
            memory.lane.stream.memcpy_htod(self.groups.as_bytes(), &mut tables.groups)?;
        }
        Ok(())
    }

    /// Pieces of all groups: a block each.
    fn blocks(&self) -> usize {
        self.pieces.len() / 2
    }

    fn record(&self, device: &Device) -> params::Descent {
        self.tables.as_ref().map_or(params::Descent::default(), |tables| params::Descent {
            groups: device.address(&tables.groups),
            pieces: device.address(&tables.pieces),
            totals: device.address(&tables.totals),
        })
    }
}

/// The pieces of a group of `len` parameters.
fn pieces(group: u32, len: i32) -> impl Iterator<Item = u32> {
    (0..len.max(0) as u32).step_by(PIECE).flat_map(move |first| [group, first])
}

/// Gives `take` the sums of squares of every group's gradients, a piece each; waits for them.
///
/// # Errors
/// [`CudaError`], also for gradients that are not collected.
pub(crate) fn squares(
    device: &Device,
    memory: &mut CudaMemory,
    groups: &mut dyn Iterator<Item = (&[f32], f32)>,
    take: &mut dyn FnMut(f32),
) -> Result<(), CudaError> {
    let mut moved = Vec::new();
    for (index, (gradients, scale)) in groups.enumerate() {
        // How the group moved last is read by none of this, and saves a copy where its gradients lie as they did.
        let before = memory.course.groups.get(index).copied().unwrap_or_default();
        moved.push(Moved {
            gradients: summed(device, memory, gradients)?,
            len: length(gradients)?,
            scale,
            ..before
        });
    }
    let mut course = core::mem::take(&mut memory.course);
    let done = course.set(device, memory, moved).and_then(|()| {
        let (record, blocks) = (course.record(device), course.blocks());
        launch_alone(device, memory, "gradient_squares", blocks as u32, THREADS, &record)?;
        let mut totals = vec![0.0f32; blocks];
        if let Some(tables) = &course.tables {
            memory.lane.stream.memcpy_dtoh(&tables.totals, totals.as_mut_bytes())?;
        }
        memory.lane.stream.synchronize()?;
        Ok(totals)
    });
    memory.course = course;
    done?.into_iter().for_each(take);
    Ok(())
}

/// Moves `groups` and forgets their gradients.
///
/// # Errors
/// [`CudaError`], also for parameters that are not mirrored or gradients that are not collected.
pub(crate) fn descend(
    device: &Device,
    memory: &mut CudaMemory,
    groups: &mut dyn Iterator<Item = Descent<'_>>,
) -> Result<(), CudaError> {
    let moved = groups.map(|group| of(device, memory, &group)).collect::<Result<Vec<_>, _>>()?;
    let mut course = core::mem::take(&mut memory.course);
    let done = course.set(device, memory, moved).and_then(|()| {
        launch_alone(device, memory, "descend", course.blocks() as u32, THREADS, &course.record(device))
    });
    memory.course = course;
    memory.era = memory.era.wrapping_add(1);
    done
}

/// The record of `group`.
fn of(device: &Device, memory: &CudaMemory, group: &Descent<'_>) -> Result<Moved, CudaError> {
    let mirrored = |values: &[f32]| match values {
        [] => Ok(0),
        values => memory.mirrored(device, values.as_bytes()).ok_or_else(elsewhere),
    };
    let Move { rule, gradient, scale, penalty, keep, reach, threshold } = group.moves;
    let base = Moved {
        parameters: mirrored(group.parameters)?,
        gradients: summed(device, memory, group.gradients)?,
        first: mirrored(group.state[0])?,
        second: mirrored(group.state[1])?,
        len: length(group.parameters)?,
        penalized: i32::from(penalty.is_some()),
        shrinks: i32::from(threshold.is_some()),
        gradient,
        scale,
        penalty: penalty.unwrap_or(0.0),
        keep,
        reach,
        threshold: threshold.unwrap_or(0.0),
        ..Moved::default()
    };
    Ok(match rule {
        Rule::Descent => base,
        Rule::Momentum { momentum } => Moved { rule: 1, momentum, ..base },
        Rule::Adam { first, second, new_second, root_bias, epsilon } => {
            Moved { rule: 2, new_first: first, second_beta: second, new_second, root_bias, epsilon, ..base }
        }
    })
}

fn summed(device: &Device, memory: &CudaMemory, gradients: &[f32]) -> Result<u64, CudaError> {
    memory.summed(device, gradients.as_bytes()).ok_or_else(elsewhere)
}

fn length(values: &[f32]) -> Result<i32, CudaError> {
    i32::try_from(values.len()).map_err(|_| elsewhere())
}

fn elsewhere() -> CudaError {
    CudaError::Driver("a group is not where parameters are moved".to_owned())
}
