//! Gradients of recurrent layers, through time.
//!
//! The states are computed again from the sequence, one direction of one sample at a time, so that nothing of the
//! forward step is kept but its operands. A step takes the gradient of one of the forward outputs; where several have
//! one, their gradients are the sum of several steps.

mod gru;
mod lstm;

pub use gru::KERNEL as KERNEL_GRU;
pub use lstm::KERNEL as KERNEL_LSTM;

use ingraft_tensor::{DType, Shape};

use super::rows::add;
use crate::attrs::{RecurrentAttrs, RecurrentBackwardAttrs};
use crate::recurrent::{BOTH, Layer};
use crate::window::{row, row_mut};
use crate::{Call, KernelError, Step, check};

/// [`RecurrentBackwardAttrs::incoming`]: the states of all time steps.
pub const ALL_STATES: u32 = 0;
/// [`RecurrentBackwardAttrs::incoming`]: the last state.
pub const LAST_STATE: u32 = 1;
/// [`RecurrentBackwardAttrs::incoming`]: the last cell.
pub const LAST_CELL: u32 = 2;
/// Bit of [`RecurrentBackwardAttrs::wanted`]: the sequence.
pub const SEQUENCE: u32 = 1;
/// Bit of [`RecurrentBackwardAttrs::wanted`]: the initial state.
pub const STATE: u32 = 2;
/// Bit of [`RecurrentBackwardAttrs::wanted`]: the initial cell.
pub const CELL: u32 = 4;

/// The extents of the layer whose operands begin at input 1.
fn layer(attrs: &RecurrentBackwardAttrs, gates: usize, shapes: [Shape; 3]) -> Option<Layer> {
    let forward =
        RecurrentAttrs { direction: attrs.direction, linear_before_reset: attrs.linear_before_reset };
    Layer::new(&forward, gates, shapes)
}

fn layer_of(step: &Step<'_>, gates: usize) -> Result<Layer, KernelError> {
    let shapes = [step.input(1)?.shape, step.input(2)?.shape, step.input(3)?.shape];
    layer(step.attrs()?, gates, shapes).ok_or(KernelError::Operands(step.op))
}

/// Checks `[dy, x, weight, recurrent, bias, state, ..]` and the wanted outputs; further inputs are the caller's.
fn check_operands(step: &Step<'_>, layer: &Layer, outputs: u32) -> Result<(), KernelError> {
    let attrs: &RecurrentBackwardAttrs = step.attrs()?;
    let known = attrs.direction <= BOTH && attrs.linear_before_reset <= 1 && attrs.wanted >> outputs == 0;
    check::require(step, known && attrs.incoming < outputs && attrs.wanted != 0)?;
    let mut operands = step.inputs().iter().chain(step.outputs());
    check::require(step, operands.all(|operand| operand.dtype == DType::F32))?;
    let (sequence, state) = (layer.time.checked_mul(layer.state()), Some(layer.state()));
    let incoming = if attrs.incoming == ALL_STATES { sequence } else { state };
    check::require(step, Some(step.input(0)?.shape.elements()) == incoming)?;
    let bias = layer.directions.wrapping_mul(2).wrapping_mul(layer.rows());
    let sized = step.input(4)?.shape.elements() == bias && Some(step.input(5)?.shape.elements()) == state;
    let x = step.input(1)?.shape.elements();
    let wanted = [(SEQUENCE, x), (STATE, layer.state()), (CELL, layer.state())];
    let wanted = wanted.into_iter().filter(|(bit, _)| attrs.wanted & bit != 0).map(|(_, elements)| elements);
    check::require(step, sized && step.outputs().iter().map(|out| out.shape.elements()).eq(wanted))
}

/// What is read, and the gradients to add to, of a step whose cells are its caller's.
struct Unrolled<'c> {
    attrs: RecurrentBackwardAttrs,
    layer: Layer,
    dy: &'c [f32],
    x: &'c [f32],
    weights: [&'c [f32]; 3],
    first: &'c [f32],
    /// Gradients of sequence, initial state and initial cell, where they are wanted.
    outputs: [Option<&'c mut [f32]>; 3],
}

/// One direction of one sample.
#[derive(Clone, Copy)]
struct Lane {
    /// The direction.
    d: usize,
    /// The sample.
    b: usize,
    /// Row of the state.
    state: usize,
}

impl<'c> Unrolled<'c> {
    fn new(call: &mut Call<'c, '_>, gates: usize) -> Result<Self, KernelError> {
        let error = call.operands();
        let attrs = *call.attrs::<RecurrentBackwardAttrs>()?;
        let shapes = [call.input(1)?.shape(), call.input(2)?.shape(), call.input(3)?.shape()];
        let layer = layer(&attrs, gates, shapes).ok_or(error)?;
        let weights = [call.slice(2)?, call.slice(3)?, call.slice(4)?];
        let (dy, x, first) = (call.slice(0)?, call.slice(1)?, call.slice(5)?);
        let outputs = outputs(call, attrs.wanted).ok_or(error)?;
        Ok(Self { attrs, layer, dy, x, weights, first, outputs })
    }

    /// Every direction of every sample.
    fn lanes(&self) -> impl Iterator<Item = Lane> + use<> {
        let Layer { directions, batch, .. } = self.layer;
        (0..directions).flat_map(move |d| {
            (0..batch).map(move |b| Lane { d, b, state: d.wrapping_mul(batch).wrapping_add(b) })
        })
    }

    /// Row of the sequence that `lane` reads after `i` steps.
    fn input(&self, lane: Lane, i: usize) -> usize {
        let t = self.layer.position(self.attrs.direction, lane.d, i);
        t.wrapping_mul(self.layer.batch).wrapping_add(lane.b)
    }

    /// What `lane` reads after `i` steps.
    fn x(&self, lane: Lane, i: usize) -> Option<&'c [f32]> {
        row(self.x, self.input(lane, i), self.layer.inputs)
    }

    /// The gradient of the last state and the last cell, as they come in.
    fn last(&self, lane: Lane, dh: &mut [f32], dc: &mut [f32]) -> Option<()> {
        dh.fill(0.0);
        dc.fill(0.0);
        let to = match self.attrs.incoming {
            LAST_STATE => dh,
            LAST_CELL => dc,
            _ => return Some(()),
        };
        add(to, row(self.dy, lane.state, self.layer.hidden)?);
        Some(())
    }

    /// Adds the gradient that comes in at the state after `i + 1` steps.
    fn arriving(&self, lane: Lane, i: usize, dh: &mut [f32]) -> Option<()> {
        if self.attrs.incoming == ALL_STATES {
            let t = self.layer.position(self.attrs.direction, lane.d, i);
            let states = self.layer.directions.wrapping_mul(self.layer.batch);
            add(dh, row(self.dy, t.wrapping_mul(states).wrapping_add(lane.state), self.layer.hidden)?);
        }
        Some(())
    }

    /// The gradient of what `lane` read after `i` steps.
    fn dx(&mut self, lane: Lane, i: usize) -> Option<&mut [f32]> {
        let (at, len) = (self.input(lane, i), self.layer.inputs);
        let [dx, ..] = &mut self.outputs;
        row_mut(dx.as_mut()?, at, len)
    }

    /// Adds what reached the initial state and cell.
    fn finish(&mut self, lane: Lane, dh: &[f32], dc: &[f32]) -> Option<()> {
        let [_, state, cell] = &mut self.outputs;
        for (to, from) in [(state, dh), (cell, dc)] {
            if let Some(to) = to {
                add(row_mut(to, lane.state, self.layer.hidden)?, from);
            }
        }
        Some(())
    }
}

/// The outputs of `call`, each in the place of what it is the gradient of, zeroed unless it is added to.
fn outputs<'c>(call: &mut Call<'c, '_>, wanted: u32) -> Option<[Option<&'c mut [f32]>; 3]> {
    let accumulate = call.accumulate;
    let mut given = core::mem::take(&mut call.outputs).iter_mut().enumerate();
    let mut placed = [None, None, None];
    for (slot, bit) in placed.iter_mut().zip([SEQUENCE, STATE, CELL]) {
        if wanted & bit == 0 {
            continue;
        }
        let (index, output) = given.next()?;
        let output: &mut [f32] = output.as_slice()?;
        if accumulate >> index & 1 == 0 {
            output.fill(0.0);
        }
        *slot = Some(output);
    }
    Some(placed)
}
