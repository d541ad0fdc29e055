//! Products of two activations, and recurrent layers.

use ingraft::kernel::OpCode;
use ingraft::kernel::attrs::RecurrentAttrs;
use ingraft::kernel::recurrent::BOTH;
use ingraft::tensor::DType;

use super::{Case, Random, Tensor};

pub(crate) fn cases(op: OpCode, random: &mut Random) -> Vec<Case> {
    match op {
        OpCode::MatMul | OpCode::MatMulInteger => products(op, random),
        _ => recurrent(op, random),
    }
}

fn products(op: OpCode, random: &mut Random) -> Vec<Case> {
    let shapes: [[&[usize]; 3]; 8] = [
        [&[1, 1], &[1, 1], &[1, 1]],
        [&[5, 7], &[7, 3], &[5, 3]],
        [&[3, 33], &[33, 17], &[3, 17]],
        [&[2, 4, 8], &[2, 8, 9], &[2, 4, 9]],
        [&[2, 3, 4, 5], &[5, 6], &[2, 3, 4, 6]],
        [&[3, 1, 2, 4], &[2, 4, 5], &[3, 2, 2, 5]],
        // More than a block of rows, a panel of columns and a run of depth.
        [&[33, 70], &[70, 20], &[33, 20]],
        [&[2, 9, 16], &[16, 33], &[2, 9, 33]],
    ];
    let case = |[lhs, rhs, out]: [&[usize]; 3], random: &mut Random| {
        let name = format!("{op} {lhs:?} by {rhs:?}");
        if op == OpCode::MatMul {
            return vec![
                Case::plain(op, name)
                    .input(Tensor::random(DType::F32, lhs, random))
                    .input(Tensor::random(DType::F32, rhs, random))
                    .output(DType::F32, out),
            ];
        }
        let (m, n) = (out[out.len() - 2], out[out.len() - 1]);
        let zero_points = [(1, 1), (m, 1), (1, n), (m, n)];
        let integer = |(zl, zr): (usize, usize)| {
            let operands = [lhs, rhs, &[zl], &[zr]];
            let case = Case::plain(op, format!("{name} zero points {zl} {zr}")).output(DType::I32, out);
            operands.into_iter().fold(case, |case, dims| case.input(Tensor::random(DType::I8, dims, random)))
        };
        zero_points.map(integer).into()
    };
    shapes.into_iter().flat_map(|shape| case(shape, random)).collect()
}

fn recurrent(op: OpCode, random: &mut Random) -> Vec<Case> {
    // More than a run of depth, and units that end in half a panel.
    [[5, 2, 7, 9], [2, 1, 70, 33]].into_iter().flat_map(|extents| layers(op, extents, random)).collect()
}

fn layers(op: OpCode, [time, batch, inputs, hidden]: [usize; 4], random: &mut Random) -> Vec<Case> {
    let gates = if op == OpCode::Lstm { 4 } else { 3 };
    let mut cases = Vec::new();
    for (direction, linear_before_reset, peepholes) in
        [(0, 0, false), (1, 1, true), (BOTH, 0, true), (BOTH, 1, false)]
    {
        let d = if direction == BOTH { 2 } else { 1 };
        let attrs = RecurrentAttrs { direction, linear_before_reset };
        let mut operands: Vec<Vec<usize>> = vec![
            vec![time, batch, inputs],
            vec![d, gates * hidden, inputs],
            vec![d, gates * hidden, hidden],
            vec![d, 2 * gates * hidden],
            vec![d, batch, hidden],
        ];
        let mut case = Case::new(op, format!("{op} {attrs:?} {inputs} to {hidden}"), &attrs)
            .output(DType::F32, &[time, d, batch, hidden])
            .output(DType::F32, &[d, batch, hidden]);
        if op == OpCode::Lstm {
            operands.push(vec![d, batch, hidden]);
            case = case.output(DType::F32, &[d, batch, hidden]);
            if peepholes {
                operands.push(vec![d, 3 * hidden]);
            }
        }
        cases.push(operands.iter().fold(case, |case, dims| {
            let values = random.floats(dims.iter().product(), -0.5, 0.5);
            case.input(Tensor::new(dims, &values))
        }));
    }
    cases
}
