//! Folds what follows a convolution per channel into its weights and bias.

use super::super::{Graph, NodeId, Tensor, Uses, ValueId};
use super::Factors;
use crate::op::{Binary, Layout, Op};

/// Folds multiplication, division, addition and subtraction of constants that are alike within each channel. Gives the
/// number of edits; factors are multiplied into `factors`.
pub(super) fn run(graph: &mut Graph, factors: &mut Factors) -> usize {
    let mut edits = 0;
    let mut uses = Uses::of(graph);
    for id in graph.node_ids() {
        let Some((conv, map)) = foldable(graph, &uses, id) else { continue };
        if fold(graph, &uses, conv, &map, factors).is_none() {
            continue;
        }
        edits += 1;
        take_over(graph, conv, id);
        for &result in &graph[conv].outputs {
            uses.set_producer(result, conv);
        }
    }
    graph.remove_dead();
    edits
}

/// `y = factor·x + shift`, per channel.
pub(super) struct ChannelMap {
    pub(super) factor: Option<Vec<f64>>,
    pub(super) shift: Vec<f64>,
}

/// The convolution whose only consumer is node `id`, and what that does per channel.
fn foldable(graph: &Graph, uses: &Uses, id: NodeId) -> Option<(NodeId, ChannelMap)> {
    let node = &graph[id];
    let Op::Binary(binary) = node.op else { return None };
    let (lhs, rhs) = (node.input(0)?, node.input(1)?);
    let (x, c) = if graph.konst(rhs).is_some() { (lhs, rhs) } else { (rhs, lhs) };
    let conv = uses.producer(x).filter(|_| uses.only_consumer(x) == Some(id))?;
    let channels = channels_of(graph, conv)?;
    if graph[*node.outputs.first()?].shape != graph[x].shape {
        return None;
    }
    let c = per_channel(graph.konst(c)?, graph[x].shape.len(), channels)?;
    let on_the_left = x == lhs;
    let map = match binary {
        Binary::Mul => ChannelMap { factor: Some(c), shift: vec![0.0; channels] },
        Binary::Div if on_the_left && !c.contains(&0.0) => {
            ChannelMap { factor: Some(c.iter().map(|v| 1.0 / v).collect()), shift: vec![0.0; channels] }
        }
        Binary::Add => ChannelMap { factor: None, shift: c },
        Binary::Sub if on_the_left => ChannelMap { factor: None, shift: c.iter().map(|v| -v).collect() },
        _ => return None,
    };
    Some((conv, map))
}

/// The number of output channels of a convolution in ONNX's layout, where node `id` is one.
pub(super) fn channels_of(graph: &Graph, id: NodeId) -> Option<usize> {
    let node = &graph[id];
    match &node.op {
        Op::Conv(conv) if conv.layout == Layout::ChannelsFirst => {
            graph[node.input(1)?].shape.first().copied()
        }
        _ => None,
    }
}

/// The values of a constant per channel, where it has one value or differs along dimension 1 only.
fn per_channel(c: &Tensor, rank: usize, channels: usize) -> Option<Vec<f64>> {
    let values: Vec<f64> = c.to_f32().into_iter().map(f64::from).collect();
    if let [single] = values.as_slice() {
        return Some(vec![*single; channels]);
    }
    let skipped = rank.checked_sub(c.shape().len())?;
    let fits = |(i, &extent): (usize, &usize)| extent == if i + skipped == 1 { channels } else { 1 };
    c.shape().iter().enumerate().all(fits).then_some(values)
}

/// Changes weights and bias of `conv` so that its result is mapped per channel. `None`, and no change, where they are
/// not constant floats or the weights have other users.
pub(super) fn fold(
    graph: &mut Graph,
    uses: &Uses,
    conv: NodeId,
    map: &ChannelMap,
    factors: &mut Factors,
) -> Option<()> {
    let node = &graph[conv];
    let weights = node.input(1)?;
    uses.only_consumer(weights)?;
    let channels = map.shift.len();
    let old_bias = match node.input(2) {
        Some(bias) => graph.konst(bias)?.to_f32(),
        None => vec![0.0; channels],
    };
    let of = |o: usize| map.factor.as_ref().and_then(|factor| factor.get(o)).copied().unwrap_or(1.0);
    let moved = |(o, (&b, &shift)): (usize, (&f32, &f64))| (f64::from(b) * of(o) + shift) as f32;
    let bias: Vec<f32> = old_bias.iter().zip(&map.shift).enumerate().map(moved).collect();
    let konst = graph.konst(weights)?;
    if konst.dtype() != ingraft_tensor::DType::F32 {
        return None;
    }
    if map.factor.is_some() {
        let values = konst.to_f32();
        let inner = values.len().checked_div(channels)?;
        let scaled = |(i, &w): (usize, &f32)| (f64::from(w) * of(i / inner)) as f32;
        let scaled: Vec<f32> =
            if inner == 0 { values } else { values.iter().enumerate().map(scaled).collect() };
        let scaled = Tensor::from_f32(konst.shape(), &scaled)?;
        let total = factors.entry(graph[weights].name.clone()).or_insert_with(|| vec![1.0; channels]);
        for (o, factor) in total.iter_mut().enumerate() {
            *factor = (f64::from(*factor) * of(o)) as f32;
        }
        graph.values[weights.index()].konst = Some(scaled);
    }
    let name = format!("{}.bias", graph[weights].name);
    let bias = graph.add_constant(&name, Tensor::from_f32(&[channels], &bias)?);
    set_bias(graph, conv, bias);
    Some(())
}

fn set_bias(graph: &mut Graph, conv: NodeId, bias: ValueId) {
    let inputs = &mut graph.nodes[conv.index()].inputs;
    inputs.truncate(2);
    inputs.push(Some(bias));
}

/// Makes `conv` produce the result of node `id`, which is left without one that anything reads.
pub(super) fn take_over(graph: &mut Graph, conv: NodeId, id: NodeId) {
    let result = core::mem::take(&mut graph.nodes[id.index()].outputs);
    graph.nodes[id.index()].outputs = core::mem::replace(&mut graph.nodes[conv.index()].outputs, result);
    graph.nodes[id.index()].inputs.clear();
    graph.nodes[id.index()].op = Op::Identity;
}

#[cfg(test)]
mod tests {
    use ingraft_tensor::DType;

    use super::*;
    use crate::graph::Builder;
    use crate::reference::{assert_same, conv_2d, noise};

    #[test]
    fn constants_after_a_convolution_fold() {
        let mut b = Builder::new(0);
        let x = b.input("x", DType::F32, vec![1, 2, 4, 4]).unwrap();
        let w = b.constant("w", noise(&[3, 2, 3, 3], 1));
        let constants =
            [noise(&[1, 3, 1, 1], 2), noise(&[3, 1, 1], 3), Tensor::scalar_f32(0.7), Tensor::scalar_f32(2.5)];
        let mut y = b.add("conv", conv_2d([3, 3], [1, 1], 1), &[x, w]).unwrap();
        for (op, c) in [Binary::Mul, Binary::Add, Binary::Sub, Binary::Div].into_iter().zip(constants) {
            let c = b.constant("c", c);
            y = b.add("y", Op::Binary(op), &[y, c]).unwrap();
        }
        let before = b.finish(&[y]);
        let mut after = before.clone();
        let mut factors = Factors::new();
        assert_eq!(run(&mut after, &mut factors), 4);
        assert_eq!(after.nodes.len(), 1);
        assert_eq!(after[after.outputs[0]].name, "y");
        let want: Vec<f32> = noise(&[3], 2).to_f32().iter().map(|f| f / 2.5).collect();
        assert!(factors["w"].iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-6));
        assert_same(&before, &after, 1e-6);
    }

    #[test]
    fn shared_weights_and_results_stay() {
        let mut b = Builder::new(0);
        let x = b.input("x", DType::F32, vec![1, 2, 4, 4]).unwrap();
        let w = b.constant("w", noise(&[3, 2, 1, 1], 1));
        let c = b.constant("c", Tensor::scalar_f32(2.0));
        let first = b.add("first", conv_2d([1, 1], [0, 0], 1), &[x, w]).unwrap();
        let second = b.add("second", conv_2d([1, 1], [0, 0], 1), &[x, w]).unwrap();
        let scaled = b.add("scaled", Op::Binary(Binary::Mul), &[first, c]).unwrap();
        let mut graph = b.finish(&[scaled, second]);
        assert_eq!(run(&mut graph, &mut Factors::new()), 0);
    }
}
