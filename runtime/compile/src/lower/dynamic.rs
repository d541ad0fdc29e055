//! Layers on codes that were quantized at run time, as dynamic quantization leaves them:
//! `DynamicQuantizeLinear`, an integer product with constant weights, a cast, the product with both scales, a bias.

use ingraft_kernel::attrs::{ConvAttrs, Window};
use ingraft_kernel::{OpCode, SiteKind};
use ingraft_tensor::DType;

use super::filters::Filters;
use super::linear::{add_site, bias_behind, plan_window};
use super::pattern::{Chain, Patterns};
use super::select::Selector;
use super::{LowerError, ProgSite};
use crate::graph::{Node, NodeId, ValueId};
use crate::op::{Binary, Layout, Op};

/// An integer product and the nodes behind it that one step computes.
#[derive(Clone, Debug)]
pub(super) struct Dynamic {
    filters: Filters,
    codes: Vec<i8>,
    /// Scale and zero point of the input.
    scale: ValueId,
    zero_point: ValueId,
    weight_scale: Option<ValueId>,
    bias: Option<ValueId>,
    /// Bias and activation behind the product; its nodes are all that the step covers.
    chain: Chain,
}

impl Dynamic {
    /// The nodes that are part of the step, beside the product itself.
    pub(super) fn nodes(&self) -> &[NodeId] {
        &self.chain.nodes
    }
}

/// The layer whose integer product is node `id`, where it is one.
pub(super) fn find(uses: &Patterns<'_>, id: NodeId) -> Option<Dynamic> {
    let graph = uses.graph;
    let node = &graph[id];
    let (weight, zero) = (node.input(1)?, node.input(3));
    let filters = match &node.op {
        Op::MatMulInteger => Filters::of_matrix(graph, weight, zero)?,
        Op::ConvInteger(conv) if conv.layout == Layout::ChannelsLast => {
            Filters::of_convolution(graph, weight, zero)?
        }
        _ => return None,
    };
    let codes = filters.codes()?;
    let (scale, zero_point) = parameters(uses, node)?;
    let cast = uses.reader(node.outputs[0]).filter(|id| graph[*id].op == Op::Cast { to: DType::F32 })?;
    let scaling = uses.reader(graph[cast].outputs[0])?;
    let factor = other_factor(&graph[scaling], graph[cast].outputs[0])?;
    let mut nodes = vec![cast, scaling];
    let weight_scale = if factor == scale {
        None
    } else {
        let producer = uses.producer(factor)?;
        // The product of both scales is computed inside the step, unless something else reads it.
        nodes.extend((uses.reader(factor) == Some(scaling)).then_some(producer));
        Some(other_factor(&graph[producer], scale)?)
    };
    let fits = |value: ValueId| {
        let (shape, count) = (&graph[value].shape, graph[value].elements());
        graph.konst(value).is_some()
            && (count == 1 || (count == filters.out() && shape.last() == Some(&count)))
    };
    weight_scale.is_none_or(fits).then_some(())?;
    let mut end = graph[scaling].outputs[0];
    let bias = bias_behind(uses, end, filters.out());
    if let Some((add, _)) = bias {
        nodes.push(add);
        end = graph[add].outputs[0];
    }
    let mut chain = uses.chain(end).without_rounding(graph);
    chain.nodes.append(&mut nodes);
    Some(Dynamic { filters, codes, scale, zero_point, weight_scale, bias: bias.map(|(_, v)| v), chain })
}

/// Scale and zero point of the product's left operand, where that was quantized at run time.
fn parameters(uses: &Patterns<'_>, node: &Node) -> Option<(ValueId, ValueId)> {
    let graph = uses.graph;
    let mut codes = node.input(0)?;
    loop {
        let producer = &graph[uses.producer(codes)?];
        match (&producer.op, producer.outputs.as_slice()) {
            (Op::DynamicQuantizeLinear, &[_, scale, zero]) => {
                return (node.input(2) == Some(zero)).then_some((scale, zero));
            }
            (Op::Reshape { .. } | Op::Transpose { .. } | Op::Identity, _) => codes = producer.input(0)?,
            _ => return None,
        }
    }
}

/// What `value` is multiplied with in `node`.
fn other_factor(node: &Node, value: ValueId) -> Option<ValueId> {
    match (&node.op, node.input(0)?, node.input(1)?) {
        (Op::Binary(Binary::Mul), lhs, rhs) if lhs == value => Some(rhs),
        (Op::Binary(Binary::Mul), lhs, rhs) if rhs == value => Some(lhs),
        _ => None,
    }
}

/// Lowers the layer at node `id`.
pub(super) fn lower(selector: &mut Selector<'_>, id: NodeId, layer: &Dynamic) -> Result<(), LowerError> {
    let node = &selector.graph[id];
    let (window, groups) = match &node.op {
        Op::ConvInteger(conv) => (plan_window(&conv.window), conv.groups),
        _ => (Some(Window::UNIT), 1),
    };
    let window = window.ok_or_else(|| selector.unsupported(node, "has more than two spatial dimensions"))?;
    let (x, weight) = (selector.operand_value(node, 0)?, selector.operand_value(node, 1)?);
    let (name, out) = (selector.graph[weight].name.clone(), layer.filters.out());
    let per_channel = |selector: &Selector<'_>, value: Option<ValueId>, missing: f32| {
        let values = value.and_then(|v| selector.constant_f32(v)).unwrap_or_else(|| vec![missing]);
        values.iter().copied().cycle().take(out).collect::<Vec<f32>>()
    };
    let (multiplier, bias) =
        (per_channel(selector, layer.weight_scale, 1.0), per_channel(selector, layer.bias, 0.0));
    let sums = layer.filters.sums(&layer.codes);
    let operands = vec![
        selector.tensor(x)?,
        selector.named_constant(&name, layer.filters.shape(), &layer.codes)?,
        selector.named_constant(&format!("{name}.sums"), &[out], &sums)?,
        selector.named_constant(&format!("{name}.multiplier"), &[out], &multiplier)?,
        selector.named_constant(&format!("{name}.bias"), &[out], &bias)?,
        selector.tensor(layer.scale)?,
        selector.tensor(layer.zero_point)?,
    ];
    let attrs =
        ConvAttrs { window, groups: groups as u32, lo: layer.chain.bounds[0], hi: layer.chain.bounds[1] };
    let output = selector.result(&layer.chain)?;
    let step = selector.push_rows(OpCode::DynamicConv, &attrs, operands, output, &node.name)?;
    let linear = node.op == Op::MatMulInteger;
    let [_, kh, kw, inputs] = *layer.filters.shape() else { return Ok(()) };
    let site = ProgSite {
        name,
        kind: if linear { SiteKind::Linear } else { SiteKind::Conv },
        // Integer terms need the scale of the input at compile time: these sites take real ones.
        dtype: DType::F32,
        out,
        inputs,
        kernel: [kh, kw],
        groups,
        transposed: linear,
        step,
        stride: window.stride.into_iter().max().unwrap_or(1),
    };
    add_site(selector, site);
    Ok(())
}
