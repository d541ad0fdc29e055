//! Gradient of the gated recurrent unit.

use ingraft_tensor::bytes;

use super::{Lane, Unrolled, check_operands, layer_of};
use crate::backward::F32;
use crate::backward::rows::{add_rows, rows};
use crate::recurrent::gru::{GATES, compute};
use crate::recurrent::{Layer, Weights};
use crate::window::{row, row_mut};
use crate::{Call, Kernel, KernelError, OpCode, Step, check};

/// Through a GRU layer.
///
/// # Shapes
/// Inputs: the gradient of one forward output, then the operands of [`crate::recurrent::KERNEL_GRU`]; outputs: the
/// gradients that [`crate::attrs::RecurrentBackwardAttrs::wanted`] names, of the operands' shapes.
///
/// # Numerics
/// f32, the last time step first. States are computed again as the forward step computed them.
pub const KERNEL: Kernel = Kernel::new("gru_backward_f32_f32__scalar", OpCode::GruBackward, F32, F32, run)
    .checked(check)
    .with_workspace(|step| layer_of(step, GATES).map_or(0, |layer| workspace(&layer)));

/// States before every step, then what one step works on.
fn workspace(layer: &Layer) -> usize {
    let kept = layer.time.saturating_add(4);
    kept.saturating_mul(layer.hidden).saturating_add(layer.rows()).saturating_mul(size_of::<f32>())
}

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    check::require(step, step.inputs().len() == 6)?;
    check_operands(step, &layer_of(step, GATES)?, 2)
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let error = call.operands();
    let workspace = core::mem::take(&mut call.workspace);
    let mut unrolled = Unrolled::new(call, GATES)?;
    let layer = unrolled.layer;
    let mut work = Work::new(bytes::cast_mut(workspace).ok_or(error)?, &layer).ok_or(error)?;
    for lane in unrolled.lanes() {
        let weights = layer.weights(lane.d, unrolled.weights).ok_or(error)?;
        work.forward(&unrolled, lane, &weights).ok_or(error)?;
        work.backward(&mut unrolled, lane, &weights).ok_or(error)?;
    }
    Ok(())
}

/// Memory of one direction of one sample.
struct Work<'w> {
    /// States before each step, `[T, H]`.
    states: &'w mut [f32],
    /// Gradient of the state after the present step.
    dh: &'w mut [f32],
    /// Gradient of the state before it.
    before: &'w mut [f32],
    /// Not a state of its own: what gradients of cells would be.
    none: &'w mut [f32],
    /// z, r, n and what n was made of, then their gradients.
    gates: &'w mut [f32],
}

impl<'w> Work<'w> {
    fn new(memory: &'w mut [f32], layer: &Layer) -> Option<Self> {
        let (states, rest) = memory.split_at_mut_checked(layer.time.checked_mul(layer.hidden)?)?;
        let (dh, rest) = rest.split_at_mut_checked(layer.hidden)?;
        let (before, rest) = rest.split_at_mut_checked(layer.hidden)?;
        let (none, gates) = rest.split_at_mut_checked(layer.hidden)?;
        Some(Self { states, dh, before, none, gates })
    }

    /// Keeps the state before every step.
    fn forward(&mut self, unrolled: &Unrolled<'_>, lane: Lane, weights: &Weights<'_>) -> Option<()> {
        let len = unrolled.layer.hidden;
        let linear = unrolled.attrs.linear_before_reset == 1;
        copy(self.dh, row(unrolled.first, lane.state, len)?);
        for i in 0..unrolled.layer.time {
            copy(row_mut(self.states, i, len)?, self.dh);
            let [update, _, candidate, _] =
                compute(weights, linear, unrolled.x(lane, i)?, self.dh, self.gates)?;
            for ((h, n), z) in self.dh.iter_mut().zip(candidate).zip(update) {
                *h = (1.0 - *z) * *n + *z * *h;
            }
        }
        Some(())
    }

    fn backward(&mut self, unrolled: &mut Unrolled<'_>, lane: Lane, weights: &Weights<'_>) -> Option<()> {
        let Layer { hidden: len, inputs, time, .. } = unrolled.layer;
        let linear = unrolled.attrs.linear_before_reset == 1;
        unrolled.last(lane, self.dh, self.none)?;
        for i in (0..time).rev() {
            unrolled.arriving(lane, i, self.dh)?;
            let state = row(self.states, i, len)?;
            let gates = compute(weights, linear, unrolled.x(lane, i)?, state, self.gates)?;
            differentiate(gates, weights, linear, state, (self.dh, self.before))?;
            if let Some(dx) = unrolled.dx(lane, i) {
                add_rows(dx, self.gates.iter().copied().zip(rows(weights.input, inputs)));
            }
            copy(self.dh, self.before);
        }
        unrolled.finish(lane, self.dh, self.none)
    }
}

/// Replaces the gates by the gradients of what they are activations of, and writes that of the state before.
fn differentiate(
    [update, reset, candidate, inner]: [&mut [f32]; 4],
    weights: &Weights<'_>,
    linear: bool,
    state: &[f32],
    (dh, before): (&[f32], &mut [f32]),
) -> Option<()> {
    let len = state.len();
    let (gates, candidates) = weights.recurrent.split_at_checked(len.checked_mul(len)?.checked_mul(2)?)?;
    let steps = dh.iter().zip(state).zip(before.iter_mut());
    for (((dh, h), before), (z, n)) in steps.zip(update.iter_mut().zip(candidate.iter_mut())) {
        *before = dh * *z;
        let slope = dh * (1.0 - *z) * (1.0 - *n * *n);
        *z = dh * (h - *n) * *z * (1.0 - *z);
        *n = slope;
    }
    let resets = reset.iter_mut().zip(inner.iter_mut()).zip(&*candidate);
    if linear {
        for ((r, inner), n) in resets {
            let product = n * *r;
            *r = n * *inner * *r * (1.0 - *r);
            *inner = product;
        }
        add_rows(before, inner.iter().copied().zip(rows(candidates, len)));
    } else {
        inner.fill(0.0);
        add_rows(inner, candidate.iter().copied().zip(rows(candidates, len)));
        for (((r, q), h), before) in reset.iter_mut().zip(&*inner).zip(state).zip(before.iter_mut()) {
            *before += q * *r;
            *r = q * h * *r * (1.0 - *r);
        }
    }
    add_rows(before, update.iter().chain(&*reset).copied().zip(rows(gates, len)));
    Some(())
}

fn copy(to: &mut [f32], from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(t, f)| *t = *f);
}
