//! Recurrent layers.

use ingraft_kernel::OpCode;
use ingraft_kernel::attrs::RecurrentAttrs;
use ingraft_kernel::recurrent::{BOTH, FORWARD, REVERSE};

use crate::graph::Node;
use crate::lower::select::Selector;
use crate::lower::{LowerError, TensorRef};
use crate::op::{Direction, Gru, Lstm};

pub(super) fn lstm(selector: &mut Selector<'_>, node: &Node, lstm: &Lstm) -> Result<(), LowerError> {
    if lstm.input_forget {
        return Err(selector.unsupported(node, "couples input and forget gates"));
    }
    let attrs = RecurrentAttrs { direction: direction(lstm.direction), linear_before_reset: 0 };
    let mut inputs = operands(selector, node, [4 * lstm.hidden, lstm.hidden], lstm.direction)?;
    inputs.push(state(selector, node, 6, lstm.hidden, lstm.direction)?);
    if node.input(7).is_some() {
        inputs.push(selector.real_operand(node, 7)?);
    }
    layer(selector, node, OpCode::Lstm, &attrs, inputs)
}

pub(super) fn gru(selector: &mut Selector<'_>, node: &Node, gru: &Gru) -> Result<(), LowerError> {
    let linear_before_reset = u32::from(gru.linear_before_reset);
    let attrs = RecurrentAttrs { direction: direction(gru.direction), linear_before_reset };
    let inputs = operands(selector, node, [3 * gru.hidden, gru.hidden], gru.direction)?;
    layer(selector, node, OpCode::Gru, &attrs, inputs)
}

fn direction(direction: Direction) -> u32 {
    match direction {
        Direction::Forward => FORWARD,
        Direction::Reverse => REVERSE,
        Direction::Bidirectional => BOTH,
    }
}

/// Sequence, weights, recurrent weights, bias and initial state, zeros where the file has none.
fn operands(
    selector: &mut Selector<'_>,
    node: &Node,
    [rows, hidden]: [usize; 2],
    direction: Direction,
) -> Result<Vec<TensorRef>, LowerError> {
    whole_sequences(selector, node)?;
    let mut inputs = Vec::with_capacity(7);
    for index in 0..3 {
        inputs.push(selector.real_operand(node, index)?);
    }
    inputs.push(match node.input(3) {
        Some(_) => selector.real_operand(node, 3)?,
        None => {
            let shape = [direction.count(), 2 * rows];
            selector.constant_of(node, &shape, &vec![0.0f32; shape[0] * shape[1]])?
        }
    });
    inputs.push(state(selector, node, 5, hidden, direction)?);
    Ok(inputs)
}

/// Refuses sequences that end before the last step.
fn whole_sequences(selector: &Selector<'_>, node: &Node) -> Result<(), LowerError> {
    let Some(lengths) = node.input(4) else { return Ok(()) };
    let steps = selector.graph[selector.operand_value(node, 0)?].shape.first().copied().unwrap_or(0);
    let whole = |lengths: &crate::Tensor| lengths.to_i64().iter().all(|length| *length == steps as i64);
    match selector.graph.konst(lengths) {
        Some(lengths) if whole(lengths) => Ok(()),
        _ => Err(selector.unsupported(node, "its sequences have lengths of their own")),
    }
}

fn state(
    selector: &mut Selector<'_>,
    node: &Node,
    index: usize,
    hidden: usize,
    direction: Direction,
) -> Result<TensorRef, LowerError> {
    if node.input(index).is_some() {
        return selector.real_operand(node, index);
    }
    let batch = selector.graph[selector.operand_value(node, 0)?].shape.get(1).copied().unwrap_or(1);
    let shape = [direction.count(), batch, hidden];
    selector.constant_of(node, &shape, &vec![0.0f32; shape.iter().product()])
}

fn layer(
    selector: &mut Selector<'_>,
    node: &Node,
    op: OpCode,
    attrs: &RecurrentAttrs,
    inputs: Vec<TensorRef>,
) -> Result<(), LowerError> {
    let mut outputs = Vec::with_capacity(node.outputs.len());
    for &value in &node.outputs {
        let tensor = selector.arena(value, None)?;
        selector.bind(value, tensor);
        outputs.push(tensor);
    }
    selector.program.push(op, attrs, inputs, outputs, &node.name);
    Ok(())
}
