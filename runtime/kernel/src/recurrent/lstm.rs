//! Long short-term memory.
//!
//! With gates in the order i, o, f, z: `i = σ(Wᵢx + Rᵢh + pᵢc)`, `f = σ(W_f x + R_f h + p_f c)`,
//! `z = tanh(W_z x + R_z h)`, `c' = f·c + i·z`, `o = σ(W_o x + R_o h + p_o c')`, `h' = o·tanh(c')`,
//! biases added to each product.

use ingraft_tensor::DType;

use super::{Layer, Weights, gates};
use crate::attrs::RecurrentAttrs;
use crate::conv::dot;
use crate::elementwise::sigmoid;
use crate::walk::Rows;
use crate::window::{row, row_mut};
use crate::{Call, Kernel, KernelError, OpCode, Step, check};

/// LSTM layer.
///
/// # Shapes
/// As the [family](super) with g = 4, and: sixth input, the initial cell
/// `[D, B, H]`; optional seventh input, the peepholes `[D, 3·H]` in the order
/// i, o, f; third output, the last cell `[D, B, H]`.
pub const KERNEL: Kernel =
    Kernel::new("lstm_f32_f32_f32__scalar", OpCode::Lstm, Some(DType::F32), Some(DType::F32), run)
        .checked(check)
        .with_workspace(|step| Layer::of(step, GATES).map_or(0, |layer| layer.workspace()));

/// Gates of a unit.
pub const GATES: usize = 4;

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    let layer = Layer::of(step, GATES)?;
    layer.check(step)?;
    let peepholes = layer.directions.wrapping_mul(3).wrapping_mul(layer.hidden);
    let inputs = match step.inputs() {
        [_, _, _, _, _, cell] => cell.shape.elements() == layer.state(),
        [_, _, _, _, _, cell, p] => cell.shape.elements() == layer.state() && p.shape.elements() == peepholes,
        _ => false,
    };
    let outputs = matches!(step.outputs(), [_, _, cell] if cell.shape.elements() == layer.state());
    check::require(step, inputs && outputs)
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    layer(call, |unit| {
        advance(unit.weights, unit.peepholes, unit.x, unit.hidden, unit.cell, unit.gates);
        Some(())
    })
}

/// One sample at one time step.
#[derive(Debug)]
pub struct Unit<'a, 's> {
    /// The direction's.
    pub weights: &'s Weights<'a>,
    /// `[3·H]` in the order i, o, f.
    pub peepholes: Option<&'a [f32]>,
    /// `[I]`.
    pub x: &'a [f32],
    /// `[H]`, to be replaced by the next.
    pub hidden: &'s mut [f32],
    /// `[H]`, to be replaced by the next.
    pub cell: &'s mut [f32],
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
    let (first_hidden, first_cell) = (call.slice::<f32>(4)?, call.slice::<f32>(5)?);
    let peepholes = if call.inputs.len() > 6 { Some(call.slice::<f32>(6)?) } else { None };
    let [y, hidden, cell] = &mut *call.outputs else { return Err(error) };
    let (y, hidden) = (y.as_slice::<f32>().ok_or(error)?, hidden.as_slice::<f32>().ok_or(error)?);
    let cell = cell.as_slice::<f32>().ok_or(error)?;
    let gates = gates(call.workspace, layer.rows()).ok_or(KernelError::Memory(call.op))?;
    hidden.iter_mut().zip(first_hidden).for_each(|(h, &first)| *h = first);
    cell.iter_mut().zip(first_cell).for_each(|(c, &first)| *c = first);
    layer
        .unroll(attrs, operands, |weights, x, state, index| {
            let hidden = row_mut(hidden, state, layer.hidden)?;
            let cell = row_mut(cell, state, layer.hidden)?;
            let peepholes = match peepholes {
                Some(p) => Some(row(p, weights.direction, layer.hidden.wrapping_mul(3))?),
                None => None,
            };
            advance(Unit { weights, peepholes, x, hidden: &mut *hidden, cell, gates: &mut *gates })?;
            row_mut(y, index, layer.hidden)?.iter_mut().zip(hidden).for_each(|(y, h)| *y = *h);
            Some(())
        })
        .ok_or(error)
}

/// One sample, one time step; leaves in `gates` what the activations are taken of, without the peepholes' share.
pub(crate) fn advance(
    weights: &Weights<'_>,
    peepholes: Option<&[f32]>,
    x: &[f32],
    hidden: &mut [f32],
    cell: &mut [f32],
    gates: &mut [f32],
) {
    let rows = weights.rows(x.len(), hidden.len());
    for (gate, (input, recurrent, a, b)) in gates.iter_mut().zip(rows) {
        *gate = dot(input, x) + dot(recurrent, hidden) + (a + b);
    }
    let len = hidden.len();
    let mut parts = Rows::new(gates, len);
    let mut gate = || parts.next().unwrap_or(&[]).iter();
    let (i, o, f, z) = (gate(), gate(), gate(), gate());
    let peep = |gate: usize, k: usize| peephole(peepholes, len, gate, k);
    let state = hidden.iter_mut().zip(cell).enumerate();
    for ((k, (h, c)), ((i, o), (f, z))) in state.zip(i.zip(o).zip(f.zip(z))) {
        let i = sigmoid(i + peep(0, k) * *c);
        let f = sigmoid(f + peep(2, k) * *c);
        *c = f * *c + i * libm::tanhf(*z);
        *h = sigmoid(o + peep(1, k) * *c) * libm::tanhf(*c);
    }
}

/// The weight with which gate `gate` (0 i, 1 o, 2 f) of unit `k` sees the cell.
pub(crate) fn peephole(peepholes: Option<&[f32]>, len: usize, gate: usize, k: usize) -> f32 {
    match peepholes {
        Some(p) => p.get(gate.wrapping_mul(len).wrapping_add(k)).copied().unwrap_or(0.0),
        None => 0.0,
    }
}
