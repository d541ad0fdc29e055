//! Gradients of operators that have no parameters.

use ingraft::kernel::OpCode;
use ingraft::kernel::attrs::{
    BinaryBackwardAttrs, MatMulBackwardAttrs, NormAttrs, ReduceAttrs, SoftmaxAttrs,
};
use ingraft::kernel::backward::reduce::needs_input;
use ingraft::kernel::elementwise::BinaryFn;
use ingraft::kernel::reduce::ReduceFn;
use ingraft::tensor::DType;

use super::{Case, Random, Tensor};

pub(crate) fn cases(op: OpCode, random: &mut Random) -> Vec<Case> {
    let overwriting = match op {
        OpCode::BinaryBackward => binaries(random),
        OpCode::ReduceBackward => reductions(random),
        OpCode::MatMulBackward => products(random),
        OpCode::SoftmaxBackward => softmaxes(random),
        _ => norms(random),
    };
    let adding = overwriting.iter().cloned().map(|mut case| {
        let dims: Vec<usize> = case.outputs[0].shape.dims().iter().map(|d| *d as usize).collect();
        case.outputs[0] = Tensor::random(DType::F32, &dims, random);
        case.name.push_str(", added");
        case.accumulate = 1;
        case
    });
    let adding: Vec<Case> = adding.collect();
    overwriting.into_iter().chain(adding).collect()
}

/// Two operands and the result they broadcast to.
const SHAPES: &[[&[usize]; 3]] = &[
    [&[1], &[1], &[1]],
    [&[2, 3, 5, 17], &[2, 3, 5, 17], &[2, 3, 5, 17]],
    [&[2, 9, 40], &[2, 1, 40], &[2, 9, 40]],
    [&[2, 1, 5], &[3, 1], &[2, 3, 5]],
];

fn binaries(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    let wanted = BinaryFn::ALL.iter().flat_map(|f| [DType::F32, DType::I8].map(|dtype| (*f, dtype)));
    for ((function, dtype), [lhs, rhs, out]) in wanted.flat_map(|w| SHAPES.iter().map(move |s| (w, *s))) {
        // A power of random signs is no number.
        let codes = dtype == DType::I8;
        if codes && function != BinaryFn::Mul {
            continue;
        }
        for operand in [0, 1] {
            let (lo, hi) = random.pick(&[(f32::NEG_INFINITY, f32::INFINITY), (0.0, 1.0)]);
            let (function, zero_points) = (function.code(), [random.pick(&[-128, 0, 127]), 5]);
            let attrs = BinaryBackwardAttrs { function, operand, lo, hi, scales: [0.02, 0.5], zero_points };
            let name = format!("BinaryBackward {function} {dtype} {lhs:?} {rhs:?} of {operand}");
            let mut case = Case::new(OpCode::BinaryBackward, name, &attrs).input(Tensor::random(
                DType::F32,
                out,
                random,
            ));
            if codes {
                case = case.input(Tensor::mask(out.iter().product(), random));
            }
            for dims in [lhs, rhs] {
                case = case.input(match dtype {
                    DType::I8 => Tensor::random(dtype, dims, random),
                    _ => Tensor::new(dims, &random.floats(dims.iter().product(), 0.3, 2.0)),
                });
            }
            cases.push(case.output(DType::F32, if operand == 0 { lhs } else { rhs }));
        }
    }
    cases
}

fn reductions(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    let dims = [2usize, 7, 5, 17];
    for (function, axes) in
        ReduceFn::ALL.iter().flat_map(|f| [0b0110u32, 0b1000, 0b0001, 0b1111].map(|a| (*f, a)))
    {
        if function == ReduceFn::Prod {
            continue;
        }
        let out: Vec<usize> =
            dims.iter().enumerate().map(|(i, d)| if axes >> i & 1 == 1 { 1 } else { *d }).collect();
        let (lo, hi, code) = (f32::NEG_INFINITY, f32::INFINITY, function.code());
        let attrs =
            ReduceAttrs { function: code, axes, in_zero_point: 0, out_zero_point: 0, ratio: 1.0, lo, hi };
        let name = format!("ReduceBackward {} axes {axes:#06b}", function.name());
        let mut case = Case::new(OpCode::ReduceBackward, name, &attrs)
            .input(Tensor::random(DType::F32, &out, random))
            .input(Tensor::mask(out.iter().product(), random));
        if needs_input(function) {
            let extreme = matches!(function, ReduceFn::Max | ReduceFn::Min);
            case = case.input(match extreme {
                true => Tensor::random(random.pick(&[DType::F32, DType::I8]), &dims, random),
                false => Tensor::new(&dims, &random.floats(dims.iter().product(), 0.1, 2.0)),
            });
        }
        cases.push(case.output(DType::F32, &dims));
    }
    cases
}

fn products(random: &mut Random) -> Vec<Case> {
    let shapes: [[&[usize]; 3]; 5] = [
        [&[1, 1], &[1, 1], &[1, 1]],
        [&[3, 33], &[33, 17], &[3, 17]],
        [&[2, 4, 8], &[2, 8, 9], &[2, 4, 9]],
        [&[2, 3, 4, 5], &[5, 6], &[2, 3, 4, 6]],
        [&[3, 1, 2, 4], &[2, 4, 5], &[3, 2, 2, 5]],
    ];
    let case = |([lhs, rhs, out], operand): ([&[usize]; 3], u32)| {
        let [wanted, other] = if operand == 0 { [lhs, rhs] } else { [rhs, lhs] };
        let name = format!("MatMulBackward {lhs:?} by {rhs:?} of {operand}");
        Case::new(OpCode::MatMulBackward, name, &MatMulBackwardAttrs { operand })
            .input(Tensor::random(DType::F32, out, random))
            .input(Tensor::random(DType::F32, other, random))
            .output(DType::F32, wanted)
    };
    shapes.into_iter().flat_map(|shape| [(shape, 0), (shape, 1)]).map(case).collect()
}

fn softmaxes(random: &mut Random) -> Vec<Case> {
    let case = |(log, dims): (u32, &[usize])| {
        let y = random.floats(dims.iter().product(), -2.0, 1.0);
        Case::new(OpCode::SoftmaxBackward, format!("SoftmaxBackward {log} {dims:?}"), &SoftmaxAttrs { log })
            .input(Tensor::random(DType::F32, dims, random))
            .input(Tensor::new(dims, &y))
            .output(DType::F32, dims)
    };
    [(0, &[3usize, 7][..]), (1, &[2, 3, 65]), (0, &[1]), (0, &[4, 98])].into_iter().map(case).collect()
}

fn norms(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    for (kind, axes, dims, scaled) in
        [(0, 1, &[3usize, 5, 7][..], true), (0, 2, &[3, 5, 7], false), (1, 1, &[2, 384], true)]
    {
        let len: usize = dims.iter().rev().take(axes).product();
        let attrs = NormAttrs { kind, axes: axes as u32, epsilon: 1e-5 };
        let mut case =
            Case::new(OpCode::NormBackward, format!("NormBackward {kind} {axes} of {dims:?}"), &attrs)
                .input(Tensor::random(DType::F32, dims, random))
                .input(Tensor::random(DType::F32, dims, random));
        if scaled {
            case = case.input(Tensor::random(DType::F32, &[len], random));
        }
        cases.push(case.output(DType::F32, dims));
    }
    cases
}
