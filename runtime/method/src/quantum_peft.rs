//! Quantum-PEFT: orthogonal matrices shaped as circuits (Koike-Akino et al., 2025).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Node, Start, Tape};
use crate::row::{Definition, Family, Make, MethodRow, SettingRow, Settings, TWO_FACTOR, boxed};

/// Trains a diagonal between the first columns of two orthogonal matrices: `W' = W + U·diag(λ)·Vᵀ`.
///
/// U and V are K columns of a circuit on q qubits, 2^q the next power of two, cut to the weight: a rotation about Y of every qubit,
/// then L times a sign flip and rotations of neighbours (0, 1), (2, 3), … and of (1, 2), (3, 4), … (the Pauli form). The paper is known
/// by its abstract: the circuit is the usual simplified two-design, whose angles grow with the logarithm of the
/// size as claimed. λ starts as zero: the adapter starts as the base. Tensors: `quantum_out` and `quantum_in`, angles in the
/// order of the circuit, and `quantum_lambda` `[K]`. Parameters: `(2L + 1)·q − 2L` for each side of two or more, and K.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QuantumPeft {
    rank: u32,
    layers: u32,
}

impl QuantumPeft {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self {
            rank: settings.rank()?,
            layers: settings.number("layers", |layers| (1..=4).contains(layers))?,
        })
    }

    /// `columns` columns of the circuit for `size` rows.
    fn circuit<'t>(&self, tape: &'t Tape<'t>, name: &'static str, size: usize, columns: usize) -> Node<'t> {
        let rows = size.next_power_of_two();
        let (qubits, layers) = (rows.trailing_zeros() as usize, self.layers as usize);
        let even = qubits / 2 * 2;
        let odd = qubits.saturating_sub(1) / 2 * 2;
        let angles = tape.steady_parameter(
            name,
            1,
            qubits + layers * (even + odd),
            Start::Uniform(core::f64::consts::PI),
        );
        let mut at = 0;
        let mut turned = tape.fixed(rows, columns, |values, _| {
            (0..columns.min(rows)).for_each(|k| values[k * columns + k] = 1.0);
        });
        let mut turn = |x: Node<'t>, first: usize, count: usize| {
            let places = tape.fixed(1, count, |places, _| {
                places.iter_mut().enumerate().for_each(|(k, place)| *place = (at + k) as f64);
            });
            at += count;
            x.rotate_qubits(first, angles.gather(places))
        };
        turned = turn(turned, 0, qubits);
        for _ in 0..layers {
            for (first, count) in [(0, even), (1, odd)] {
                if count != 0 {
                    turned = turn(turned.times(signs(tape, rows, first, count)), first, count);
                }
            }
        }
        turned.crop(size, columns)
    }
}

/// The sign of every row after a controlled flip of the pairs (first, first + 1), (first + 2, first + 3), …
fn signs<'t>(tape: &'t Tape<'t>, rows: usize, first: usize, count: usize) -> Node<'t> {
    let qubits = rows.trailing_zeros() as usize;
    tape.fixed(rows, 1, |values, _| {
        for (row, value) in values.iter_mut().enumerate() {
            let bit = |qubit: usize| row >> (qubits - 1 - qubit) & 1;
            let flips: usize = (first..first + count).step_by(2).map(|k| bit(k) & bit(k + 1)).sum();
            *value = if flips.is_multiple_of(2) { 1.0 } else { -1.0 };
        }
    })
}

impl Expression for QuantumPeft {
    fn name(&self) -> &'static str {
        "quantum-peft"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
        visit("layers", Setting::Count(self.layers));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row) = (tape.site().out, tape.site().row());
        let rank = (self.rank as usize).min(out).min(row);
        let up = self.circuit(tape, "quantum_out", out, rank);
        let down = self.circuit(tape, "quantum_in", row, rank).transpose();
        let lambda = tape.parameter("quantum_lambda", 1, rank, Start::ZERO);
        Ok(Form::two_factor(up.times(lambda), down))
    }
}

/// `quantum-peft` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "quantum-peft",
    family: Family::Reparameterized,
    settings: &[
        SettingRow { name: "rank", default: "4", expected: "a whole number in 1..=256" },
        SettingRow { name: "layers", default: "1", expected: "a whole number in 1..=4" },
    ],
    deploy: TWO_FACTOR,
    source: "Quantum-PEFT: Ultra parameter-efficient fine-tuning (2025)",
    definition: Definition::Inferred,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(QuantumPeft::new(s))),
};
