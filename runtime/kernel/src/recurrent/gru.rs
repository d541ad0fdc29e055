//! Gated recurrent unit.
//!
//! With gates in the order z, r, h: `z = σ(W_z x + R_z h)`, `r = σ(W_r x + R_r h)`,
//! `n = tanh(W_h x + R_h(r·h))`, or `tanh(W_h x + r·(R_h h))` with
//! `linear_before_reset`; `h' = (1 − z)·n + z·h`, biases added to each product.

use ingraft_tensor::DType;

use super::{Layer, Weights, gates};
use crate::attrs::RecurrentAttrs;
use crate::conv::dot;
use crate::elementwise::sigmoid;
use crate::window::row_mut;
use crate::{Call, Kernel, KernelError, OpCode, Step, check};

/// GRU layer.
///
/// # Shapes
/// As the [family](super) with g = 3.
pub const KERNEL: Kernel =
    Kernel::new("gru_f32_f32_f32__scalar", OpCode::Gru, Some(DType::F32), Some(DType::F32), run)
        .checked(check)
        .with_workspace(|step| Layer::of(step, GATES).map_or(0, |layer| layer.scratch().wrapping_mul(4)));

/// Gates of a unit.
pub const GATES: usize = 3;

impl Layer {
    /// Values beside a sample's state: its gates, and what its candidate is made of.
    fn scratch(&self) -> usize {
        self.rows().wrapping_add(self.hidden)
    }
}

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    check::operands(step, 5, 2)?;
    Layer::of(step, GATES)?.check(step)
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    layer(call, |unit| advance(unit.weights, unit.linear_before_reset, unit.x, unit.hidden, unit.gates))
}

/// One sample at one time step.
#[derive(Debug)]
pub struct Unit<'a, 's> {
    /// The direction's.
    pub weights: &'s Weights<'a>,
    /// Whether the candidate's recurrent product is taken before the reset gate acts.
    pub linear_before_reset: bool,
    /// `[I]`.
    pub x: &'a [f32],
    /// `[H]`, to be replaced by the next.
    pub hidden: &'s mut [f32],
    /// Scratch, `[4·H]`.
    pub gates: &'s mut [f32],
}

/// Runs a layer whose every sample and time step `advance` computes: what targets share.
///
/// # Errors
/// [`KernelError::Operands`] where `advance` gives `None`, [`KernelError::Memory`] for a smaller workspace than the
/// reference asks for.
pub fn layer(
    call: &mut Call<'_, '_>,
    mut advance: impl FnMut(Unit<'_, '_>) -> Option<()>,
) -> Result<(), KernelError> {
    let error = call.operands();
    let attrs: &RecurrentAttrs = call.attrs()?;
    let shapes = [call.input(0)?.shape(), call.input(1)?.shape(), call.input(2)?.shape()];
    let layer = Layer::new(attrs, GATES, shapes).ok_or(error)?;
    let operands = [call.slice(0)?, call.slice(1)?, call.slice(2)?, call.slice(3)?];
    let first = call.slice::<f32>(4)?;
    let [y, hidden] = &mut *call.outputs else { return Err(error) };
    let (y, hidden) = (y.as_slice::<f32>().ok_or(error)?, hidden.as_slice::<f32>().ok_or(error)?);
    let gates = gates(call.workspace, layer.scratch()).ok_or(KernelError::Memory(call.op))?;
    hidden.iter_mut().zip(first).for_each(|(h, &first)| *h = first);
    let linear = attrs.linear_before_reset == 1;
    layer
        .unroll(attrs, operands, |weights, x, state, index| {
            let hidden = row_mut(hidden, state, layer.hidden)?;
            let unit =
                Unit { weights, linear_before_reset: linear, x, hidden: &mut *hidden, gates: &mut *gates };
            advance(unit)?;
            row_mut(y, index, layer.hidden)?.iter_mut().zip(hidden).for_each(|(y, h)| *y = *h);
            Some(())
        })
        .ok_or(error)
}

/// One sample, one time step.
fn advance(
    weights: &Weights<'_>,
    linear_before_reset: bool,
    x: &[f32],
    hidden: &mut [f32],
    gates: &mut [f32],
) -> Option<()> {
    let [update, _, candidate, _] = compute(weights, linear_before_reset, x, hidden, gates)?;
    for ((h, n), z) in hidden.iter_mut().zip(candidate).zip(update) {
        *h = (1.0 - *z) * *n + *z * *h;
    }
    Some(())
}

/// Fills `gates` with z, r, n and what n was made of beside the input: `R_h h` with its bias, or else `r·h`.
pub(crate) fn compute<'g>(
    weights: &Weights<'_>,
    linear_before_reset: bool,
    x: &[f32],
    hidden: &[f32],
    gates: &'g mut [f32],
) -> Option<[&'g mut [f32]; 4]> {
    let len = hidden.len();
    let mut rows = weights.rows(x.len(), len);
    let (update, rest) = gates.split_at_mut_checked(len)?;
    let (reset, rest) = rest.split_at_mut_checked(len)?;
    let (candidate, rest) = rest.split_at_mut_checked(len)?;
    let inner = rest.get_mut(..len)?;
    for (gate, (input, recurrent, a, b)) in update.iter_mut().chain(&mut *reset).zip(&mut rows) {
        *gate = sigmoid(dot(input, x) + dot(recurrent, hidden) + (a + b));
    }
    if linear_before_reset {
        let pairs = candidate.iter_mut().zip(&mut *inner).zip(&*reset);
        for (((n, inner), r), (input, recurrent, a, b)) in pairs.zip(rows) {
            *inner = dot(recurrent, hidden) + b;
            *n = libm::tanhf(dot(input, x) + a + r * *inner);
        }
    } else {
        inner.iter_mut().zip(&*reset).zip(hidden).for_each(|((i, r), h)| *i = r * h);
        for (n, (input, recurrent, a, b)) in candidate.iter_mut().zip(rows) {
            *n = libm::tanhf(dot(input, x) + dot(recurrent, inner) + (a + b));
        }
    }
    Some([update, reset, candidate, inner])
}
