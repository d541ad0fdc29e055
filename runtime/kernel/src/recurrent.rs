//! Recurrent layers with ONNX semantics and default activations, f32.
//!
//! Operands of both: x `[T, B, I]`, weight `[D, g·H, I]`, recurrent weight
//! `[D, g·H, H]`, bias `[D, 2·g·H]`, initial state `[D, B, H]`; outputs y
//! `[T, D, B, H]` and the last state `[D, B, H]`. D is 2 for both directions, g
//! the number of gates.

pub mod gru;
pub mod lstm;

pub use gru::KERNEL as KERNEL_GRU;
pub use lstm::KERNEL as KERNEL_LSTM;

use ingraft_tensor::{DType, Shape, bytes};

use crate::attrs::RecurrentAttrs;
use crate::walk::Rows;
use crate::window::row;
use crate::{KernelError, Step, check};

/// [`RecurrentAttrs::direction`]: from the first time step.
pub const FORWARD: u32 = 0;
/// [`RecurrentAttrs::direction`]: from the last time step.
pub const REVERSE: u32 = 1;
/// [`RecurrentAttrs::direction`]: both.
pub const BOTH: u32 = 2;

/// Extents of a recurrent layer, all but batch and time at least 1.
#[derive(Clone, Copy)]
pub(crate) struct Layer {
    pub(crate) directions: usize,
    pub(crate) time: usize,
    pub(crate) batch: usize,
    pub(crate) inputs: usize,
    pub(crate) hidden: usize,
    gates: usize,
}

impl Layer {
    pub(crate) fn new(
        attrs: &RecurrentAttrs,
        gates: usize,
        [x, weight, recurrent]: [Shape; 3],
    ) -> Option<Self> {
        let (&[time, batch, inputs], &[directions, rows, columns], &[again, recurrent_rows, hidden]) = (
            <&[u32; 3]>::try_from(x.dims()).ok()?,
            <&[u32; 3]>::try_from(weight.dims()).ok()?,
            <&[u32; 3]>::try_from(recurrent.dims()).ok()?,
        );
        let [time, batch, inputs, hidden] = [time, batch, inputs, hidden].map(|d| d as usize);
        let directions = directions as usize;
        let agree = directions == again as usize
            && directions == if attrs.direction == BOTH { 2 } else { 1 }
            && rows == recurrent_rows
            && columns as usize == inputs
            && rows as usize == hidden.checked_mul(gates)?
            && inputs > 0
            && hidden > 0;
        agree.then_some(Self { directions, time, batch, inputs, hidden, gates })
    }

    fn of(step: &Step<'_>, gates: usize) -> Result<Self, KernelError> {
        let shapes = [step.input(0)?.shape, step.input(1)?.shape, step.input(2)?.shape];
        Self::new(step.attrs()?, gates, shapes).ok_or(KernelError::Operands(step.op))
    }

    /// Rows of the weights of one direction.
    pub(crate) fn rows(&self) -> usize {
        self.gates.wrapping_mul(self.hidden)
    }

    /// Elements of the state.
    pub(crate) fn state(&self) -> usize {
        self.directions.wrapping_mul(self.batch).wrapping_mul(self.hidden)
    }

    /// Checks the operands that all layers share; inputs past the fifth and
    /// outputs past the second are the caller's.
    fn check(&self, step: &Step<'_>) -> Result<(), KernelError> {
        let attrs: &RecurrentAttrs = step.attrs()?;
        check::require(step, attrs.direction <= BOTH && attrs.linear_before_reset <= 1)?;
        let operands = step.inputs().iter().chain(step.outputs());
        check::require(step, operands.clone().all(|operand| operand.dtype == DType::F32))?;
        let elements = |shape: Shape| shape.elements();
        let bias =
            elements(step.input(3)?.shape) == self.directions.wrapping_mul(2).wrapping_mul(self.rows());
        let state = elements(step.input(4)?.shape) == self.state();
        let y = Some(elements(step.output(0)?.shape)) == self.time.checked_mul(self.state());
        check::require(step, bias && state && y && elements(step.output(1)?.shape) == self.state())
    }

    /// Scratch bytes: the gates of one sample.
    fn workspace(&self) -> usize {
        self.rows().wrapping_mul(size_of::<f32>())
    }

    /// The weights of direction `d`.
    pub(crate) fn weights<'a>(
        &self,
        d: usize,
        [weight, recurrent, bias]: [&'a [f32]; 3],
    ) -> Option<Weights<'a>> {
        let rows = self.rows();
        let (input_bias, recurrent_bias) = row(bias, d, rows.wrapping_mul(2))?.split_at_checked(rows)?;
        Some(Weights {
            input: row(weight, d, rows.wrapping_mul(self.inputs))?,
            recurrent: row(recurrent, d, rows.wrapping_mul(self.hidden))?,
            input_bias,
            recurrent_bias,
            direction: d,
        })
    }

    /// Where in the sequence direction `d` is after `i` steps.
    pub(crate) fn position(&self, direction: u32, d: usize, i: usize) -> usize {
        if direction == REVERSE || d == 1 { self.time.wrapping_sub(1).wrapping_sub(i) } else { i }
    }

    /// Calls `cell` for every direction, time step and sample in the order of
    /// the recurrence, with the weights of the direction, the input row, and the
    /// indices of the rows of the state and of y.
    fn unroll<'a>(
        &self,
        attrs: &RecurrentAttrs,
        [x, weight, recurrent, bias]: [&'a [f32]; 4],
        mut cell: impl FnMut(&Weights<'a>, &'a [f32], usize, usize) -> Option<()>,
    ) -> Option<()> {
        for d in 0..self.directions {
            let weights = self.weights(d, [weight, recurrent, bias])?;
            for i in 0..self.time {
                let t = self.position(attrs.direction, d, i);
                for b in 0..self.batch {
                    let x = row(x, t.wrapping_mul(self.batch).wrapping_add(b), self.inputs)?;
                    let state = d.wrapping_mul(self.batch).wrapping_add(b);
                    let y = t.wrapping_mul(self.directions).wrapping_mul(self.batch).wrapping_add(state);
                    cell(&weights, x, state, y)?;
                }
            }
        }
        Some(())
    }
}

/// The weights of one direction.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// `[g·H, I]`.
    pub input: &'a [f32],
    /// `[g·H, H]`.
    pub recurrent: &'a [f32],
    /// `[g·H]`.
    pub input_bias: &'a [f32],
    /// `[g·H]`.
    pub recurrent_bias: &'a [f32],
    /// Index of the direction.
    pub direction: usize,
}

impl<'a> Weights<'a> {
    /// Rows of the gates: input row, recurrent row, and their biases.
    fn rows(
        &self,
        inputs: usize,
        hidden: usize,
    ) -> impl Iterator<Item = (&'a [f32], &'a [f32], f32, f32)> + use<'a> {
        let rows = Rows::new(self.input, inputs).zip(Rows::new(self.recurrent, hidden));
        let biases = self.input_bias.iter().zip(self.recurrent_bias);
        rows.zip(biases).map(|((input, recurrent), (&a, &b))| (input, recurrent, a, b))
    }
}

/// The workspace as the gates of one sample.
fn gates(workspace: &mut [u8], rows: usize) -> Option<&mut [f32]> {
    bytes::cast_mut::<f32>(workspace)?.get_mut(..rows)
}

#[cfg(test)]
mod tests;
