//! Recurrent layers: the products with the input as one linear layer over all time steps, then the steps.

use ingraft_kernel::attrs::RecurrentAttrs;
use ingraft_kernel::recurrent::{REVERSE, gru, lstm};
use ingraft_kernel::{KernelError, OpCode, Step};

use crate::launch::{Launch, int};
use crate::params::float::{Conv, Recurrent};
use crate::rows::real::tiles;

/// Threads of a block, which takes a sample of a direction.
const THREADS: u32 = 1024;

/// Extents of a layer.
struct Layer {
    time: usize,
    batch: usize,
    inputs: usize,
    directions: usize,
    /// Rows of the weights of one direction.
    rows: usize,
    hidden: usize,
}

impl Layer {
    fn of(step: &Step<'_>) -> Result<Self, KernelError> {
        let error = KernelError::Operands(step.op);
        let extents = |index| -> Result<[usize; 3], KernelError> {
            let shape = step.input(index)?.shape;
            let dims: [u32; 3] = shape.dims().try_into().map_err(|_| error)?;
            Ok(dims.map(|extent| extent as usize))
        };
        let ([time, batch, inputs], [directions, rows, hidden]) = (extents(0)?, extents(2)?);
        Ok(Self { time, batch, inputs, directions, rows, hidden })
    }

    /// Products with the input, `[T, B, D, g·H]`, in bytes.
    fn gate_bytes(&self) -> usize {
        [self.time, self.batch, self.directions, self.rows, 4].into_iter().fold(1, usize::saturating_mul)
    }
}

/// Scratch bytes: the products with the input, and what GRU's candidates are made of.
pub(crate) fn gates(step: &Step<'_>) -> usize {
    let state = |layer: &Layer| layer.directions.saturating_mul(layer.batch).saturating_mul(layer.hidden);
    Layer::of(step).map_or(0, |layer| layer.gate_bytes().saturating_add(state(&layer).saturating_mul(4)))
}

/// Launches an LSTM.
pub(crate) fn lstm(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    layer(launch, "lstm_f32", lstm::GATES)
}

/// Launches a GRU.
pub(crate) fn gru(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    layer(launch, "gru_f32", gru::GATES)
}

fn layer(launch: &mut Launch<'_, '_>, kernel: &str, gates: usize) -> Result<(), KernelError> {
    let step = launch.step;
    let attrs: &RecurrentAttrs = step.attrs()?;
    let layer = Layer::of(step)?;
    if layer.rows != layer.hidden.saturating_mul(gates) {
        return Err(KernelError::Operands(step.op));
    }
    let scratch = launch.workspace()?;
    let long = step.op == OpCode::Lstm;
    let products = Conv {
        input: launch.input(0)?,
        weight: launch.input(1)?,
        output: scratch,
        ..Conv::linear(
            int(step, layer.time.saturating_mul(layer.batch))?,
            int(step, layer.inputs)?,
            int(step, layer.directions.saturating_mul(layer.rows))?,
        )
    };
    int(step, layer.gate_bytes())?;
    tiles(launch, &products)?;
    let record = Recurrent {
        weight: launch.input(2)?,
        bias: launch.input(3)?,
        first: launch.input(4)?,
        first_cell: launch.optional(5)?,
        peepholes: launch.optional(6)?,
        y: launch.output(0)?,
        last: launch.output(1)?,
        last_cell: if long { launch.output(2)? } else { 0 },
        gates: scratch,
        inner: scratch.saturating_add(layer.gate_bytes() as u64),
        directions: int(step, layer.directions)?,
        time: int(step, layer.time)?,
        batch: int(step, layer.batch)?,
        hidden: int(step, layer.hidden)?,
        reverse: i32::from(attrs.direction == REVERSE),
        linear: attrs.linear_before_reset as i32,
    };
    launch.grid(kernel, (layer.batch as u32, layer.directions as u32, 1), THREADS, &record)
}
