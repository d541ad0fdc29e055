//! Operators on one element at a time, broadcasting, and their gradients.

use ingraft::kernel::OpCode;
use ingraft::kernel::attrs::{BinaryAttrs, QBinaryAttrs, QuantizeAttrs, UnaryAttrs};
use ingraft::kernel::elementwise::{BinaryFn, CompareFn, LogicFn, UnaryFn};
use ingraft::tensor::{DType, bytes};

use super::{Case, Random, Tensor};

pub(crate) fn cases(op: OpCode, random: &mut Random) -> Vec<Case> {
    match op {
        OpCode::Binary => binaries(random),
        OpCode::QAdd | OpCode::QMul => SHAPES.iter().flat_map(|shape| quantized(op, shape, random)).collect(),
        OpCode::Unary | OpCode::UnaryBackward => unaries(op, random),
        OpCode::AddBackward => SHAPES.iter().flat_map(|shape| add_backward(shape, random)).collect(),
        OpCode::Where => choices(random),
        OpCode::Lookup | OpCode::LookupBackward => vec![lookup(op, random)],
        OpCode::Cast => casts(random),
        OpCode::Recode => recodings(random),
        _ => conversions(op, random),
    }
}

/// Two operands and the result they broadcast to.
const SHAPES: &[[&[usize]; 3]] = &[
    [&[1], &[1], &[1]],
    [&[2, 3, 5, 17], &[2, 3, 5, 17], &[2, 3, 5, 17]],
    [&[2, 3, 40], &[40], &[2, 3, 40]],
    [&[2, 1, 5], &[3, 1], &[2, 3, 5]],
    [&[], &[70], &[70]],
    [&[12], &[5, 7, 12], &[5, 7, 12]],
    [&[2, 3, 290], &[1, 290], &[2, 3, 290]],
];

const TYPES: &[DType] =
    &[DType::F32, DType::F16, DType::I8, DType::U8, DType::I16, DType::I32, DType::I64, DType::Bool];

fn binaries(random: &mut Random) -> Vec<Case> {
    let arithmetic = BinaryFn::ALL.iter().map(|f| (f.code(), f.name()));
    let comparison = CompareFn::ALL.iter().map(|f| (f.code(), f.name()));
    let logic = LogicFn::ALL.iter().map(|f| (f.code(), f.name()));
    let mut wanted: Vec<(u32, &str, DType, DType)> = Vec::new();
    for dtype in [DType::F32, DType::I32, DType::I64] {
        wanted.extend(arithmetic.clone().map(|(code, name)| (code, name, dtype, dtype)));
        wanted.extend(comparison.clone().map(|(code, name)| (code, name, dtype, DType::Bool)));
    }
    let bools = comparison.filter(|(code, _)| *code == CompareFn::Equal.code()).chain(logic);
    wanted.extend(bools.map(|(code, name)| (code, name, DType::Bool, DType::Bool)));
    let mut cases = Vec::new();
    for ((function, name, input, output), [lhs, rhs, out]) in
        wanted.into_iter().flat_map(|wanted| SHAPES.iter().map(move |shape| (wanted, *shape)))
    {
        let (lo, hi) = random.pick(&[(f32::NEG_INFINITY, f32::INFINITY), (0.0, 1.0)]);
        let case = Case::new(
            OpCode::Binary,
            format!("Binary {name} {input} {lhs:?} {rhs:?}"),
            &BinaryAttrs { function, lo, hi },
        )
        .input(Tensor::random(input, lhs, random))
        .input(Tensor::random(input, rhs, random))
        .output(output, out);
        cases.push(if output == DType::F32 { case } else { case.exact() });
    }
    cases
}

fn quantized(op: OpCode, [lhs, rhs, out]: &[&[usize]; 3], random: &mut Random) -> Vec<Case> {
    let out_zero_point = random.pick(&[-128, 3, 127]);
    let attrs = QBinaryAttrs {
        zero_points: [random.pick(&[-128, 0, 127]), random.pick(&[-128, -5, 127])],
        factors: if op == OpCode::QAdd { [0.7, 0.45] } else { [0.01, 0.0] },
        out_zero_point,
        lo: random.pick(&[0.0, (-128 - out_zero_point) as f32]),
        hi: (127 - out_zero_point) as f32,
    };
    let (lhs, rhs) = (Tensor::random(DType::I8, lhs, random), Tensor::random(DType::I8, rhs, random));
    let name = format!("{op} {:?} {:?}", lhs.shape, rhs.shape);
    let case = || {
        Case::new(op, name.clone(), &attrs)
            .input(lhs.clone())
            .input(rhs.clone())
            .output(DType::I8, out)
            .exact()
    };
    vec![case(), case().mask()]
}

fn unaries(op: OpCode, random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    for function in UnaryFn::ALL {
        let (alpha, beta) = match function {
            UnaryFn::Clip => (-0.5, 1.0),
            _ => (0.3, 0.6),
        };
        let positive = matches!(function, UnaryFn::Log | UnaryFn::Sqrt | UnaryFn::Reciprocal);
        let values = random.floats(131, if positive { 0.2 } else { -4.0 }, 4.0);
        let attrs = UnaryAttrs { function: function.code(), alpha, beta };
        let case = Case::new(op, format!("{op} {}", function.name()), &attrs);
        cases.push(if op == OpCode::Unary {
            case.input(Tensor::new(&[131], &values)).output(DType::F32, &[131])
        } else {
            let dy = Tensor::random(DType::F32, &[131], random);
            case.input(dy).input(Tensor::new(&[131], &values)).output(DType::F32, &[131])
        });
    }
    if op == OpCode::Unary {
        let attrs = UnaryAttrs { function: 0, alpha: 0.0, beta: 0.0 };
        let input = Tensor::random(DType::Bool, &[37], random);
        cases.push(Case::new(op, "Unary not", &attrs).input(input).output(DType::Bool, &[37]).exact());
    }
    cases
}

fn add_backward([dx, _, dy]: &[&[usize]; 3], random: &mut Random) -> Vec<Case> {
    let incoming = Tensor::random(DType::F32, dy, random);
    let overwritten = Case::plain(OpCode::AddBackward, format!("AddBackward {dx:?}"))
        .input(incoming.clone())
        .output(DType::F32, dx);
    let mut added = Case::plain(OpCode::AddBackward, format!("AddBackward {dx:?} masked, added"))
        .input(incoming)
        .input(Tensor::mask(dy.iter().product(), random));
    added.outputs.push(Tensor::random(DType::F32, dx, random));
    added.accumulate = 1;
    vec![overwritten, added]
}

fn choices(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    for (dtype, [a, b, out]) in
        TYPES.iter().flat_map(|dtype| SHAPES.iter().map(move |shape| (*dtype, *shape)))
    {
        cases.push(
            Case::plain(OpCode::Where, format!("Where {dtype} {a:?} {b:?}"))
                .input(Tensor::random(DType::Bool, out, random))
                .input(Tensor::random(dtype, a, random))
                .input(Tensor::random(dtype, b, random))
                .output(dtype, out)
                .exact(),
        );
    }
    cases
}

fn lookup(op: OpCode, random: &mut Random) -> Case {
    let codes: Vec<i8> = (0..391).map(|i| (i * 7) as i8).collect();
    let codes = Tensor::new(&[391], &codes);
    if op == OpCode::Lookup {
        let table = Tensor::random(DType::I8, &[256], random);
        return Case::plain(op, "Lookup").input(codes).input(table).output(DType::I8, &[391]).exact();
    }
    Case::plain(op, "LookupBackward")
        .input(Tensor::random(DType::F32, &[391], random))
        .input(codes)
        .input(Tensor::random(DType::F32, &[256], random))
        .output(DType::F32, &[391])
}

fn casts(random: &mut Random) -> Vec<Case> {
    let pairs = TYPES.iter().flat_map(|from| TYPES.iter().map(move |to| (*from, *to)));
    let case = |(from, to)| {
        Case::plain(OpCode::Cast, format!("Cast {from} to {to}"))
            .input(Tensor::random(from, &[3, 23], random))
            .output(to, &[3, 23])
            .exact()
    };
    pairs.map(case).collect()
}

fn recodings(random: &mut Random) -> Vec<Case> {
    let case = |(from, to)| {
        Case::plain(OpCode::Recode, format!("Recode {from} to {to}"))
            .input(Tensor::random(from, &[3, 91], random))
            .output(to, &[3, 91])
            .exact()
    };
    [(DType::U8, DType::I8), (DType::I8, DType::U8)].map(case).into()
}

fn conversions(op: OpCode, random: &mut Random) -> Vec<Case> {
    let types: &[(DType, DType)] = match op {
        OpCode::Quantize => &[(DType::F32, DType::I8)],
        OpCode::Dequantize => &[(DType::I8, DType::F32), (DType::I32, DType::F32)],
        _ => &[(DType::I8, DType::I8)],
    };
    let mut cases = Vec::new();
    for ((from, to), zero_point) in types.iter().flat_map(|t| [-128, 0, 127].map(|z| (*t, z))) {
        let attrs = QuantizeAttrs {
            in_scale: if from == DType::F32 { 1.0 } else { 0.013 },
            in_zero_point: if from == DType::F32 { 0 } else { zero_point },
            out_scale: if to == DType::F32 { 1.0 } else { 0.017 },
            out_zero_point: if to == DType::F32 { 0 } else { -zero_point.max(-127) },
            lo: if to == DType::F32 { 0.0 } else { (-128 + zero_point.max(-127)) as f32 },
            hi: if to == DType::F32 { 0.0 } else { (127 + zero_point.max(-127)) as f32 },
        };
        let mut input = Tensor::random(from, &[7, 19], random);
        if from == DType::F32 {
            // Both ends, ties of the rounding, and what is no number.
            let ends = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e38, 0.5 * 0.017, 1.5 * 0.017, -0.0];
            input.bytes_mut()[..ends.len() * 4].copy_from_slice(bytes::of(&ends));
        }
        let case = || {
            Case::new(op, format!("{op} {from} to {to} zero point {zero_point}"), &attrs)
                .input(input.clone())
                .output(to, &[7, 19])
                .exact()
        };
        cases.push(case());
        if to == DType::I8 {
            cases.push(case().mask());
        }
    }
    cases
}
