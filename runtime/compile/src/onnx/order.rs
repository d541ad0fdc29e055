//! Topological order of the file's nodes.

use core::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::node::name_of;
use super::proto::{GraphProto, NodeProto};
use crate::error::ImportError;

/// The nodes in an order in which each comes after those it depends on; the file's own order where that is one.
///
/// `defined` says which names are constants or graph inputs.
pub(super) fn sorted(
    graph: &GraphProto,
    defined: impl Fn(&str) -> bool,
) -> Result<Vec<&NodeProto>, ImportError> {
    let mut producers: HashMap<&str, usize> = HashMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        for output in node.output.iter().filter(|name| !name.is_empty()) {
            if producers.insert(output, index).is_some() || defined(output) {
                return Err(ImportError::DuplicateName { name: output.clone() });
            }
        }
    }
    let mut waiting = vec![0usize; graph.node.len()];
    let mut consumers: Vec<Vec<usize>> = vec![Vec::new(); graph.node.len()];
    for (index, node) in graph.node.iter().enumerate() {
        for input in node.input.iter().filter(|name| !name.is_empty() && !defined(name)) {
            let undefined =
                || ImportError::Undefined { node: name_of(node).to_owned(), value: input.clone() };
            let producer = *producers.get(input.as_str()).ok_or_else(undefined)?;
            waiting[index] += 1;
            consumers[producer].push(index);
        }
    }
    let mut ready: BinaryHeap<Reverse<usize>> =
        (0..waiting.len()).filter(|&index| waiting[index] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(waiting.len());
    while let Some(Reverse(index)) = ready.pop() {
        order.push(&graph.node[index]);
        for &consumer in &consumers[index] {
            waiting[consumer] -= 1;
            if waiting[consumer] == 0 {
                ready.push(Reverse(consumer));
            }
        }
    }
    match waiting.iter().position(|&count| count > 0) {
        None => Ok(order),
        Some(stuck) => Err(ImportError::Cycle { node: name_of(&graph.node[stuck]).to_owned() }),
    }
}
