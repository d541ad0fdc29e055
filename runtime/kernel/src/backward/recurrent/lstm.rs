//! Gradient of the long short-term memory.

use ingraft_tensor::bytes;

use super::{Lane, Unrolled, check_operands, layer_of};
use crate::backward::F32;
use crate::backward::rows::{add_rows, rows};
use crate::elementwise::sigmoid;
use crate::recurrent::lstm::{GATES, advance, peephole};
use crate::recurrent::{Layer, Weights};
use crate::window::{row, row_mut};
use crate::{Call, Kernel, KernelError, OpCode, Step, check};

/// Through an LSTM layer.
///
/// # Shapes
/// Inputs: the gradient of one forward output, then the operands of [`crate::recurrent::KERNEL_LSTM`]; outputs: the
/// gradients that [`crate::attrs::RecurrentBackwardAttrs::wanted`] names, of the operands' shapes.
///
/// # Numerics
/// f32, the last time step first. States are computed again as the forward step computed them.
pub const KERNEL: Kernel = Kernel::new("lstm_backward_f32_f32__scalar", OpCode::LstmBackward, F32, F32, run)
    .checked(check)
    .with_workspace(|step| layer_of(step, GATES).map_or(0, |layer| workspace(&layer)));

/// States and cells before every step, then what one step works on.
fn workspace(layer: &Layer) -> usize {
    let kept = layer.time.saturating_mul(2).saturating_add(4);
    kept.saturating_mul(layer.hidden).saturating_add(layer.rows()).saturating_mul(size_of::<f32>())
}

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    let layer = layer_of(step, GATES)?;
    check_operands(step, &layer, 3)?;
    let peepholes = layer.directions.wrapping_mul(3).wrapping_mul(layer.hidden);
    let cell = step.input(6)?.shape.elements() == layer.state();
    let rest = match step.inputs().get(7..) {
        Some([]) => true,
        Some([p]) => p.shape.elements() == peepholes,
        _ => false,
    };
    check::require(step, cell && rest)
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let error = call.operands();
    let first_cell = call.slice::<f32>(6)?;
    let peepholes = if call.inputs.len() > 7 { Some(call.slice::<f32>(7)?) } else { None };
    let workspace = core::mem::take(&mut call.workspace);
    let mut unrolled = Unrolled::new(call, GATES)?;
    let layer = unrolled.layer;
    let mut work = Work::new(bytes::cast_mut(workspace).ok_or(error)?, &layer).ok_or(error)?;
    for lane in unrolled.lanes() {
        let peepholes = match peepholes {
            Some(p) => Some(row(p, lane.d, layer.hidden.wrapping_mul(3)).ok_or(error)?),
            None => None,
        };
        let weights = layer.weights(lane.d, unrolled.weights).ok_or(error)?;
        work.forward(&unrolled, lane, (&weights, peepholes), first_cell).ok_or(error)?;
        work.backward(&mut unrolled, lane, (&weights, peepholes)).ok_or(error)?;
    }
    Ok(())
}

/// Memory of one direction of one sample.
struct Work<'w> {
    /// States before each step, `[T, H]`.
    states: &'w mut [f32],
    /// Cells before each step, `[T, H]`.
    cells: &'w mut [f32],
    /// State and cell after the present step.
    hidden: &'w mut [f32],
    cell: &'w mut [f32],
    /// Gradients of them.
    dh: &'w mut [f32],
    dc: &'w mut [f32],
    /// What the gates are activations of, then the gradient of that.
    gates: &'w mut [f32],
}

impl<'w> Work<'w> {
    fn new(memory: &'w mut [f32], layer: &Layer) -> Option<Self> {
        let kept = layer.time.checked_mul(layer.hidden)?;
        let (states, rest) = memory.split_at_mut_checked(kept)?;
        let (cells, rest) = rest.split_at_mut_checked(kept)?;
        let (hidden, rest) = rest.split_at_mut_checked(layer.hidden)?;
        let (cell, rest) = rest.split_at_mut_checked(layer.hidden)?;
        let (dh, rest) = rest.split_at_mut_checked(layer.hidden)?;
        let (dc, rest) = rest.split_at_mut_checked(layer.hidden)?;
        Some(Self { states, cells, hidden, cell, dh, dc, gates: rest.get_mut(..layer.rows())? })
    }

    /// Keeps the state and cell before every step.
    fn forward(
        &mut self,
        unrolled: &Unrolled<'_>,
        lane: Lane,
        (weights, peepholes): (&Weights<'_>, Option<&[f32]>),
        first_cell: &[f32],
    ) -> Option<()> {
        let len = unrolled.layer.hidden;
        copy(self.hidden, row(unrolled.first, lane.state, len)?);
        copy(self.cell, row(first_cell, lane.state, len)?);
        for i in 0..unrolled.layer.time {
            copy(row_mut(self.states, i, len)?, self.hidden);
            copy(row_mut(self.cells, i, len)?, self.cell);
            advance(weights, peepholes, unrolled.x(lane, i)?, self.hidden, self.cell, self.gates);
        }
        Some(())
    }

    fn backward(
        &mut self,
        unrolled: &mut Unrolled<'_>,
        lane: Lane,
        (weights, peepholes): (&Weights<'_>, Option<&[f32]>),
    ) -> Option<()> {
        let Layer { hidden: len, inputs, time, .. } = unrolled.layer;
        unrolled.last(lane, self.dh, self.dc)?;
        for i in (0..time).rev() {
            unrolled.arriving(lane, i, self.dh)?;
            let cells = row(self.cells, i, len)?;
            copy(self.hidden, row(self.states, i, len)?);
            copy(self.cell, cells);
            advance(weights, peepholes, unrolled.x(lane, i)?, self.hidden, self.cell, self.gates);
            differentiate(self.gates, peepholes, [cells, self.cell], self.dh, self.dc)?;
            if let Some(dx) = unrolled.dx(lane, i) {
                add_rows(dx, self.gates.iter().copied().zip(rows(weights.input, inputs)));
            }
            self.dh.fill(0.0);
            add_rows(self.dh, self.gates.iter().copied().zip(rows(weights.recurrent, len)));
        }
        unrolled.finish(lane, self.dh, self.dc)
    }
}

/// Replaces what the gates are activations of by its gradient, and the gradient of the cell by that of the cell before.
fn differentiate(
    gates: &mut [f32],
    peepholes: Option<&[f32]>,
    [before, after]: [&[f32]; 2],
    dh: &[f32],
    dc: &mut [f32],
) -> Option<()> {
    let len = dh.len();
    let (i, rest) = gates.split_at_mut_checked(len)?;
    let (o, rest) = rest.split_at_mut_checked(len)?;
    let (f, z) = rest.split_at_mut_checked(len)?;
    let gates = i.iter_mut().zip(o).zip(f.iter_mut().zip(z));
    let cells = before.iter().zip(after).zip(dh.iter().zip(dc));
    for (k, (((i, o), (f, z)), ((before, after), (dh, dc)))) in gates.zip(cells).enumerate() {
        let peep = |gate: usize| peephole(peepholes, len, gate, k);
        let [input, forget] = [*i + peep(0) * before, *f + peep(2) * before].map(sigmoid);
        let (out, candidate, squashed) =
            (sigmoid(*o + peep(1) * after), libm::tanhf(*z), libm::tanhf(*after));
        *o = dh * squashed * out * (1.0 - out);
        let d = *dc + dh * out * (1.0 - squashed * squashed) + *o * peep(1);
        *i = d * candidate * input * (1.0 - input);
        *f = d * before * forget * (1.0 - forget);
        *z = d * input * (1.0 - candidate * candidate);
        *dc = d * forget + *i * peep(0) + *f * peep(2);
    }
    Some(())
}

fn copy(to: &mut [f32], from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(t, f)| *t = *f);
}
