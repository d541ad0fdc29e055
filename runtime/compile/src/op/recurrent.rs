//! Recurrent networks over a sequence.

use ingraft_tensor::DType;

use super::{Op, Operands, ValueType};
use crate::error::Fault;
use crate::graph::ValueId;
use crate::onnx::NodeReader;

/// A long short-term memory with the standard's default activations: sigmoid gates, tanh cell and output.
///
/// # Shapes
/// With D directions, T steps, N sequences, I inputs and H hidden units:
/// x [T, N, I], w [D, 4H, I] and r [D, 4H, H] in gate order input, output,
/// forget, cell; b `[D, 8H]` holds the bias of w, then that of r; lengths `[N]`;
/// h and c [D, N, H]; peepholes [D, 3H] in order input, output, forget.
/// Results y [T, D, N, H], h [D, N, H], c [D, N, H].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lstm {
    /// H.
    pub hidden: usize,
    /// Which way the sequence is read.
    pub direction: Direction,
    /// Whether the forget gate is one minus the input gate.
    pub input_forget: bool,
}

/// A gated recurrent unit with the standard's default activations: sigmoid gates, tanh candidate.
///
/// # Shapes
/// As [`Lstm`] with w [D, 3H, I], r [D, 3H, H], b [D, 6H] in gate order update, reset, hidden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gru {
    /// H.
    pub hidden: usize,
    /// Which way the sequence is read.
    pub direction: Direction,
    /// Whether the reset gate multiplies after the recurrent product and its bias, else the state before it.
    pub linear_before_reset: bool,
}

/// Which way a sequence is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the start.
    Forward,
    /// From the end.
    Reverse,
    /// Both, as two networks.
    Bidirectional,
}

impl Direction {
    /// Number of networks.
    pub fn count(self) -> usize {
        if self == Self::Bidirectional { 2 } else { 1 }
    }
}

impl Lstm {
    pub(super) fn infer(&self, x: Operands<'_>) -> Result<Vec<ValueType>, Fault> {
        let (t, n, state) = check(x, self.hidden, self.direction, 4)?;
        optional_shape(x, 6, &state)?;
        optional_shape(x, 7, &[self.direction.count(), 3 * self.hidden])?;
        Ok(results(x, t, n, self.hidden, self.direction, 3))
    }
}

impl Gru {
    pub(super) fn infer(&self, x: Operands<'_>) -> Result<Vec<ValueType>, Fault> {
        let (t, n, _) = check(x, self.hidden, self.direction, 3)?;
        Ok(results(x, t, n, self.hidden, self.direction, 2))
    }
}

/// Checks the operands both kinds share; gives steps, sequences and the shape of the state.
fn check(
    x: Operands<'_>,
    hidden: usize,
    direction: Direction,
    gates: usize,
) -> Result<(usize, usize, [usize; 3]), Fault> {
    let [t, n, inputs] = *x.float(0)?.shape.as_slice() else {
        return Err(Fault::shape("the input must have three dimensions"));
    };
    let directions = direction.count();
    let rows = gates.checked_mul(hidden).and_then(|rows| rows.checked_mul(2)).ok_or(Fault::TooLarge)? / 2;
    let state = [directions, n, hidden];
    x.at(1)?;
    x.at(2)?;
    optional_shape(x, 1, &[directions, rows, inputs])?;
    optional_shape(x, 2, &[directions, rows, hidden])?;
    optional_shape(x, 3, &[directions, 2 * rows])?;
    optional_shape(x, 5, &state)?;
    if x.get(4).is_some_and(|lengths| lengths.dtype != DType::I32 || lengths.shape != [n]) {
        return Err(Fault::shape("the lengths are not one int32 per sequence"));
    }
    Ok((t, n, state))
}

fn optional_shape(x: Operands<'_>, index: usize, shape: &[usize]) -> Result<(), Fault> {
    match x.get(index) {
        Some(_) if x.like_first(index)?.shape != shape => {
            Err(Fault::shape("weights, state and input do not fit"))
        }
        _ => Ok(()),
    }
}

fn results(
    x: Operands<'_>,
    t: usize,
    n: usize,
    hidden: usize,
    direction: Direction,
    count: usize,
) -> Vec<ValueType> {
    let dtype = x.get(0).map_or(DType::F32, |input| input.dtype);
    let mut results = vec![ValueType::new(dtype, vec![t, direction.count(), n, hidden])];
    results.resize(count, ValueType::new(dtype, vec![direction.count(), n, hidden]));
    results
}

/// `LSTM`.
pub(crate) fn lstm(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    node.freeze(&[1, 2, 3, 4, 7]);
    let (hidden, direction) = read(node, &["Sigmoid", "Tanh", "Tanh"])?;
    let op = Op::Lstm(Lstm { hidden, direction, input_forget: node.flag("input_forget", false)? });
    finish(node, op, &[5, 6], 8)
}

/// `GRU`.
pub(crate) fn gru(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    node.freeze(&[1, 2, 3, 4]);
    let (hidden, direction) = read(node, &["Sigmoid", "Tanh"])?;
    let linear_before_reset = node.flag("linear_before_reset", false)?;
    finish(node, Op::Gru(Gru { hidden, direction, linear_before_reset }), &[5], 6)
}

/// Reads what both kinds share and refuses what neither supports.
fn read(node: &mut NodeReader<'_>, activations: &[&str]) -> Result<(usize, Direction), Fault> {
    let direction = match node.string("direction", "forward")? {
        "forward" => Direction::Forward,
        "reverse" => Direction::Reverse,
        "bidirectional" => Direction::Bidirectional,
        _ => return Err(Fault::Attribute { attribute: "direction", reason: "is not a known direction" }),
    };
    let given = node.strings("activations")?.unwrap_or_default();
    let named = |(given, default): (&&str, &&str)| given.eq_ignore_ascii_case(default);
    let whole = given.len() % activations.len() == 0;
    if !whole || !given.iter().zip(activations.iter().cycle()).all(named) {
        return Err(Fault::Attribute { attribute: "activations", reason: "must be the default ones" });
    }
    if node.optional_float("clip")?.is_some() {
        return Err(Fault::Attribute { attribute: "clip", reason: "is not supported" });
    }
    let recurrence = node.input_type(2)?.shape;
    let columns = recurrence.last().copied().unwrap_or(0);
    let hidden = match node.optional_int("hidden_size")? {
        Some(hidden) => usize::try_from(hidden).unwrap_or(0),
        None => columns,
    };
    if hidden == 0 || hidden != columns {
        return Err(Fault::Attribute {
            attribute: "hidden_size",
            reason: "does not fit the recurrence weights",
        });
    }
    Ok((hidden, direction))
}

/// Emits the node; where the batch comes first, sequence and states are transposed around it.
fn finish(node: &mut NodeReader<'_>, op: Op, states: &[usize], operands: usize) -> Result<(), Fault> {
    let mut inputs: Vec<_> = (0..operands).map(|i| node.optional(i)).collect();
    inputs[0] = Some(node.input(0)?);
    if !node.flag("layout", false)? {
        return node.finish(op, &inputs);
    }
    let swap = |node: &mut NodeReader<'_>, x: ValueId, perm: &[usize]| {
        node.emit(Op::Transpose { perm: perm.to_vec() }, &[Some(x)])
    };
    for index in [&[0], states].concat() {
        if let Some(Some(operand)) = inputs.get(index).copied() {
            inputs[index] = Some(swap(node, operand, &[1, 0, 2])?);
        }
    }
    let results = node.emit_all(op, &inputs)?;
    for (index, result) in results.into_iter().enumerate() {
        let perm: &[usize] = if index == 0 { &[2, 0, 1, 3] } else { &[1, 0, 2] };
        let swapped = swap(node, result, perm)?;
        node.bind(index, swapped)?;
    }
    node.complete()
}
