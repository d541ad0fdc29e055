//! Inserting quantization into a float graph.

use std::collections::{BTreeMap, HashMap, HashSet};

use ingraft_tensor::{DType, QParams};

use super::asymmetric;
use super::layer::Layer;
use super::place::{Placement, Role, Source};
use super::weight::WeightCodes;
use crate::graph::{Graph, Node, NodeId, Tensor, ValueId};
use crate::op::{Binary, Op, Pad, PadMode};

/// The reals that the codes of each observed value stand for, from the lowest to the highest.
pub(crate) type Ranges = BTreeMap<ValueId, [f32; 2]>;

/// What is added to the biases of layers, per output channel.
pub(crate) type Corrections = BTreeMap<NodeId, Vec<f32>>;

/// How the weights of layers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weights {
    /// As int8 codes behind `DequantizeLinear`, so that layers compute on codes.
    Codes,
    /// As the reals of these codes, so that layers compute on reals what they would on codes.
    Simulated,
}

/// Rounds `graph` where `placement` says, with `QuantizeLinear` and `DequantizeLinear` nodes.
///
/// Values keep their ids. Biases stay real: lowering gives them the scale of their sums, sx·sw.
pub(crate) fn insert(
    graph: &Graph,
    placement: &Placement,
    ranges: &Ranges,
    corrections: &Corrections,
    weights: Weights,
) -> Graph {
    let mut inserter = Inserter::new(graph, placement, ranges, corrections, weights);
    for input in &graph.inputs {
        inserter.round(*input);
    }
    for id in graph.node_ids() {
        inserter.node(id);
    }
    inserter.outputs();
    let mut graph = inserter.graph;
    graph.remove_dead();
    graph
}

/// The constants of a `QuantizeLinear` or `DequantizeLinear`.
#[derive(Clone, Copy)]
struct Parameters {
    scale: ValueId,
    zero_point: ValueId,
    qparams: QParams,
}

/// What a value is held as.
#[derive(Clone, Copy)]
struct Codes {
    value: ValueId,
    parameters: Parameters,
}

struct Inserter<'a> {
    source: &'a Graph,
    placement: &'a Placement,
    layers: HashMap<NodeId, &'a Layer>,
    qparams: BTreeMap<ValueId, QParams>,
    corrections: &'a Corrections,
    weights: Weights,
    graph: Graph,
    codes: HashMap<ValueId, Codes>,
    /// Codes read as reals.
    dequantized: HashMap<ValueId, ValueId>,
    /// Values that no node makes as reals any more, but for the one that rounds them.
    only_codes: HashSet<ValueId>,
    /// Weights already written, by their dimension of output channels.
    written: HashMap<(ValueId, usize), ValueId>,
}

impl<'a> Inserter<'a> {
    fn new(
        source: &'a Graph,
        placement: &'a Placement,
        ranges: &Ranges,
        corrections: &'a Corrections,
        weights: Weights,
    ) -> Self {
        Self {
            source,
            placement,
            layers: placement.layers.iter().map(|layer| (layer.node, layer)).collect(),
            qparams: placement.rounded.keys().map(|v| (*v, parameters_of(*v, placement, ranges))).collect(),
            corrections,
            weights,
            graph: Graph { nodes: Vec::new(), ..source.clone() },
            codes: HashMap::new(),
            dequantized: HashMap::new(),
            only_codes: HashSet::new(),
            written: HashMap::new(),
        }
    }

    fn node(&mut self, id: NodeId) {
        let node = self.source[id].clone();
        let role = self.placement.roles[id.index()];
        let x = node.input(0);
        let on_codes = x.is_some_and(|x| self.codes.contains_key(&x) && self.only_codes.contains(&x));
        match role {
            Role::Moves if on_codes || self.placement.moved.contains(&id) => return self.moving(&node),
            Role::Moves | Role::Float(_) => self.real(node.clone()),
            Role::Layer => self.layer(id, node.clone()),
            Role::Operator | Role::Fused => self.operator(node.clone()),
        }
        let made_by_codes = !matches!(role, Role::Moves | Role::Float(_));
        for output in node.outputs {
            if made_by_codes && self.qparams.contains_key(&output) {
                self.only_codes.insert(output);
            }
            self.round(output);
        }
    }

    /// A node on reals: reads reals where there are any, else what codes stand for.
    fn real(&mut self, mut node: Node) {
        for operand in node.inputs.iter_mut().flatten() {
            if self.only_codes.contains(operand) {
                *operand = self.dequantize(*operand);
            }
        }
        self.graph.nodes.push(node);
    }

    /// A node whose operands are all held as codes, or are within its own operator.
    fn operator(&mut self, mut node: Node) {
        for operand in node.inputs.iter_mut().flatten() {
            *operand = match self.source.konst(*operand) {
                Some(konst) => self.constant(*operand, &konst.clone()),
                None => self.dequantize(*operand),
            };
        }
        self.graph.nodes.push(node);
    }

    /// A product with its weight, or the addition behind one.
    fn layer(&mut self, id: NodeId, mut node: Node) {
        let Some(layer) = self.layers.get(&id).copied() else {
            // The product before has put the bias in place.
            let owner = self.layers.values().find(|layer| layer.add == Some(id)).copied();
            if let Some((owner, bias)) = owner.and_then(|l| Some((l, self.corrected(l)?))) {
                node.inputs.iter_mut().filter(|v| **v == owner.bias).for_each(|v| *v = Some(bias));
            }
            return self.graph.nodes.push(node);
        };
        node.inputs[0] = Some(self.dequantize(layer.input));
        node.inputs[1] = Some(self.weight(layer));
        let bias = if layer.add.is_none() { self.corrected(layer) } else { None };
        let Some(bias) = bias else { return self.graph.nodes.push(node) };
        if !matches!(node.op, Op::MatMul) {
            node.inputs.truncate(2);
            node.inputs.push(Some(bias));
            return self.graph.nodes.push(node);
        }
        let product = self.graph.add_like(&node.name, layer.output);
        let sum = Node {
            name: format!("{}.bias", node.name),
            op: Op::Binary(Binary::Add),
            inputs: vec![Some(product), Some(bias)],
            outputs: core::mem::replace(&mut node.outputs, vec![product]),
        };
        self.graph.nodes.extend([node, sum]);
    }

    /// The corrected bias of `layer`, where there is a correction.
    fn corrected(&mut self, layer: &Layer) -> Option<ValueId> {
        let correction = self.corrections.get(&layer.node)?;
        let sums: Vec<f32> = layer.biases(self.source).iter().zip(correction).map(|(b, c)| b + c).collect();
        let name = format!("{}.bias", self.source[layer.weight].name);
        Some(self.graph.add_constant(&name, Tensor::from_f32(&[layer.channels], &sums)?))
    }

    /// What stands in for the weight of `layer`; one that is quantized already stays.
    fn weight(&mut self, layer: &Layer) -> ValueId {
        let weight = layer.weight;
        if let Some(written) = self.written.get(&(weight, layer.axis)) {
            return *written;
        }
        let Some(konst) = self.source.konst(weight) else { return weight };
        let shape = konst.shape().to_vec();
        let found = WeightCodes::of(konst, layer.axis);
        let written = match self.weights {
            Weights::Simulated => Tensor::from_f32(&shape, &found.reals).map(|reals| {
                let reals = self.graph.add_constant(&self.source[weight].name, reals);
                self.graph.swap_names(weight, reals);
                reals
            }),
            Weights::Codes => self.weight_codes(weight, layer.axis, &shape, &found),
        };
        let written = written.unwrap_or(weight);
        self.written.insert((weight, layer.axis), written);
        written
    }

    fn weight_codes(
        &mut self,
        weight: ValueId,
        axis: usize,
        shape: &[usize],
        found: &WeightCodes,
    ) -> Option<ValueId> {
        let name = self.source[weight].name.clone();
        let bytes: Vec<u8> = found.codes.iter().map(|code| code.cast_unsigned()).collect();
        let codes = self.graph.add_constant(&name, Tensor::new(DType::I8, shape.to_vec(), bytes)?);
        // A site is known by the name its weight has in the file.
        self.graph.swap_names(weight, codes);
        let scales = Tensor::from_f32(&[found.scales.len()], &found.scales)?;
        let scale = self.graph.add_constant(&format!("{name}.scale"), scales);
        let reals = self.graph.add_like(&name, weight);
        let (op, inputs) = (Op::DequantizeLinear { axis }, vec![Some(codes), Some(scale)]);
        self.graph.nodes.push(Node { name, op, inputs, outputs: vec![reals] });
        Some(reals)
    }

    /// The constant operand of an integer operator, as codes read as reals.
    fn constant(&mut self, value: ValueId, konst: &Tensor) -> ValueId {
        let values = konst.to_f32();
        let ends = values.iter().fold([0.0f32; 2], |[lo, hi], v| [lo.min(*v), hi.max(*v)]);
        let qparams = asymmetric(ends[0], ends[1]);
        let bytes: Vec<u8> = values.iter().map(|v| qparams.quantize(*v).cast_unsigned()).collect();
        let name = self.source[value].name.clone();
        let Some(tensor) = Tensor::new(DType::I8, konst.shape().to_vec(), bytes) else { return value };
        let codes = self.graph.add_constant(&name, tensor);
        let parameters = self.parameters(&name, qparams);
        self.reals_of(&name, value, Codes { value: codes, parameters })
    }

    /// A node that moves codes.
    fn moving(&mut self, node: &Node) {
        let (Some(x), [y]) = (node.input(0), node.outputs.as_slice()) else { return };
        let Some(Codes { value, parameters }) = self.codes.get(&x).copied() else { return };
        let moved = self.codes_like(*y);
        let op = match &node.op {
            // The code of zero borders what zero bordered.
            Op::Pad(pad) => {
                let mode = PadMode::Constant(f64::from(parameters.qparams.zero_point));
                Op::Pad(Pad { mode, ..pad.clone() })
            }
            op => op.clone(),
        };
        let mut inputs = node.inputs.clone();
        inputs[0] = Some(value);
        self.graph.nodes.push(Node { name: node.name.clone(), op, inputs, outputs: vec![moved] });
        self.only_codes.insert(*y);
        self.hold(*y, Codes { value: moved, parameters });
    }

    /// Rounds `value` where it is made, if the placement says so.
    fn round(&mut self, value: ValueId) {
        let Some(qparams) = self.qparams.get(&value).copied() else { return };
        let name = self.source[value].name.clone();
        let parameters = self.parameters(&name, qparams);
        let codes = self.codes_like(value);
        self.graph.nodes.push(Node {
            name: format!("{name}.quantize"),
            op: Op::QuantizeLinear { axis: 0, to: DType::I8 },
            inputs: [value, parameters.scale, parameters.zero_point].map(Some).to_vec(),
            outputs: vec![codes],
        });
        self.hold(value, Codes { value: codes, parameters });
    }

    /// Notes that `codes` hold `value`. What is there as codes alone goes by the value's name.
    fn hold(&mut self, value: ValueId, codes: Codes) {
        if self.only_codes.contains(&value) && !self.source.outputs.contains(&value) {
            self.graph.swap_names(value, codes.value);
        }
        self.codes.insert(value, codes);
    }

    /// `value` as integer operators read it: codes behind `DequantizeLinear`. What is not held as codes is read as it
    /// is, within a fused operator.
    fn dequantize(&mut self, value: ValueId) -> ValueId {
        if let Some(reals) = self.dequantized.get(&value) {
            return *reals;
        }
        let Some(codes) = self.codes.get(&value).copied() else { return value };
        let name = self.source[value].name.clone();
        let reals = self.reals_of(&name, value, codes);
        self.dequantized.insert(value, reals);
        reals
    }

    /// What `codes` stand for, as a new value like `value`.
    fn reals_of(&mut self, name: &str, value: ValueId, codes: Codes) -> ValueId {
        let reals = self.graph.add_like(name, value);
        self.graph.nodes.push(Node {
            name: format!("{name}.dequantize"),
            op: Op::DequantizeLinear { axis: 0 },
            inputs: [codes.value, codes.parameters.scale, codes.parameters.zero_point].map(Some).to_vec(),
            outputs: vec![reals],
        });
        reals
    }

    fn codes_like(&mut self, value: ValueId) -> ValueId {
        let codes = self.graph.add_like(&self.source[value].name, value);
        self.graph.values[codes.index()].dtype = DType::I8;
        codes
    }

    fn parameters(&mut self, name: &str, qparams: QParams) -> Parameters {
        let code = vec![(qparams.zero_point as i8).cast_unsigned()];
        let scale = self.graph.add_constant(&format!("{name}.scale"), Tensor::scalar_f32(qparams.scale));
        let zero_point = match Tensor::new(DType::I8, Vec::new(), code) {
            Some(tensor) => self.graph.add_constant(&format!("{name}.zero_point"), tensor),
            None => scale,
        };
        Parameters { scale, zero_point, qparams }
    }

    /// Hands out as reals what is there as codes alone, under the name it has in the file.
    fn outputs(&mut self) {
        for index in 0..self.source.outputs.len() {
            let value = self.source.outputs[index];
            if self.only_codes.contains(&value) {
                let reals = self.dequantize(value);
                self.graph.outputs[index] = reals;
                if self.graph[reals].name != self.source[value].name {
                    self.graph.swap_names(value, reals);
                }
            }
        }
    }
}

/// The parameters of a rounded value, found through concatenations.
fn parameters_of(value: ValueId, placement: &Placement, ranges: &Ranges) -> QParams {
    let mut value = value;
    while let Some(Source::Shared(with)) = placement.rounded.get(&value) {
        value = *with;
    }
    match placement.rounded.get(&value) {
        Some(Source::Fixed(qparams)) => *qparams,
        _ => {
            let [lo, hi] = ranges.get(&value).copied().unwrap_or_default();
            asymmetric(lo, hi)
        }
    }
}
