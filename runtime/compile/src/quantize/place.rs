//! Where a float graph is rounded.

use std::collections::{BTreeMap, BTreeSet};

use ingraft_tensor::QParams;

use super::form;
use super::layer::Layer;
use crate::graph::{Graph, NodeId, Uses, ValueId};

/// Which nodes compute on codes, and which values are held as codes for that.
///
/// - Convolutions and products with constant weights do, wherever their form allows, and so do the sums, products,
///   pools, means, concatenations, softmaxes and activations between them.
/// - Not so where it would cost precision and save nothing: before a logarithm or root without activations on the way
///   (a spectral front end), away from every layer, or where only operators on reals read the result.
/// - A clamp belongs to the operator before it, whose result is rounded once, behind the clamp.
/// - Data moves, and maxima are taken, on codes with the parameters they came with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Placement {
    /// Per node.
    pub(crate) roles: Vec<Role>,
    /// The layers that compute on codes.
    pub(crate) layers: Vec<Layer>,
    /// The values that are rounded, and where their parameters come from.
    pub(crate) rounded: BTreeMap<ValueId, Source>,
    /// The nodes that have to move codes because an integer operator reads what they move.
    pub(crate) moved: BTreeSet<NodeId>,
}

/// How a node computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A layer, or the addition of its bias.
    Layer,
    /// On codes.
    Operator,
    /// As the last part of the operator before it.
    Fused,
    /// Not at all: it moves what it reads.
    Moves,
    /// On reals, for this reason.
    Float(&'static str),
}

/// Where the parameters of a rounded value come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Source {
    /// The values it takes on the samples.
    Observed,
    /// The function that makes it.
    Fixed(QParams),
    /// The concatenation that alone reads it.
    Shared(ValueId),
}

impl Placement {
    /// The placement for a channels-last float graph.
    pub(crate) fn of(graph: &Graph) -> Self {
        let mut placer = Placer::new(graph);
        while placer.without_codes_to_read() | placer.away_from_layers() {}
        placer.round();
        placer.share();
        let Placer { roles, layers, rounded, moved, .. } = placer;
        let layers = layers.into_values().filter(|l| roles[l.node.index()] == Role::Layer).collect();
        Self { roles, layers, rounded, moved }
    }

    /// The values whose range the samples must show.
    pub(crate) fn observed(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.rounded.iter().filter(|(_, source)| **source == Source::Observed).map(|(value, _)| *value)
    }
}

struct Placer<'g> {
    graph: &'g Graph,
    uses: Uses,
    roles: Vec<Role>,
    layers: BTreeMap<NodeId, Layer>,
    rounded: BTreeMap<ValueId, Source>,
    moved: BTreeSet<NodeId>,
}

/// Who reads a value, itself or moved.
#[derive(Default)]
struct Readers {
    integer: Vec<NodeId>,
    real: bool,
    output: bool,
}

impl<'g> Placer<'g> {
    fn new(graph: &'g Graph) -> Self {
        let uses = Uses::of(graph);
        let mut placer = Self {
            graph,
            uses,
            roles: vec![Role::Moves; graph.nodes.len()],
            layers: BTreeMap::new(),
            rounded: BTreeMap::new(),
            moved: BTreeSet::new(),
        };
        let front_end = form::front_end(graph);
        for id in graph.node_ids() {
            // The addition of a bias is decided together with its product.
            if placer.roles[id.index()] != Role::Layer {
                placer.roles[id.index()] = match front_end[id.index()] {
                    true => {
                        Role::Float("it is part of a spectral front end, whose values do not fit 256 codes")
                    }
                    false => placer.role(id),
                };
            }
        }
        placer
    }

    fn role(&mut self, id: NodeId) -> Role {
        let node = &self.graph[id];
        match Layer::of(self.graph, &self.uses, id) {
            Ok(layer) => {
                if let Some(add) = layer.add {
                    self.roles[add.index()] = Role::Layer;
                }
                self.layers.insert(id, layer);
                return Role::Layer;
            }
            Err(reason) if Layer::is_product(self.graph, node) => return Role::Float(reason),
            Err(_) => {}
        }
        if form::moves_data(self.graph, node) {
            return Role::Moves;
        }
        let fused = form::is_clamp(&node.op) && node.input(0).is_some_and(|x| self.is_result(x, id));
        match form::integer(self.graph, node) {
            Ok(()) if fused => Role::Fused,
            Ok(()) => Role::Operator,
            Err(reason) => Role::Float(reason),
        }
    }

    /// Whether `value` is what an integer operator that can clamp it makes, and `reader` alone reads it.
    fn is_result(&self, value: ValueId, reader: NodeId) -> bool {
        let Some(producer) =
            self.uses.producer(value).filter(|_| self.uses.only_consumer(value) == Some(reader))
        else {
            return false;
        };
        let clamps =
            form::fixed(&self.graph[producer].op).is_none() && !form::is_clamp(&self.graph[producer].op);
        matches!(self.roles[producer.index()], Role::Layer | Role::Operator) && clamps
    }

    /// What integer operator `id` makes, behind its bias and its clamp.
    fn result(&self, id: NodeId) -> ValueId {
        let made = self.layers.get(&id).map_or(self.graph[id].outputs[0], |layer| layer.output);
        match self.uses.only_consumer(made).filter(|reader| self.roles[reader.index()] == Role::Fused) {
            Some(clamp) => self.graph[clamp].outputs[0],
            None => made,
        }
    }

    /// The nodes that compute on codes, but for additions of biases.
    fn integer_nodes(&self) -> Vec<NodeId> {
        let counts = |id: &NodeId| match self.roles[id.index()] {
            Role::Layer => self.layers.contains_key(id),
            role => role == Role::Operator,
        };
        self.graph.node_ids().filter(counts).collect()
    }

    fn readers(&self, value: ValueId) -> Readers {
        let mut readers = Readers::default();
        let mut pending = vec![value];
        while let Some(value) = pending.pop() {
            readers.output |= self.uses.is_output(value);
            for reader in self.uses.consumers(value) {
                match self.roles[reader.index()] {
                    Role::Layer | Role::Operator => readers.integer.push(*reader),
                    Role::Moves => pending.extend(&self.graph[*reader].outputs),
                    Role::Float(_) => readers.real = true,
                    Role::Fused => {}
                }
            }
        }
        readers
    }

    /// Leaves operators real whose result is read by operators on reals alone. Says whether any was found.
    fn without_codes_to_read(&mut self) -> bool {
        let useless = |id: &NodeId| {
            let readers = self.readers(self.result(*id));
            self.roles[id.index()] == Role::Operator
                && readers.real
                && readers.integer.is_empty()
                && !readers.output
        };
        let found: Vec<NodeId> = self.integer_nodes().into_iter().filter(useless).collect();
        self.leave_real(&found, "only operators on reals read its result")
    }

    /// Leaves operators real that no chain of operators on codes joins to a layer. Says whether any was found.
    fn away_from_layers(&mut self) -> bool {
        let nodes = self.integer_nodes();
        let mut neighbours: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        for id in &nodes {
            for reader in self.readers(self.result(*id)).integer {
                neighbours.entry(*id).or_default().push(reader);
                neighbours.entry(reader).or_default().push(*id);
            }
        }
        let mut joined = BTreeSet::new();
        let mut pending: Vec<NodeId> = self.layers.keys().copied().collect();
        while let Some(id) = pending.pop() {
            if joined.insert(id) {
                pending.extend(neighbours.get(&id).into_iter().flatten());
            }
        }
        let found: Vec<NodeId> = nodes.into_iter().filter(|id| !joined.contains(id)).collect();
        self.leave_real(&found, "it stands apart from every convolution and linear layer")
    }

    fn leave_real(&mut self, nodes: &[NodeId], reason: &'static str) -> bool {
        for id in nodes {
            let result = self.result(*id);
            if let Some(clamp) = self.uses.producer(result) {
                self.roles[clamp.index()] = Role::Float(reason);
            }
            self.roles[id.index()] = Role::Float(reason);
        }
        !nodes.is_empty()
    }

    /// Finds the values to round: what integer operators read and, but for layers that nothing integer reads, make.
    fn round(&mut self) {
        for id in self.integer_nodes() {
            let operands: Vec<ValueId> = match self.layers.get(&id) {
                Some(layer) => vec![layer.input],
                None => self.graph[id].inputs.iter().flatten().copied().collect(),
            };
            for operand in operands.into_iter().filter(|v| self.graph.konst(*v).is_none()) {
                let origin = self.origin(operand);
                self.round_value(origin);
            }
            // Depthwise steps round what they make.
            if self.layers.get(&id).is_none_or(|layer| layer.depthwise) {
                self.round_value(self.result(id));
            }
        }
    }

    fn round_value(&mut self, value: ValueId) {
        let made_by = self.uses.made_by(self.graph, value);
        let source = made_by.and_then(|node| form::fixed(&node.op)).map_or(Source::Observed, Source::Fixed);
        self.rounded.insert(value, source);
    }

    /// The value that nodes which only move data made `value` from. Those nodes have to move codes.
    fn origin(&mut self, mut value: ValueId) -> ValueId {
        while let Some(id) = self.uses.producer(value).filter(|id| self.roles[id.index()] == Role::Moves)
            && let Some(input) = self.graph[id].input(0)
        {
            self.moved.insert(id);
            value = input;
        }
        value
    }

    /// Gives what only a concatenation reads the parameters of the concatenation, so that it is rounded once.
    fn share(&mut self) {
        for id in self.integer_nodes() {
            if !matches!(self.graph[id].op, crate::op::Op::Concat { .. }) {
                continue;
            }
            let result = self.result(id);
            for part in self.graph[id].inputs.clone().into_iter().flatten() {
                let alone = self.uses.only_consumer(part) == Some(id);
                if alone && self.rounded.get(&part) == Some(&Source::Observed) {
                    self.rounded.insert(part, Source::Shared(result));
                }
            }
        }
    }
}
