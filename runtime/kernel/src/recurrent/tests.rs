//! Recurrent layers against f64.

extern crate std;

mod gradient;

use std::vec::Vec;

use super::*;
use crate::test_case::{Random, Tensor, assert_close, run};

#[derive(Clone)]
struct Operands {
    dims: [usize; 5],
    x: Vec<f64>,
    weight: Vec<f64>,
    recurrent: Vec<f64>,
    bias: Vec<f64>,
    hidden: Vec<f64>,
    cell: Vec<f64>,
    peepholes: Vec<f64>,
}

fn sigma(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

impl Operands {
    fn new(random: &mut Random, gates: usize, [d, t, b, i, h]: [usize; 5]) -> Self {
        let mut wide = |n: usize| random.floats(n, -0.9, 0.9).into_iter().map(f64::from).collect();
        Self {
            dims: [d, t, b, i, h],
            x: wide(t * b * i),
            weight: wide(d * gates * h * i),
            recurrent: wide(d * gates * h * h),
            bias: wide(d * 2 * gates * h),
            hidden: wide(d * b * h),
            cell: wide(d * b * h),
            peepholes: wide(d * 3 * h),
        }
    }

    fn tensors(&self, gates: usize) -> Vec<Tensor> {
        let [d, t, b, i, h] = self.dims.map(|n| n as u32);
        let rows = gates as u32 * h;
        let tensor =
            |dims: &[u32], v: &[f64]| Tensor::new(dims, &v.iter().map(|&v| v as f32).collect::<Vec<f32>>());
        std::vec![
            tensor(&[t, b, i], &self.x),
            tensor(&[d, rows, i], &self.weight),
            tensor(&[d, rows, h], &self.recurrent),
            tensor(&[d, 2 * rows], &self.bias),
            tensor(&[d, b, h], &self.hidden),
            tensor(&[d, b, h], &self.cell),
            tensor(&[d, 3 * h], &self.peepholes),
        ]
    }

    /// `W·x + W_b` and `R·h + R_b` of one gate row.
    fn row(&self, gates: usize, d: usize, row: usize, x: &[f64], h: &[f64]) -> (f64, f64) {
        let rows = gates * h.len();
        let product = |m: &[f64], v: &[f64]| -> f64 {
            (0..v.len()).map(|k| m[(d * rows + row) * v.len() + k] * v[k]).sum()
        };
        let bias = |half: usize| self.bias[(2 * d + half) * rows + row];
        (product(&self.weight, x) + bias(0), product(&self.recurrent, h) + bias(1))
    }

    /// Runs `cell(d, x, h, c)` over time; returns y, last hidden, last cell.
    fn unroll(
        &self,
        direction: u32,
        cell: impl Fn(usize, &[f64], &mut Vec<f64>, &mut Vec<f64>),
    ) -> [Vec<f64>; 3] {
        let [ds, ts, bs, is, hs] = self.dims;
        let mut y = std::vec![0.0; ts * ds * bs * hs];
        let (mut hidden, mut cells) = (Vec::new(), Vec::new());
        for d in 0..ds {
            for b in 0..bs {
                let state = (d * bs + b) * hs;
                let mut h = self.hidden[state..state + hs].to_vec();
                let mut c = self.cell[state..state + hs].to_vec();
                for i in 0..ts {
                    let t = if direction == REVERSE || d == 1 { ts - 1 - i } else { i };
                    let at = (t * bs + b) * is;
                    cell(d, &self.x[at..at + is], &mut h, &mut c);
                    let at = ((t * ds + d) * bs + b) * hs;
                    y[at..at + hs].copy_from_slice(&h);
                }
                hidden.extend(h);
                cells.extend(c);
            }
        }
        [y, hidden, cells]
    }
}

impl Operands {
    /// y, last hidden and last cell of an LSTM.
    fn lstm(&self, direction: u32, peeping: bool) -> [Vec<f64>; 3] {
        let hs = self.dims[4];
        self.unroll(direction, |d, x, h, c| {
            let gate = |g: usize, k: usize, h: &[f64]| {
                let (a, b) = self.row(4, d, g * hs + k, x, h);
                a + b
            };
            let peep = |g: usize, k: usize| if peeping { self.peepholes[(3 * d + g) * hs + k] } else { 0.0 };
            let old = h.clone();
            for k in 0..hs {
                let i = sigma(gate(0, k, &old) + peep(0, k) * c[k]);
                let f = sigma(gate(2, k, &old) + peep(2, k) * c[k]);
                c[k] = f * c[k] + i * gate(3, k, &old).tanh();
                h[k] = sigma(gate(1, k, &old) + peep(1, k) * c[k]) * c[k].tanh();
            }
        })
    }

    /// y and last hidden of a GRU.
    fn gru(&self, direction: u32, linear: bool) -> [Vec<f64>; 3] {
        let hs = self.dims[4];
        self.unroll(direction, |d, x, h, _| {
            let gate = |g: usize, k: usize, h: &[f64]| self.row(3, d, g * hs + k, x, h);
            let sum = |(a, b): (f64, f64)| a + b;
            let old = h.clone();
            let reset: Vec<f64> = (0..hs).map(|k| sigma(sum(gate(1, k, &old)))).collect();
            let gated: Vec<f64> = reset.iter().zip(&old).map(|(r, h)| r * h).collect();
            for k in 0..hs {
                let z = sigma(sum(gate(0, k, &old)));
                let (a, b) = gate(2, k, &old);
                let n = if linear { a + reset[k] * b } else { sum(gate(2, k, &gated)) };
                h[k] = (1.0 - z) * n.tanh() + z * old[k];
            }
        })
    }
}

/// Directions, time, batch, inputs, hidden.
const CASES: [(u32, [usize; 5]); 4] = [
    (FORWARD, [1, 5, 2, 3, 7]),
    (REVERSE, [1, 4, 1, 9, 2]),
    (BOTH, [2, 6, 3, 4, 5]),
    (FORWARD, [1, 1, 1, 1, 1]),
];

#[test]
fn lstm_agrees_with_naive() {
    let mut random = Random(81);
    for (direction, dims) in CASES {
        for peeping in [false, true] {
            let operands = Operands::new(&mut random, 4, dims);
            let want = operands.lstm(direction, peeping);
            let tensors = operands.tensors(4);
            let inputs: Vec<&Tensor> = tensors.iter().take(if peeping { 7 } else { 6 }).collect();
            let attrs = RecurrentAttrs { direction, linear_before_reset: 0 };
            let mut outputs = want.each_ref().map(|w| Tensor::zeros(DType::F32, &[w.len() as u32]));
            let [y, h, c] = &mut outputs;
            run(&KERNEL_LSTM, &attrs, &inputs, &mut [y, h, c]).unwrap();
            for (have, want) in outputs.iter().zip(&want) {
                assert_close(&have.values(), want, 1e-5);
            }
        }
    }
}

#[test]
fn gru_agrees_with_naive() {
    let mut random = Random(82);
    for (direction, dims) in CASES {
        for linear_before_reset in [0, 1] {
            let operands = Operands::new(&mut random, 3, dims);
            let want = operands.gru(direction, linear_before_reset == 1);
            let tensors = operands.tensors(3);
            let inputs: Vec<&Tensor> = tensors.iter().take(5).collect();
            let attrs = RecurrentAttrs { direction, linear_before_reset };
            let mut outputs = [0, 1].map(|i| Tensor::zeros(DType::F32, &[want[i].len() as u32]));
            let [y, h] = &mut outputs;
            run(&KERNEL_GRU, &attrs, &inputs, &mut [y, h]).unwrap();
            for (have, want) in outputs.iter().zip(&want) {
                assert_close(&have.values(), want, 1e-5);
            }
        }
    }
}

#[test]
fn refuses_operands_that_disagree() {
    let operands = Operands::new(&mut Random(83), 4, [1, 2, 1, 3, 2]);
    let tensors = operands.tensors(4);
    let inputs: Vec<&Tensor> = tensors.iter().take(6).collect();
    let outputs = || [4, 2, 2].map(|n| Tensor::zeros(DType::F32, &[n]));
    let attempt = |attrs: RecurrentAttrs, inputs: &[&Tensor], mut outputs: [Tensor; 3]| {
        let [y, h, c] = &mut outputs;
        run(&KERNEL_LSTM, &attrs, inputs, &mut [y, h, c])
    };
    let good = RecurrentAttrs { direction: FORWARD, linear_before_reset: 0 };
    assert!(attempt(good, &inputs, outputs()).is_ok());
    assert!(attempt(RecurrentAttrs { direction: BOTH, ..good }, &inputs, outputs()).is_err());
    assert!(attempt(RecurrentAttrs { direction: 3, ..good }, &inputs, outputs()).is_err());
    assert!(attempt(good, &inputs[..5], outputs()).is_err());
    assert!(attempt(good, &inputs, [4, 2, 1].map(|n| Tensor::zeros(DType::F32, &[n]))).is_err());
    let mut swapped = inputs.clone();
    swapped.swap(1, 2);
    assert!(attempt(good, &swapped, outputs()).is_err());
    let mut short = outputs();
    let [y, h, c] = &mut short;
    let have = crate::test_case::run_unchecked(&KERNEL_LSTM, &good, &inputs, &mut [y, h, c], 0);
    assert_eq!(have, Err(KernelError::Memory(crate::OpCode::Lstm)));
}
