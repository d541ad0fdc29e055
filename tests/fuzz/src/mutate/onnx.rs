//! Models: nodes, attributes, extents and constants of a protobuf that stays one.

use ingraft_compile::onnx::operators;
use ingraft_compile::onnx::proto::dimension_proto::Value as Extent;
use ingraft_compile::onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};
use prost::Message;

use super::{Input, Own, change};

/// Changes a model.
pub fn onnx(data: &mut [u8], size: usize, seed: u32, own: Own<'_>) -> usize {
    change(data, size, seed, own, |input, most| {
        let decoded = ModelProto::decode(&input.bytes[..]).ok();
        let Some(mut model) = decoded.filter(|_| !input.once_in(8)) else { return input.own_whole(most) };
        if input.once_in(12)
            && let Some(set) = model.opset_import.first_mut()
        {
            set.version = 7 + input.random.below(22) as i64;
        }
        if let Some(graph) = &mut model.graph {
            (0..1 + input.random.below(3)).for_each(|_| edit(input, graph));
        }
        let bytes = model.encode_to_vec();
        if bytes.len() <= most {
            input.bytes = bytes;
        }
    })
}

fn edit(input: &mut Input<'_>, graph: &mut GraphProto) {
    match input.random.below(12) {
        0..3 => constant(input, graph),
        3 => {
            let from = any(input, &graph.input).cloned();
            let (Some(from), true) = (from, graph.input.len() < 4) else { return };
            graph.input.push(from);
        }
        4 => {
            let at = input.random.below(graph.input.len().max(1));
            let shape = graph.input.get_mut(at).and_then(|info| info.r#type.as_mut()?.tensor_type.as_mut());
            let Some(tensor) = shape else { return };
            if input.once_in(4) {
                tensor.elem_type = input.one_of(&CODES);
            }
            let Some(shape) = &mut tensor.shape else { return };
            let axis = input.random.below(shape.dim.len() + 1);
            let extent = input.one_of(&[0, 1, 2, 3, 4, 5, 7, 8, 16, 1 << 20, i64::MAX, -1]);
            match shape.dim.get_mut(axis) {
                Some(dim) if !input.once_in(6) => dim.value = Some(Extent::DimValue(extent)),
                Some(_) => drop(shape.dim.remove(axis)),
                None => shape.dim.push(Default::default()),
            }
        }
        5 => {
            let name = name(input, graph);
            if let Some(output) = graph.output.first_mut() {
                output.name = name;
            }
        }
        6 => insert(input, graph),
        _ => node(input, graph),
    }
}

/// One of `list`.
fn any<'l, T>(input: &mut Input<'_>, list: &'l [T]) -> Option<&'l T> {
    list.get(input.random.below(list.len().max(1)))
}

/// A name of a value that there is.
fn name(input: &mut Input<'_>, graph: &GraphProto) -> String {
    let named = match input.random.below(6) {
        0 => any(input, &graph.input).map(|info| &info.name),
        1 | 2 => any(input, &graph.initializer).map(|tensor| &tensor.name),
        _ => any(input, &graph.node).and_then(|node| node.output.first()),
    };
    named.cloned().unwrap_or_default()
}

/// Puts a new node behind a value, and hands its result to those that took the value.
fn insert(input: &mut Input<'_>, graph: &mut GraphProto) {
    if graph.node.len() > 24 {
        return;
    }
    let at = input.random.below(graph.node.len() + 1);
    let through = name(input, graph);
    let result = format!("v{}", input.random.below(1 << 16));
    let mut node = NodeProto::new(operator(input), &[&through], &[&result]);
    for _ in 0..input.random.below(3) {
        let operand = name(input, graph);
        node.input.push(operand);
    }
    for user in graph.node.iter_mut().skip(at) {
        user.input
            .iter_mut()
            .filter(|operand| **operand == through)
            .for_each(|operand| operand.clone_from(&result));
    }
    if input.once_in(2) {
        node.attribute.push(attribute(input));
    }
    graph.node.insert(at, node);
}

fn operator(input: &mut Input<'_>) -> &'static str {
    let all: Vec<&str> = operators().collect();
    all[input.random.below(all.len())]
}

/// Changes a node.
fn node(input: &mut Input<'_>, graph: &mut GraphProto) {
    let operand = name(input, graph);
    let donor = any(input, &graph.node).cloned();
    let at = input.random.below(graph.node.len().max(1));
    if graph.node.get(at).is_none() {
        return;
    }
    if input.once_in(12) {
        graph.node.remove(at);
        return;
    }
    let fresh = attribute(input);
    let node = &mut graph.node[at];
    match input.random.below(9) {
        0 => node.op_type = operator(input).to_owned(),
        1 => {
            let slot = input.random.below(node.input.len() + 1);
            match node.input.get_mut(slot) {
                Some(held) => *held = operand,
                None => node.input.push(operand),
            }
        }
        2 => drop(node.input.pop()),
        3 => {
            let slot = input.random.below(node.input.len().max(1));
            if let Some(held) = node.input.get_mut(slot) {
                held.clear();
            }
        }
        4 => node.attribute.push(fresh),
        5 => {
            let slot = input.random.below(node.attribute.len().max(1));
            if slot < node.attribute.len() {
                node.attribute.remove(slot);
            }
        }
        6 => node.attribute.extend(donor.and_then(|donor| donor.attribute.first().cloned())),
        _ => {
            let slot = input.random.below(node.attribute.len().max(1));
            let Some(held) = node.attribute.get_mut(slot) else { return };
            held.i = number(input);
            held.f = f32::from_bits(input.word(0x3f00_0000));
            let place = input.random.below(held.ints.len() + 1);
            match held.ints.get_mut(place) {
                Some(value) => *value = number(input),
                None => held.ints.push(number(input)),
            }
            if input.once_in(4) {
                held.s = input.one_of(&WORDS).as_bytes().to_vec();
            }
        }
    }
}

fn attribute(input: &mut Input<'_>) -> AttributeProto {
    let kind = input.one_of(&[1, 2, 3, 7]);
    let ints = (0..input.random.below(5)).map(|_| number(input)).collect();
    AttributeProto {
        name: input.one_of(&ATTRIBUTES).to_owned(),
        r#type: kind,
        i: number(input),
        f: input.one_of(&[0.0, 1.0, -1.0, 0.5, 1e-5, f32::NAN, f32::INFINITY, f32::MAX]),
        s: input.one_of(&WORDS).as_bytes().to_vec(),
        ints,
        ..AttributeProto::default()
    }
}

fn number(input: &mut Input<'_>) -> i64 {
    match input.random.below(3) {
        0 => input.one_of(&[i64::MIN, i64::MAX, -1, 1 << 31, -(1 << 31), 1 << 40, 65_535]),
        _ => input.random.below(9) as i64 - 2,
    }
}

/// Changes a constant, or adds a list of extents or axes.
fn constant(input: &mut Input<'_>, graph: &mut GraphProto) {
    let at = input.random.below(graph.initializer.len() + 1);
    let Some(tensor) = graph.initializer.get_mut(at).filter(|_| graph.node.len() > 24 || at % 5 != 4) else {
        let values: Vec<i64> = (0..input.random.below(5)).map(|_| number(input)).collect();
        let made = TensorProto {
            name: format!("i{}", input.random.below(1 << 16)),
            dims: vec![values.len() as i64],
            data_type: 7,
            int64_data: values,
            ..TensorProto::default()
        };
        if graph.initializer.len() < 24 {
            graph.initializer.push(made);
        }
        return;
    };
    match input.random.below(6) {
        0 => tensor.data_type = input.one_of(&CODES),
        1 => tensor.dims.reverse(),
        2 => {
            let axis = input.random.below(tensor.dims.len() + 1);
            let extent = input.one_of(&[0, 1, 2, 3, 4, 6, 9, i64::MAX, -1]);
            match tensor.dims.get_mut(axis) {
                Some(dim) => *dim = extent,
                None => tensor.dims.insert(0, 1),
            }
        }
        3 if tensor.dims.iter().all(|dim| (0..64).contains(dim)) => {
            // As many bytes as the extents ask for.
            let width = if tensor.data_type == 7 { 8 } else { 4 };
            let count = tensor.dims.iter().try_fold(width, |count: i64, dim| count.checked_mul(*dim));
            tensor.raw_data.resize(count.unwrap_or(0).clamp(0, 4096) as usize, 0x3e);
        }
        _ => {
            let word = input.word(0x3f80_0000).to_le_bytes();
            let place = 4 * input.random.below((tensor.raw_data.len() / 4).max(1));
            if let Some(chunk) = tensor.raw_data.get_mut(place..).and_then(|rest| rest.first_chunk_mut()) {
                *chunk = word;
            }
            if let Some(value) = tensor.int64_data.first_mut() {
                *value = number(input);
            }
        }
    }
}

/// Codes of element types.
const CODES: [i32; 12] = [1, 2, 3, 5, 6, 7, 9, 10, 11, 12, 13, 0];
const ATTRIBUTES: [&str; 26] = [
    "axis",
    "axes",
    "perm",
    "pads",
    "strides",
    "dilations",
    "kernel_shape",
    "group",
    "auto_pad",
    "ceil_mode",
    "count_include_pad",
    "epsilon",
    "alpha",
    "beta",
    "transA",
    "transB",
    "keepdims",
    "to",
    "mode",
    "num_outputs",
    "blocksize",
    "hidden_size",
    "direction",
    "linear_before_reset",
    "block_size",
    "approximate",
];
const WORDS: [&str; 14] = [
    "SAME_UPPER",
    "SAME_LOWER",
    "VALID",
    "NOTSET",
    "constant",
    "reflect",
    "edge",
    "linear",
    "nearest",
    "cubic",
    "bidirectional",
    "reverse",
    "tanh",
    "DCR",
];
