//! Gradients through time against slopes of the f64 definition.

use std::vec::Vec;

use super::*;
use crate::attrs::RecurrentBackwardAttrs;
use crate::backward::recurrent::{KERNEL_GRU, KERNEL_LSTM};

/// What has a gradient, in the order of the outputs.
const WANTED: [&str; 3] = ["sequence", "state", "cell"];

impl Operands {
    fn wanted(&mut self, which: usize) -> &mut Vec<f64> {
        [&mut self.x, &mut self.hidden, &mut self.cell][which]
    }

    /// Slopes of `Σ dy·out` by five-point differences.
    fn slopes(&self, which: usize, dy: &[f32], forward: impl Fn(&Self) -> Vec<f64>) -> Vec<f64> {
        const H: f64 = 1e-3;
        let mut moved = self.clone();
        (0..moved.wanted(which).len())
            .map(|i| {
                let start = moved.wanted(which)[i];
                let mut at = |step: f64| {
                    moved.wanted(which)[i] = start + step * H;
                    let out = forward(&moved);
                    out.iter().zip(dy).map(|(y, dy)| y * f64::from(*dy)).sum::<f64>()
                };
                let rise = 8.0 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0));
                at(0.0);
                rise / (12.0 * H)
            })
            .collect()
    }
}

/// Checks every output's gradient with respect to everything, adding to what the outputs hold already.
fn check(lstm: bool, (direction, flag): (u32, bool), operands: &Operands, random: &mut Random) {
    let (gates, outputs) = if lstm { (4, 3) } else { (3, 2) };
    let kernel = if lstm { KERNEL_LSTM } else { KERNEL_GRU };
    let forward = |o: &Operands| if lstm { o.lstm(direction, flag) } else { o.gru(direction, flag) };
    let counts = forward(operands).map(|out| out.len());
    let tensors = operands.tensors(gates);
    let count = match (lstm, flag) {
        (true, true) => 7,
        (true, false) => 6,
        _ => 5,
    };
    for (incoming, elements) in counts.iter().enumerate().take(outputs) {
        let dy = random.floats(*elements, -1.0, 1.0);
        let dy_tensor = Tensor::new(&[dy.len() as u32], &dy);
        let inputs: Vec<&Tensor> = core::iter::once(&dy_tensor).chain(tensors.iter().take(count)).collect();
        for wanted in 1..1u32 << outputs {
            let attrs = RecurrentBackwardAttrs {
                direction,
                linear_before_reset: u32::from(flag && !lstm),
                incoming: incoming as u32,
                wanted,
            };
            let chosen: Vec<usize> = (0..outputs).filter(|bit| wanted >> bit & 1 == 1).collect();
            let mut clone = operands.clone();
            let mut results: Vec<Tensor> = chosen
                .iter()
                .map(|which| Tensor::zeros(DType::F32, &[clone.wanted(*which).len() as u32]))
                .collect();
            let mut slots: Vec<&mut Tensor> = results.iter_mut().collect();
            run(&kernel, &attrs, &inputs, &mut slots).unwrap();
            for (which, found) in chosen.iter().zip(&results) {
                let want = operands.slopes(*which, &dy, |o| forward(o)[incoming].clone());
                let size = want.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
                for (i, (have, want)) in found.values::<f32>().iter().zip(&want).enumerate() {
                    let error = (f64::from(*have) - want).abs() / size;
                    let what = WANTED[*which];
                    assert!(error < 1e-5, "{what} of output {incoming}, element {i}: {have} is not {want}");
                }
            }
        }
    }
}

#[test]
fn every_gradient_is_a_slope() {
    let mut random = Random(84);
    for (direction, dims) in CASES {
        for flag in [false, true] {
            check(true, (direction, flag), &Operands::new(&mut random, 4, dims), &mut random);
            check(false, (direction, flag), &Operands::new(&mut random, 3, dims), &mut random);
        }
    }
}

#[test]
fn refuses_what_the_layer_does_not_have() {
    let operands = Operands::new(&mut Random(85), 3, [1, 2, 1, 3, 2]);
    let tensors = operands.tensors(3);
    let dy = Tensor::zeros(DType::F32, &[4]);
    let inputs: Vec<&Tensor> = core::iter::once(&dy).chain(tensors.iter().take(5)).collect();
    let good = RecurrentBackwardAttrs { direction: FORWARD, linear_before_reset: 0, incoming: 0, wanted: 1 };
    let attempt = |attrs: RecurrentBackwardAttrs| {
        run(&KERNEL_GRU, &attrs, &inputs, &mut [&mut Tensor::zeros(DType::F32, &[6])])
    };
    assert!(attempt(good).is_ok());
    for bad in [
        RecurrentBackwardAttrs { wanted: 0, ..good },
        RecurrentBackwardAttrs { wanted: 4, ..good },
        RecurrentBackwardAttrs { wanted: 2, ..good },
        RecurrentBackwardAttrs { incoming: 2, ..good },
        RecurrentBackwardAttrs { incoming: 1, ..good },
        RecurrentBackwardAttrs { direction: BOTH, ..good },
    ] {
        assert!(attempt(bad).is_err(), "{bad:?}");
    }
}
