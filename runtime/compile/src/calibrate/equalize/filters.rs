//! The weights of a convolution while factors move through them.

use crate::graph::{Diagonals, Graph, Tensor};
use crate::quantize::Layer;

/// Weight and bias in binary64, and the factors that went in.
#[derive(Clone, Debug)]
pub(super) struct Filters {
    pub(super) layer: Layer,
    /// `[out, inputs, taps…]`.
    weight: Vec<f64>,
    shape: Vec<usize>,
    bias: Vec<f64>,
    /// Per output channel.
    output: Vec<f64>,
    /// Per input channel.
    input: Vec<f64>,
}

impl Filters {
    pub(super) fn of(graph: &Graph, layer: Layer) -> Option<Self> {
        let konst = graph.konst(layer.weight)?;
        let reals = |values: Vec<f32>| values.into_iter().map(f64::from).collect();
        let (shape, inputs) = (konst.shape().to_vec(), *konst.shape().get(1)?);
        Some(Self {
            weight: reals(konst.to_f32()),
            bias: reals(layer.biases(graph)),
            output: vec![1.0; layer.channels],
            input: vec![1.0; inputs],
            shape,
            layer,
        })
    }

    /// The largest magnitude of each output channel.
    pub(super) fn rows(&self) -> Vec<f64> {
        let row = self.weight.len() / self.layer.channels.max(1);
        self.weight.chunks(row.max(1)).map(|row| row.iter().fold(0.0, |most, w| w.abs().max(most))).collect()
    }

    /// The largest magnitude of each input channel.
    pub(super) fn columns(&self) -> Vec<f64> {
        if self.layer.depthwise {
            return self.rows();
        }
        let mut columns = vec![0.0f64; self.input.len()];
        for (i, w) in self.weight.iter().enumerate() {
            let column = &mut columns[i / self.taps() % self.input.len()];
            *column = column.max(w.abs());
        }
        columns
    }

    pub(super) fn divide_outputs(&mut self, factors: &[f64]) {
        let inverse: Vec<f64> = factors.iter().map(|factor| 1.0 / factor).collect();
        self.multiply_outputs(&inverse);
        self.bias.iter_mut().zip(&inverse).for_each(|(b, f)| *b *= f);
    }

    /// An input channel of a depthwise convolution is an output channel of its weight, but not of its bias.
    pub(super) fn multiply_inputs(&mut self, factors: &[f64]) {
        if self.layer.depthwise {
            return self.multiply_outputs(factors);
        }
        let (taps, inputs) = (self.taps(), self.input.len());
        self.weight.iter_mut().enumerate().for_each(|(i, w)| *w *= factors[i / taps % inputs]);
        self.input.iter_mut().zip(factors).for_each(|(total, f)| *total *= f);
    }

    fn multiply_outputs(&mut self, factors: &[f64]) {
        let row = self.weight.len() / self.layer.channels.max(1);
        self.weight
            .chunks_mut(row.max(1))
            .zip(factors)
            .for_each(|(row, f)| row.iter_mut().for_each(|w| *w *= f));
        self.output.iter_mut().zip(factors).for_each(|(total, f)| *total *= f);
    }

    fn taps(&self) -> usize {
        self.shape.iter().skip(2).product::<usize>().max(1)
    }

    /// Puts the weight and the bias into `graph` and the factors into `diagonals`.
    pub(super) fn write(&self, graph: &mut Graph, diagonals: &mut Diagonals) {
        let rounded = |values: &[f64]| values.iter().map(|v| *v as f32).collect::<Vec<f32>>();
        let weight = Tensor::from_f32(&self.shape, &rounded(&self.weight));
        let (Some(weight), Some(bias)) = (weight, Tensor::from_f32(&[self.bias.len()], &rounded(&self.bias)))
        else {
            return;
        };
        let name = graph[self.layer.weight].name.clone();
        graph.values[self.layer.weight.index()].konst = Some(weight);
        let bias = graph.add_constant(&format!("{name}.bias"), bias);
        let inputs = &mut graph.nodes[self.layer.node.index()].inputs;
        inputs.truncate(2);
        inputs.push(Some(bias));
        diagonals.scale_outputs(&name, &self.output);
        diagonals.scale_inputs(&name, &self.input);
    }
}
