//! Layer after layer into an ONNX graph.

use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, vec};

use ingraft_compile::Tensor;
use ingraft_compile::onnx::proto::dimension_proto::Value as Dim;
use ingraft_compile::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use ingraft_tensor::{DType, Rng};

use super::INPUT;

/// Version of the operator set.
const OPSET: i64 = 13;

/// What follows a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activation {
    /// max(x, 0).
    Relu,
    /// x · σ(x), in two nodes as exporters write it.
    Silu,
}

/// A graph that grows at one value.
pub(super) struct Builder {
    graph: GraphProto,
    rng: Rng,
    value: String,
    channels: usize,
    names: usize,
}

impl Builder {
    pub(super) fn new(name: &str, input: &[usize], seed: u64) -> Self {
        let dims: Vec<Dim> = input.iter().map(|extent| Dim::from(*extent)).collect();
        Self {
            graph: GraphProto::new(name).with_input(INPUT, DType::F32, &dims),
            rng: Rng::new(seed),
            value: INPUT.to_string(),
            channels: input[1],
            names: 0,
        }
    }

    /// Where the graph ends at present.
    pub(super) fn value(&self) -> &str {
        &self.value
    }

    /// Channels there.
    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    /// A linear layer over channels alone.
    pub(super) fn linear(&mut self, out: usize) {
        let parameters = self.parameters(&[out, self.channels], self.channels);
        self.layer(NodeProto::new("Gemm", &[], &[]).with_int("transB", 1), &parameters);
        self.channels = out;
    }

    /// A square convolution that keeps its input's extents over its stride.
    pub(super) fn conv(&mut self, out: usize, kernel: usize, stride: usize) {
        self.convolution([out, self.channels, kernel], (stride, 1));
        self.channels = out;
    }

    /// The same of each channel by itself.
    pub(super) fn depthwise(&mut self, kernel: usize, stride: usize) {
        self.convolution([self.channels, 1, kernel], (stride, self.channels));
    }

    pub(super) fn activate(&mut self, activation: Activation) {
        match activation {
            Activation::Relu => self.node("Relu", &[]),
            Activation::Silu => {
                let entry = self.value.clone();
                self.node("Sigmoid", &[]);
                self.node("Mul", &[&entry]);
            }
        }
    }

    /// The mean of each channel; one axis of channels is left.
    pub(super) fn average(&mut self) {
        self.node("GlobalAveragePool", &[]);
        self.node("Flatten", &[]);
    }

    /// Every channel times what two layers make of the means of all (Hu et al., 2018).
    pub(super) fn squeeze_and_excite(&mut self, squeezed: usize) {
        let (entry, channels) = (self.value.clone(), self.channels);
        self.node("GlobalAveragePool", &[]);
        self.conv(squeezed, 1, 1);
        self.activate(Activation::Silu);
        self.conv(channels, 1, 1);
        self.node("Sigmoid", &[]);
        self.node("Mul", &[&entry]);
    }

    /// Plus a value from before.
    pub(super) fn add(&mut self, other: &str) {
        self.node("Add", &[other]);
    }

    /// The file; the value at which the graph ends is its output.
    pub(super) fn finish(self) -> Vec<u8> {
        ModelProto::new(OPSET, self.graph.with_output(&self.value, DType::F32)).to_bytes()
    }

    fn convolution(&mut self, [out, row, kernel]: [usize; 3], (stride, groups): (usize, usize)) {
        let parameters = self.parameters(&[out, row, kernel, kernel], row * kernel * kernel);
        // As much as "same" wants of even extents: the odd one behind.
        let padding = kernel - 1 - (stride - 1).min(kernel - 1);
        let (before, behind) = ((padding / 2) as i64, padding.div_ceil(2) as i64);
        let node = NodeProto::new("Conv", &[], &[])
            .with_ints("kernel_shape", &[kernel as i64; 2])
            .with_ints("strides", &[stride as i64; 2])
            .with_ints("pads", &[before, before, behind, behind])
            .with_int("group", groups as i64);
        self.layer(node, &parameters);
    }

    /// Constants of a layer, uniform with the variance that keeps activations' (He et al., 2015): weight and bias.
    fn parameters(&mut self, weight: &[usize], row: usize) -> [String; 2] {
        let limit = libm::sqrt(6.0 / row as f64);
        [(weight, limit), (&weight[..1], 0.1)].map(|(shape, limit)| {
            let count = shape.iter().product();
            let values: Vec<f32> = (0..count).map(|_| self.rng.uniform(-limit, limit) as f32).collect();
            let (name, tensor) =
                (self.name(), Tensor::from_f32(shape, &values).expect("as many as the shape says"));
            self.graph.initializer.push(TensorProto::new(&name, &tensor));
            name
        })
    }

    fn layer(&mut self, mut node: NodeProto, parameters: &[String; 2]) {
        node.input = [self.value.clone()].into_iter().chain(parameters.clone()).collect();
        self.push(node);
    }

    fn node(&mut self, op: &str, others: &[&str]) {
        let mut node = NodeProto::new(op, others, &[]);
        node.input.insert(0, self.value.clone());
        self.push(node);
    }

    fn push(&mut self, mut node: NodeProto) {
        let name = self.name();
        node.output = vec![name.clone()];
        self.graph.node.push(node);
        self.value = name;
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("t{}", self.names)
    }
}
