//! LSTM as its definition reads: one direction, no lengths, no peepholes.

use super::{floats, to_f64};
use crate::graph::Tensor;
use crate::op::{Direction, Lstm, ValueType};

pub(super) fn lstm(lstm: &Lstm, operands: &[Option<&Tensor>], results: &[ValueType]) -> Vec<Tensor> {
    assert_eq!(lstm.direction, Direction::Forward);
    assert!(operands.get(4).is_none_or(Option::is_none) && operands.get(7).is_none_or(Option::is_none));
    let hidden = lstm.hidden;
    let x = operands[0].unwrap();
    let [steps, batch, inputs] = *x.shape() else { panic!() };
    let list = |i: usize, len: usize| operands.get(i).copied().flatten().map_or(vec![0.0; len], to_f64);
    let (x, w, r) = (to_f64(x), list(1, 0), list(2, 0));
    let bias = list(3, 8 * hidden);
    let (mut h, mut c) = (list(5, batch * hidden), list(6, batch * hidden));
    let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
    let mut y = Vec::new();
    for t in 0..steps {
        for b in 0..batch {
            let input = &x[(t * batch + b) * inputs..][..inputs];
            let state = h[b * hidden..][..hidden].to_vec();
            let gate = |row: usize| -> f64 {
                let dot = |m: &[f64], v: &[f64]| m.iter().zip(v).map(|(a, b)| a * b).sum::<f64>();
                let recurrent = dot(&r[row * hidden..][..hidden], &state);
                dot(&w[row * inputs..][..inputs], input) + recurrent + bias[row] + bias[4 * hidden + row]
            };
            for j in 0..hidden {
                let [i, o, f, g] = [0, 1, 2, 3].map(|k| gate(k * hidden + j));
                let cell = &mut c[b * hidden + j];
                *cell = sigmoid(f) * *cell + sigmoid(i) * g.tanh();
                h[b * hidden + j] = sigmoid(o) * cell.tanh();
            }
        }
        y.extend_from_slice(&h);
    }
    [y, h, c].into_iter().zip(results).flat_map(|(values, ty)| floats(ty, values)).collect()
}
