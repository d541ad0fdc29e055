//! f32 recurrent layers with products in f16, for who asks for it; all else of [`ingraft_vector::recurrent`], in f32.
//!
//! # Numerics
//! What a gate is taken of is within the bound of [`crate::half`] for its product with the input and that for its product
//! with the state, given both. In a time step from the same state an error `e` of all gates moves the cell `c` of an LSTM by
//! at most `(|c| + 5)·e/4` and its state by `e/4` more, and the state of a GRU by `3·e/2` beside what `e/4` of the reset gate
//! makes of the candidate. States come back through recurrent weights: no bound of a sequence holds for all weights.
//!
//! # Limits
//! One sample at a time: every sixteen gates of eight elements are 16 `FMLA` of eight lanes beside 8 loads of two vectors of
//! weights, in f32 32 beside 32 loads.

use ingraft_kernel::recurrent::{KERNEL_GRU, KERNEL_LSTM, Weights, gru, lstm};
use ingraft_kernel::{Call, Kernel, KernelError, OpCode, Step};
use ingraft_tensor::{DType, Shape};
use ingraft_vector::recurrent::{Factor, Products, run_gru, run_lstm};

use crate::features::Neon;
use crate::half::weights::{self, Panels};
use crate::half::{ROW_ALIGN, activations, multiply};
use crate::lanes::block;
use crate::panel::{Layout, WIDTH, constant};
use crate::tile::{BLOCK, Block, Rows, take};

/// LSTM.
pub(crate) const LSTM: Kernel = Kernel::new("lstm_f32_f32_f32__fp16", OpCode::Lstm, F32, F32, lstm_layer)
    .checked(|step| check(step, &KERNEL_LSTM))
    .with_workspace(|step| workspace(step, &KERNEL_LSTM))
    .with_packed(packed, pack);

/// GRU.
pub(crate) const GRU: Kernel = Kernel::new("gru_f32_f32_f32__fp16", OpCode::Gru, F32, F32, gru_layer)
    .checked(|step| check(step, &KERNEL_GRU))
    .with_workspace(|step| workspace(step, &KERNEL_GRU))
    .with_packed(packed, pack);

const F32: Option<DType> = Some(DType::F32);

/// With fewer units than a panel has channels, rounding takes what is gained.
fn check(step: &Step<'_>, reference: &Kernel) -> Result<(), KernelError> {
    weights::check(step, reference, &[1, 2], || Some(Extents::of(step)?.hidden >= WIDTH / 2))
}

/// What an input or a state is in f16, and what the reference takes.
fn workspace(step: &Step<'_>, reference: &Kernel) -> usize {
    let halves = Extents::of(step).map_or(0, |extents| extents.widest() * size_of::<u16>());
    halves + (reference.workspace)(step)
}

fn packed(step: &Step<'_>) -> usize {
    Extents::of(step).map_or(0, |extents| extents.directions * extents.bytes())
}

fn pack(step: &Step<'_>, out: &mut [u8]) -> Result<(), KernelError> {
    let extents = Extents::of(step).ok_or(KernelError::Operands(step.op))?;
    extents.pack([constant(step, 1)?, constant(step, 2)?], out).ok_or(KernelError::Memory(step.op))
}

fn lstm_layer(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let mut products = Halves::new(call)?;
    // SAFETY: rows leave this crate only through functions whose arguments prove NEON.
    run_lstm(call, unsafe { Neon::assume() }, &mut products)
}

fn gru_layer(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let mut products = Halves::new(call)?;
    // SAFETY: rows leave this crate only through functions whose arguments prove NEON.
    run_gru(call, unsafe { Neon::assume() }, &mut products)
}

/// What a layer's weights measure.
#[derive(Clone, Copy)]
struct Extents {
    directions: usize,
    inputs: usize,
    hidden: usize,
    /// Gates whose rows are multiplied together, and then others.
    gates: &'static [usize],
}

impl Extents {
    fn of(step: &Step<'_>) -> Option<Self> {
        Self::new(step.op, step.input(1).ok()?.shape, step.input(2).ok()?.shape)
    }

    fn new(op: OpCode, weight: Shape, recurrent: Shape) -> Option<Self> {
        let (&[directions, _, inputs], &[_, _, hidden]) = (weight.dims(), recurrent.dims()) else {
            return None;
        };
        let gates: &[usize] = match op {
            OpCode::Lstm => &[lstm::GATES],
            // The last gate sees a state that the others were computed for.
            OpCode::Gru => &[gru::GATES - 1, 1],
            _ => return None,
        };
        let [directions, inputs, hidden] = [directions, inputs, hidden].map(|d| d as usize);
        Some(Self { directions, inputs, hidden, gates })
    }

    /// Input and recurrent weights of one direction, in the order they are packed.
    fn layouts(self) -> impl Iterator<Item = [Layout; 2]> {
        self.gates.iter().map(move |gates| {
            [self.inputs, self.hidden].map(|len| Layout { depth: 1, len, channels: gates * self.hidden })
        })
    }

    /// Writes the input and the recurrent weights of every direction.
    fn pack(self, mut weights: [&[f32]; 2], mut out: &mut [u8]) -> Option<()> {
        let each = (0..self.directions).flat_map(|_| self.layouts());
        for (side, layout) in each.flat_map(|sides| sides.into_iter().enumerate()) {
            let weight = weights.get_mut(side)?;
            let (rows, rest) = weight.split_at_checked(layout.len * layout.channels)?;
            *weight = rest;
            let (panels, rest) = core::mem::take(&mut out).split_at_mut_checked(Panels::bytes(&layout))?;
            out = rest;
            // SAFETY: rows leave this crate only through functions whose arguments prove NEON.
            unsafe { Panels::pack(&layout, rows, panels)? };
        }
        Some(())
    }

    /// Bytes of the packed weights of one direction.
    fn bytes(self) -> usize {
        self.layouts().flatten().map(|layout| Panels::bytes(&layout)).sum()
    }

    /// Elements of an input or a state, padded as rows are.
    fn widest(self) -> usize {
        self.inputs.max(self.hidden).next_multiple_of(ROW_ALIGN)
    }
}

/// Products in f16.
struct Halves<'c> {
    extents: Extents,
    packed: &'c [u8],
    /// An input or a state.
    row: &'c mut [u16],
}

impl<'c> Halves<'c> {
    /// Takes its part of the workspace, and leaves the reference's.
    fn new(call: &mut Call<'c, '_>) -> Result<Self, KernelError> {
        let extents = Extents::new(call.op, call.input(1)?.shape(), call.input(2)?.shape());
        let extents = extents.ok_or(call.operands())?;
        let row = take(&mut call.workspace, extents.widest()).ok_or(KernelError::Memory(call.op))?;
        Ok(Self { extents, packed: call.packed, row })
    }

    /// The input weights of the gates from row `first` on, and their recurrent weights.
    fn matrices(&self, direction: usize, first: usize) -> Option<[(Layout, Panels<'c>); 2]> {
        let mut rest = self.packed.get(direction * self.extents.bytes()..)?;
        let mut row = 0;
        for [input, state] in self.extents.layouts() {
            let (inputs, after) = rest.split_at_checked(Panels::bytes(&input))?;
            if row == first {
                return Some([(input, Panels::new(input, inputs)?), (state, Panels::new(state, after)?)]);
            }
            row += input.channels;
            rest = after.get(Panels::bytes(&state)..)?;
        }
        None
    }

    #[target_feature(enable = "neon,fp16")]
    fn add(&mut self, layout: &Layout, panels: &Panels<'_>, values: &[f32], out: &mut [f32]) -> Option<()> {
        activations(values, self.row);
        let rows = Rows::of_matrix(self.row, layout.len, 0, 1, &mut [])?;
        let one = Block { group: 0, first: 0, pixels: 1 };
        let mut sums = [[0.0; WIDTH]; BLOCK];
        for panel in layout.panels() {
            let channels = panels.channels(panel, block(out, panel.first))?;
            multiply(one, &rows, &channels, &mut sums)?;
            let out = out.get_mut(panel.first..)?.iter_mut().take(panel.count);
            out.zip(sums.as_flattened()).for_each(|(out, sum)| *out = *sum);
        }
        Some(())
    }
}

impl Products<Neon> for Halves<'_> {
    #[inline(always)]
    fn write<const N: usize>(
        &mut self,
        _: Neon,
        weights: &Weights<'_>,
        first: usize,
        factors: [Factor<'_>; N],
        out: &mut [f32],
    ) -> Option<()> {
        let [(input, inputs), (state, states)] = self.matrices(weights.direction, first)?;
        out.fill(0.0);
        factors.into_iter().try_for_each(|factor| {
            let (layout, panels, values) = match factor {
                Factor::Input(x) => (&input, &inputs, x),
                Factor::State(hidden) => (&state, &states, hidden),
            };
            // SAFETY: the rows above leave this crate only against a proof of f16 arithmetic.
            unsafe { self.add(layout, panels, values, out) }
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec;
    use std::vec::Vec;

    use ingraft_tensor::bytes;

    use super::*;
    use crate::half::RUN;
    use crate::half::tests::{bound, largest, values};

    /// Gates of every block of rows, in both directions, against exact sums.
    #[test]
    fn gates_stay_within_the_bound() {
        let Some(_) = crate::Fp16::detect() else { return };
        for (inputs, hidden) in [(1, 8), (7, 9), (70, 33), (129, 64)] {
            for (op, gates) in [(OpCode::Lstm, &[lstm::GATES][..]), (OpCode::Gru, &[gru::GATES - 1, 1])] {
                let count: usize = gates.iter().sum();
                let (directions, rows) = (2, count * hidden);
                let weights = [inputs, hidden].map(|len| values(directions * rows * len, len as u32, 4, 2.0));
                let x = [values(inputs, 3, 4, 65504.0), values(hidden, 5, 4, 1.0)];
                let shape = |len: usize| Shape::new(&[directions, rows, len].map(|d| d as u32)).unwrap();
                let extents = Extents::new(op, shape(inputs), shape(hidden)).unwrap();
                let mut packed = vec![u128::MAX; (directions * extents.bytes()).div_ceil(16)];
                extents.pack([&weights[0], &weights[1]], bytes::of_mut(&mut packed)).unwrap();
                let mut row = vec![0; extents.widest()];
                let mut halves = Halves { extents, packed: bytes::of(&packed), row: &mut row };
                for direction in 0..directions {
                    let mut first = 0;
                    for gates in gates {
                        let mut out = vec![f32::NAN; gates * hidden];
                        let of = |side: usize, row: usize| {
                            let len = x[side].len();
                            &weights[side][((direction * rows) + first + row) * len..][..len]
                        };
                        let layer = Weights {
                            input: &[],
                            recurrent: &[],
                            input_bias: &[],
                            recurrent_bias: &[],
                            direction,
                        };
                        // SAFETY: NEON is there, as on every processor with an operating system.
                        let v = unsafe { Neon::assume() };
                        let factors = [Factor::Input(&x[0]), Factor::State(&x[1])];
                        halves.write(v, &layer, first, factors, &mut out).unwrap();
                        for (row, have) in out.iter().enumerate() {
                            let (mut want, mut allowed) = (0.0, 0.0);
                            for side in [0, 1] {
                                let (w, x) = (of(side, row), &x[side]);
                                let products: Vec<f64> =
                                    w.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).collect();
                                let size = products.iter().map(|p| p.abs()).sum();
                                want += products.iter().sum::<f64>();
                                allowed += bound(x.len(), RUN, size, [largest(x), largest(w)]);
                            }
                            let error = (f64::from(*have) - want).abs();
                            let allowed = allowed + want.abs() * 1e-6;
                            assert!(error <= allowed, "{op} {inputs} {hidden} row {row}: {have}, not {want}");
                        }
                        first += gates * hidden;
                    }
                }
            }
        }
    }
}
