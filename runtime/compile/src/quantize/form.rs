//! Which operators have an integer form.

use ingraft_tensor::{DType, QParams};

use crate::graph::{Graph, Node, ValueId};
use crate::op::{Binary, Layout, Op, Pad, PadMode, Pool, PoolKind, ReduceKind, Unary};

/// Whether plans compute `node`, which is no layer, on codes; if not, why not.
pub(super) fn integer(graph: &Graph, node: &Node) -> Result<(), &'static str> {
    let activations = node.inputs.iter().flatten().filter(|v| graph.konst(**v).is_none()).count();
    if !node.inputs.iter().flatten().chain(&node.outputs).all(|v| graph[*v].dtype == DType::F32) {
        return Err("it is not in single precision");
    }
    match &node.op {
        Op::Binary(Binary::Add | Binary::Mul) if activations > 0 => Ok(()),
        Op::Concat { .. } => Ok(()),
        Op::Pool(Pool { kind: PoolKind::Average { .. }, layout: Layout::ChannelsLast, window, .. })
            if window.kernel.len() <= 2 =>
        {
            Ok(())
        }
        Op::Reduce { kind: ReduceKind::Mean, axes, .. } => spatial(graph, node, axes),
        Op::Unary(unary) if is_activation(*unary) => Ok(()),
        Op::Unary(Unary::Abs | Unary::Neg | Unary::Clip { .. }) => Ok(()),
        Op::Unary(_) => Err("its values do not fit 256 codes"),
        Op::Softmax { axis, log: false } => {
            let rank = node.input(0).map_or(0, |x| graph[x].shape.len());
            if axis + 1 == rank { Ok(()) } else { Err("integer softmax runs along the last dimension") }
        }
        Op::Softmax { .. } => Err("its values do not fit 256 codes"),
        Op::MatMul | Op::Gemm { .. } | Op::Conv(_) => Err("it multiplies two activations"),
        Op::LayerNorm { .. } | Op::RmsNorm { .. } | Op::GroupNorm { .. } => {
            Err("normalization needs the resolution of reals")
        }
        Op::Lstm(_) | Op::Gru(_) => Err("recurrent layers run on reals"),
        _ => Err("plans have no integer form of it"),
    }
}

/// A mean over every spatial dimension but those of extent 1 is a pool.
fn spatial(graph: &Graph, node: &Node, axes: &[usize]) -> Result<(), &'static str> {
    let rank = node.input(0).map_or(0, |x| graph[x].shape.len());
    let inside = axes.iter().all(|axis| (1..rank.saturating_sub(1)).contains(axis));
    let fits = inside && (3..=4).contains(&rank);
    if fits { Ok(()) } else { Err("integer means run over spatial dimensions") }
}

/// Whether `node` only moves data, or picks some of it, so that codes stay codes.
pub(super) fn moves_data(graph: &Graph, node: &Node) -> bool {
    let real = node.outputs.iter().all(|v| graph[*v].dtype == DType::F32);
    let moves = match &node.op {
        Op::Reshape { .. }
        | Op::Transpose { .. }
        | Op::Slice { .. }
        | Op::Expand { .. }
        | Op::Tile { .. } => true,
        Op::Identity | Op::Pad(Pad { mode: PadMode::Constant(0.0), .. }) => true,
        Op::Pool(Pool { kind: PoolKind::Max, layout, window, .. }) => {
            *layout == Layout::ChannelsLast && window.kernel.len() <= 2
        }
        _ => false,
    };
    moves && real
}

/// Whether `unary` is an activation function of a network, as against arithmetic.
pub(super) fn is_activation(unary: Unary) -> bool {
    match unary {
        Unary::Clip { min, max } => min == 0.0 && max.is_finite(),
        Unary::Relu | Unary::LeakyRelu { .. } | Unary::Elu { .. } | Unary::Selu { .. } => true,
        Unary::Gelu { .. } | Unary::Swish { .. } | Unary::HardSwish | Unary::Mish => true,
        Unary::Sigmoid | Unary::HardSigmoid { .. } | Unary::Tanh => true,
        Unary::Softplus | Unary::Softsign | Unary::Erf => true,
        _ => false,
    }
}

/// The activations that are fused into the operator before them.
pub(crate) fn is_clamp(op: &Op) -> bool {
    matches!(op, Op::Unary(Unary::Relu | Unary::Clip { .. }))
}

/// The parameters of the results of `op` where the function's own range gives them.
pub(super) fn fixed(op: &Op) -> Option<QParams> {
    match op {
        Op::Softmax { log: false, .. } | Op::Unary(Unary::Sigmoid) => QParams::new(1.0 / 256.0, -128),
        Op::Unary(Unary::Tanh) => QParams::new(1.0 / 128.0, 0),
        _ => None,
    }
}

/// The nodes between the inputs and a logarithm or root with no activation function before it: a spectral front end,
/// whose values span more powers of ten than codes can.
pub(super) fn front_end(graph: &Graph) -> Vec<bool> {
    let producers = graph.producers();
    let mut found = vec![false; graph.nodes.len()];
    for id in graph.node_ids() {
        if !matches!(graph[id].op, Op::Unary(Unary::Log | Unary::Sqrt)) {
            continue;
        }
        let mut before = vec![false; graph.nodes.len()];
        let mut pending = vec![id];
        while let Some(id) = pending.pop() {
            if !core::mem::replace(&mut before[id.index()], true) {
                let operands = graph[id].inputs.iter().flatten();
                pending.extend(operands.filter_map(|v: &ValueId| producers[v.index()]));
            }
        }
        let trained = |(node, before): (&Node, &bool)| {
            *before && matches!(node.op, Op::Unary(unary) if is_activation(unary))
        };
        if !graph.nodes.iter().zip(&before).any(trained) {
            found.iter_mut().zip(before).for_each(|(found, before)| *found |= before);
        }
    }
    found
}
