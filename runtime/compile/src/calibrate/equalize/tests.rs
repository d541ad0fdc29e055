//! Equalization leaves what a network computes, and brings its channels to one range.

use std::collections::BTreeMap;

use ingraft_tensor::DType;

use super::super::tests::{conv, samples};
use super::*;
use crate::graph::{Builder, Tensor, channels_last};
use crate::op::{Op, Unary};
use crate::reference::{assert_close, noise, run};

/// Factors from 1/16 to 16.
fn spread(channels: usize) -> Vec<f32> {
    (0..channels).map(|c| ((c * 5 % 9) as f32 - 4.0).exp2()).collect()
}

/// A 1×1, a depthwise 3×3 and a 1×1 convolution, `clamp` between them, whose channels are scaled apart by `first` and
/// `second`.
fn chain(clamp: Unary, first: &[f32], second: &[f32]) -> Graph {
    let mut b = Builder::new(0);
    let x = b.input("x", DType::F32, vec![1, 4, 6, 6]).unwrap();
    let scaled = |tensor: Tensor, factor: &dyn Fn(usize) -> f32| {
        let values: Vec<f32> = tensor.to_f32().iter().enumerate().map(|(i, v)| v * factor(i)).collect();
        Tensor::from_f32(tensor.shape(), &values).unwrap()
    };
    let w1 = b.constant("w1", scaled(noise(&[8, 4, 1, 1], 1), &|i| first[i / 4]));
    let b1 = b.constant("b1", scaled(noise(&[8], 2), &|i| first[i]));
    let w2 = b.constant("w2", scaled(noise(&[8, 1, 3, 3], 3), &|i| second[i / 9] / first[i / 9]));
    let w3 = b.constant("w3", scaled(noise(&[5, 8, 1, 1], 4), &|i| 1.0 / second[i % 8]));
    let mut y = b.add("y1", conv([1, 1], 0, 1), &[x, w1, b1]).unwrap();
    y = b.add("a1", Op::Unary(clamp), &[y]).unwrap();
    y = b.add("y2", conv([3, 3], 1, 8), &[y, w2]).unwrap();
    y = b.add("a2", Op::Unary(clamp), &[y]).unwrap();
    y = b.add("y3", conv([1, 1], 0, 1), &[y, w3]).unwrap();
    channels_last(b.finish(&[y])).into_graph()
}

fn equalized(graph: &Graph) -> Equalized {
    let runs = Runs::new(graph, &samples(graph, 8)).unwrap();
    equalize(graph.clone(), Diagonals::default(), &runs, &Host::SCALAR).unwrap()
}

fn assert_same_on(before: &Graph, after: &Graph, x: Tensor) {
    let inputs = BTreeMap::from([("x".to_owned(), x)]);
    let found = run(after, &inputs);
    for (name, want) in run(before, &inputs) {
        assert_close(&name, &want, &found[&name], 1e-5);
    }
}

#[test]
fn a_network_with_relu_computes_what_it_did() {
    let graph = chain(Unary::Relu, &spread(8), &[1.0; 8]);
    let after = equalized(&graph).graph;
    for seed in 200..210 {
        assert_same_on(&graph, &after, noise(&[1, 4, 6, 6], seed));
    }
}

#[test]
fn a_bounded_network_computes_what_it_did_on_the_samples() {
    let bound = Unary::Clip { min: 0.0, max: 6.0 };
    let graph = chain(bound, &[1.0, 0.1, 2.0, 0.5, 1.0, 0.02, 1.0, 0.3], &[1.0; 8]);
    let after = equalized(&graph);
    assert!(after.diagonals.of("w1").is_some());
    for sample in samples(&graph, 8) {
        let x = Tensor::new(DType::F32, vec![1, 4, 6, 6], sample[0].1.clone()).unwrap();
        assert_same_on(&graph, &after.graph, x);
    }
}

#[test]
fn rows_and_columns_come_to_one_range() {
    let graph = chain(Unary::Relu, &spread(8), &spread(8));
    let after = equalized(&graph).graph;
    let runs = Runs::new(&after, &samples(&after, 8)).unwrap();
    let (filters, pairs) = pair::find(&after);
    assert_eq!((filters.len(), pairs.len()), (3, 2));
    for pair in pairs {
        let mut peaks = ChannelPeaks::default();
        observe(&after, &runs, &Host::SCALAR, &mut [(pair.between, &mut peaks)]).unwrap();
        let top = peaks.0.iter().copied().fold(0.0, f32::max);
        let (rows, columns) = (filters[pair.first].rows(), filters[pair.second].columns());
        for ((row, column), peak) in rows.iter().zip(columns).zip(peaks.0) {
            let even = (row / column - 1.0).abs() < 0.01;
            let at_the_top = *row < column && peak > 0.999 * top;
            assert!(even || at_the_top, "{row} {column}, {peak} of {top}");
        }
    }
}

#[test]
fn the_diagonals_lead_back_to_the_weights_of_the_file() {
    let graph = chain(Unary::Relu, &spread(8), &spread(8));
    let Equalized { graph: after, diagonals } = equalized(&graph);
    for name in ["w1", "w2", "w3"] {
        let [before, now] = [&graph, &after].map(|g| g.konst(g.find(name).unwrap()).unwrap().clone());
        let diagonal = diagonals.of(name).unwrap();
        let factor = |side: &Option<Vec<f32>>, i: usize| side.as_ref().map_or(1.0, |factors| factors[i]);
        let (row, inputs) = (now.elements() / now.shape()[0], now.shape()[1]);
        let taps = row / inputs;
        for (i, (w, v)) in before.to_f32().iter().zip(now.to_f32()).enumerate() {
            let want = factor(&diagonal.output, i / row) * w * factor(&diagonal.input, i / taps % inputs);
            assert!((want - v).abs() <= 1e-6 * v.abs(), "{name} {i}: {want} {v}");
        }
    }
}
