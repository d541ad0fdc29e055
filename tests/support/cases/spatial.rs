//! Pooling, resizing and heads.

use ingraft::kernel::OpCode;
use ingraft::kernel::attrs::{HeadAttrs, PoolAttrs, ResizeAttrs, Window};
use ingraft::kernel::head::feature_count;
use ingraft::tensor::DType;

use super::{Case, Random, Tensor};

pub(crate) fn cases(op: OpCode, random: &mut Random) -> Vec<Case> {
    match op {
        OpCode::Resize => resizes(random),
        OpCode::Head => heads(random),
        _ => pools(op, random),
    }
}

/// Input extents and window.
fn windows() -> [([usize; 4], Window); 5] {
    let window = |kernel, stride, dilation, pad| Window { kernel, stride, dilation, pad };
    [
        ([1, 4, 4, 3], window([2; 2], [2; 2], [1; 2], [0; 4])),
        ([2, 7, 5, 17], window([3; 2], [2; 2], [1; 2], [1; 4])),
        ([1, 6, 9, 8], window([3, 2], [1, 3], [1, 2], [0, 1, 1, 0])),
        ([1, 5, 3, 40], window([5, 3], [1; 2], [1; 2], [0; 4])),
        ([1, 3, 3, 1], window([3; 2], [1; 2], [1; 2], [2, 2, 0, 0])),
    ]
}

fn pools(op: OpCode, random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    for ((dims, window), kind) in windows().into_iter().flat_map(|w| [0, 1, 2].map(|kind| (w, kind))) {
        let extent = |axis| window.output(axis, dims[axis + 1]).expect("the window fits");
        let out = [dims[0], extent(0), extent(1), dims[3]];
        let (in_zero_point, out_zero_point) = (random.pick(&[-128, 0, 127]), random.pick(&[-128, 5, 127]));
        let mut attrs = PoolAttrs {
            window,
            kind,
            in_zero_point,
            out_zero_point,
            ratio: 1.3,
            lo: (-128 - out_zero_point) as f32,
            hi: (127 - out_zero_point) as f32,
        };
        let name = format!("{op} {dims:?} kind {kind}");
        if op == OpCode::PoolBackward {
            cases.extend(pool_backward(&name, &attrs, dims, out, random));
            continue;
        }
        if op == OpCode::QPool {
            let input = Tensor::random(DType::I8, &dims, random);
            let case = |attrs: &PoolAttrs| {
                Case::new(op, name.clone(), attrs).input(input.clone()).output(DType::I8, &out)
            };
            cases.push(case(&attrs).exact());
            cases.push(case(&attrs).mask().exact());
            attrs.ratio = 1.0;
            cases.push(case(&attrs).exact());
            continue;
        }
        (attrs.lo, attrs.hi) = random.pick(&[(f32::NEG_INFINITY, f32::INFINITY), (0.0, 1.0)]);
        let input = Tensor::random(DType::F32, &dims, random);
        cases.push(Case::new(op, name, &attrs).input(input).output(DType::F32, &out));
    }
    cases
}

fn pool_backward(
    name: &str,
    attrs: &PoolAttrs,
    dims: [usize; 4],
    out: [usize; 4],
    random: &mut Random,
) -> Vec<Case> {
    let mut cases = Vec::new();
    for (masked, dtype) in [(false, DType::F32), (true, DType::I8)] {
        let mut case = Case::new(OpCode::PoolBackward, format!("{name} {dtype} masked {masked}"), attrs)
            .input(Tensor::random(DType::F32, &out, random));
        if masked {
            case = case.input(Tensor::mask(out.iter().product(), random));
        }
        if attrs.kind == 0 {
            case = case.input(Tensor::random(dtype, &dims, random));
        }
        case.outputs.push(Tensor::random(DType::F32, &dims, random));
        case.accumulate = u32::from(masked);
        cases.push(case);
    }
    cases
}

fn resizes(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    for (mode, rounding, dtype) in
        [(0, 0, DType::F32), (0, 1, DType::I8), (0, 2, DType::I8), (0, 3, DType::F32), (1, 0, DType::F32)]
    {
        let attrs = ResizeAttrs {
            mode,
            rounding,
            before: [0.5, 0.0],
            numerator: [4.0, 2.0],
            denominator: [9.0, 5.0],
            after: [-0.5, 0.0],
        };
        let case =
            Case::new(OpCode::Resize, format!("Resize {dtype} mode {mode} rounding {rounding}"), &attrs)
                .input(Tensor::random(dtype, &[2, 4, 3, 17], random))
                .output(dtype, &[2, 9, 7, 17]);
        cases.push(if mode == 0 { case.exact() } else { case });
    }
    cases
}

fn heads(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    for (dtype, pool) in
        [DType::F32, DType::I8].into_iter().flat_map(|dtype| [0, 1, 2, 3].map(|pool| (dtype, pool)))
    {
        let (dims, classes) = ([2usize, 3, 4, 19], 5);
        let features = feature_count(dims, pool);
        let attrs = HeadAttrs { pool, scale: if dtype == DType::I8 { 0.02 } else { 1.0 }, zero_point: -7 };
        cases.push(
            Case::new(OpCode::Head, format!("Head {dtype} pool {pool}"), &attrs)
                .input(Tensor::random(dtype, &dims, random))
                .input(Tensor::new(&[classes, features], &random.floats(classes * features, -0.1, 0.1)))
                .input(Tensor::random(DType::F32, &[classes], random))
                .output(DType::F32, &[2, classes]),
        );
    }
    cases
}
