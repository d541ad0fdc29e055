//! Gradients of operators that have no parameters.

use ingraft::kernel::OpCode;
use ingraft::kernel::attrs::{
    Attrs, BinaryBackwardAttrs, GatherAttrs, MatMulBackwardAttrs, NormAttrs, QSoftmaxAttrs, RecurrentAttrs,
    RecurrentBackwardAttrs, ReduceAttrs, ResizeAttrs, SoftmaxAttrs, WhereBackwardAttrs,
};
use ingraft::kernel::backward::recurrent::{CELL, SEQUENCE, STATE};
use ingraft::kernel::backward::reduce::needs_input;
use ingraft::kernel::elementwise::BinaryFn;
use ingraft::kernel::reduce::ReduceFn;
use ingraft::kernel::resize::{HALF_DOWN, HALF_UP, LINEAR, NEAREST};
use ingraft::kernel::softmax::exp_table;
use ingraft::tensor::{DType, Shape, bytes};

use super::{Case, Parameter, Random, Tensor, matrix};

pub(crate) fn cases(op: OpCode, random: &mut Random) -> Vec<Case> {
    let overwriting = match op {
        OpCode::BinaryBackward => binaries(random),
        OpCode::ReduceBackward => reductions(random),
        OpCode::MatMulBackward => products(random),
        OpCode::SoftmaxBackward => softmaxes(random),
        OpCode::WhereBackward => choices(random),
        OpCode::GatherBackward | OpCode::GatherElementsBackward => picks(op, random),
        OpCode::ResizeBackward => resizes(random),
        OpCode::LstmBackward | OpCode::GruBackward => recurrent(op, random),
        _ => norms(random),
    };
    let adding = overwriting.iter().cloned().map(|mut case| {
        for output in &mut case.outputs {
            let dims: Vec<usize> = output.shape.dims().iter().map(|d| *d as usize).collect();
            *output = Tensor::random(DType::F32, &dims, random);
        }
        case.name.push_str(", added");
        case.accumulate = (1 << case.outputs.len()) - 1;
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
    let shapes: [[&[usize]; 3]; 6] = [
        [&[1, 1], &[1, 1], &[1, 1]],
        [&[3, 33], &[33, 17], &[3, 17]],
        // Whole tiles of rows and columns with a rest of each, either way.
        [&[13, 87], &[87, 103], &[13, 103]],
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
    let reals = [(0, &[3usize, 7][..]), (1, &[2, 3, 65]), (0, &[1]), (0, &[4, 98])];
    let mut cases: Vec<Case> = reals.into_iter().map(case).collect();
    cases.extend([&[3usize, 7][..], &[2, 3, 65], &[1]].map(|dims| quantized_softmax(dims, random)));
    cases
}

fn quantized_softmax(dims: &[usize], random: &mut Random) -> Case {
    let attrs = QSoftmaxAttrs { out_zero_point: -128, inv_scale: 256.0 };
    Case::new(OpCode::SoftmaxBackward, format!("SoftmaxBackward of codes {dims:?}"), &attrs)
        .input(Tensor::random(DType::F32, dims, random))
        .input(Tensor::random(DType::I8, dims, random))
        .input(Tensor::new(&[256], &exp_table(0.07)))
        .output(DType::F32, dims)
}

fn choices(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    for ([condition, wanted, out], operand) in SHAPES.iter().flat_map(|shape| [(shape, 0), (shape, 1)]) {
        let name = format!("WhereBackward {operand} {condition:?} {wanted:?}");
        let case = Case::new(OpCode::WhereBackward, name, &WhereBackwardAttrs { operand });
        let case = case.input(Tensor::random(DType::F32, out, random));
        cases.push(case.input(Tensor::random(DType::Bool, condition, random)).output(DType::F32, wanted));
    }
    cases
}

fn picks(op: OpCode, random: &mut Random) -> Vec<Case> {
    let dims = [4usize, 5, 17];
    let mut cases = Vec::new();
    for axis in 0..dims.len() {
        let mut out = dims;
        out[axis] = 7;
        let count = if op == OpCode::GatherBackward { 7 } else { out.iter().product() };
        let extent = dims[axis] as i64;
        let indices: Vec<i64> = (0..count).map(|_| random.int(-extent, extent - 1)).collect();
        let shape: Vec<usize> = if op == OpCode::GatherBackward { vec![7] } else { out.to_vec() };
        let case = Case::new(op, format!("{op} axis {axis}"), &GatherAttrs { axis: axis as u32 });
        let case = case.input(Tensor::random(DType::F32, &out, random)).input(Tensor::new(&shape, &indices));
        cases.push(case.output(DType::F32, &dims));
    }
    cases
}

fn resizes(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    for ([h, w], [oh, ow]) in [([5usize, 7usize], [10usize, 21usize]), ([9, 4], [4, 4]), ([1, 1], [3, 5])] {
        for (mode, rounding) in [(LINEAR, HALF_DOWN), (NEAREST, HALF_DOWN), (NEAREST, HALF_UP)] {
            let attrs = ResizeAttrs {
                mode,
                rounding,
                before: [0.5; 2],
                numerator: [1.0; 2],
                denominator: [oh as f32 / h as f32, ow as f32 / w as f32],
                after: [-0.5; 2],
            };
            let name = format!("ResizeBackward {mode} {rounding} {h}x{w} from {oh}x{ow}");
            let case = Case::new(OpCode::ResizeBackward, name, &attrs);
            let case = case.input(Tensor::random(DType::F32, &[2, oh, ow, 3], random));
            cases.push(case.output(DType::F32, &[2, h, w, 3]));
        }
    }
    cases
}

/// The forward operators' cases, with each of their outputs' gradients coming in and everything wanted.
fn recurrent(op: OpCode, random: &mut Random) -> Vec<Case> {
    let lstm = op == OpCode::LstmBackward;
    let forward = matrix::cases(if lstm { OpCode::Lstm } else { OpCode::Gru }, random);
    let mut cases = Vec::new();
    for case in forward {
        let attrs = RecurrentAttrs::read(bytes::of(&case.attrs)).expect("the forward step's record");
        for (incoming, output) in (0u32..).zip(&case.outputs) {
            let wanted = if lstm { SEQUENCE | STATE | CELL } else { SEQUENCE | STATE };
            let attrs = RecurrentBackwardAttrs {
                direction: attrs.direction,
                linear_before_reset: attrs.linear_before_reset,
                incoming,
                wanted,
            };
            let dims = |shape: Shape| shape.dims().iter().map(|d| *d as usize).collect::<Vec<_>>();
            let dy = Tensor::random(DType::F32, &dims(output.shape), random);
            let backward = Case::new(op, format!("{op} {attrs:?} of {}", case.name), &attrs).input(dy);
            let backward = case.inputs.iter().cloned().fold(backward, Case::input);
            let sources = if lstm { vec![0, 4, 5] } else { vec![0, 4] };
            cases.push(sources.into_iter().fold(backward, |backward, at: usize| {
                backward.output(DType::F32, &dims(case.inputs[at].shape))
            }));
        }
    }
    cases
}

fn norms(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    for (kind, axes, dims, scaled) in [
        (0, 1, &[3usize, 5, 7][..], true),
        (0, 2, &[3, 5, 7], false),
        (1, 1, &[2, 384], true),
        (0, 1, &[2, 77], true),
        (1, 1, &[3, 19], false),
        (0, 1, &[1, 1], true),
        (2, 1, &[4, 5, 19], true),
        (2, 1, &[3, 8], false),
    ] {
        let len: usize = dims.iter().rev().take(axes).product();
        let attrs = NormAttrs { kind, axes: axes as u32, epsilon: 1e-5 };
        let mut case =
            Case::new(OpCode::NormBackward, format!("NormBackward {kind} {axes} of {dims:?}"), &attrs)
                .input(Tensor::random(DType::F32, dims, random))
                .input(Tensor::random(DType::F32, dims, random));
        if scaled {
            case = case.input(Tensor::random(DType::F32, &[len], random));
        }
        let case = case.output(DType::F32, dims);
        let mut adapted = Case { name: format!("{} adapted", case.name), ..case.clone() };
        adapted.terms.affine = Some([0; 2].map(|_| random.floats(len, -2.0, 2.0)));
        let mut trained = Case { name: format!("{} trained", case.name), ..adapted.clone() };
        trained.grads =
            [Parameter::Scale, Parameter::Shift].map(|part| (part, random.floats(len, -1.0, 1.0))).to_vec();
        let lowest = Case { name: format!("{} lowest", case.name), outputs: Vec::new(), ..trained.clone() };
        cases.extend([case, adapted, trained, lowest]);
    }
    cases
}
