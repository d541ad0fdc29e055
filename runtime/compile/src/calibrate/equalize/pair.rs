//! Finding convolutions that factors can move between.

use super::filters::Filters;
use crate::graph::{Graph, NodeId, Uses, ValueId};
use crate::op::{Op, Unary};
use crate::quantize::Layer;

/// Two convolutions with nothing but a clamp at zero between them.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    /// Index of the filters in front.
    pub(super) first: usize,
    /// Index of those behind.
    pub(super) second: usize,
    /// What the second one reads.
    pub(super) between: ValueId,
    /// Where values in between are clamped above.
    pub(super) bound: Option<f64>,
    /// The largest magnitude of each channel in between.
    pub(super) peaks: Vec<f64>,
}

/// The filters of `graph` that factors can move between, and which are pairs.
pub(super) fn find(graph: &Graph) -> (Vec<Filters>, Vec<Pair>) {
    let uses = Uses::of(graph);
    let mut filters: Vec<Filters> = Vec::new();
    let mut pairs = Vec::new();
    for id in graph.node_ids() {
        let Some((first, second, between, bound)) = follow(graph, &uses, id) else { continue };
        let mut index = |layer: Layer| {
            let known = filters.iter().position(|f| f.layer.node == layer.node);
            known.or_else(|| {
                filters.push(Filters::of(graph, layer)?);
                Some(filters.len() - 1)
            })
        };
        if let (Some(first), Some(second)) = (index(first), index(second)) {
            pairs.push(Pair { first, second, between, bound, peaks: Vec::new() });
        }
    }
    (filters, pairs)
}

/// The pair whose first convolution is node `id`, what lies between, and the bound there.
fn follow(graph: &Graph, uses: &Uses, id: NodeId) -> Option<(Layer, Layer, ValueId, Option<f64>)> {
    let first = convolution(graph, uses, id)?;
    let reader = uses.only_consumer(first.output)?;
    let (between, bound) = match graph[reader].op {
        Op::Unary(Unary::Relu) => (*graph[reader].outputs.first()?, None),
        Op::Unary(Unary::Clip { min: 0.0, max }) => {
            (*graph[reader].outputs.first()?, Some(max).filter(|max| max.is_finite()))
        }
        _ => (first.output, None),
    };
    let second = convolution(graph, uses, uses.only_consumer(between)?)?;
    // In groups, an input channel of the weight stands for several channels in between.
    let Op::Conv(conv) = &graph[second.node].op else { return None };
    (second.input == between && (conv.groups == 1 || second.depthwise))
        .then_some((first, second, between, bound))
}

/// The convolution at node `id`, where nothing else uses its weight.
fn convolution(graph: &Graph, uses: &Uses, id: NodeId) -> Option<Layer> {
    let layer = Layer::of(graph, uses, id).ok().filter(|_| matches!(graph[id].op, Op::Conv(_)))?;
    uses.only_consumer(layer.weight)?;
    graph.konst(layer.weight).is_some().then_some(layer)
}
