//! Operators that look along axes: reductions, softmax, normalization, dynamic ranges.

use ingraft::kernel::OpCode;
use ingraft::kernel::attrs::{ArgReduceAttrs, NormAttrs, QSoftmaxAttrs, ReduceAttrs, SoftmaxAttrs};
use ingraft::kernel::reduce::ReduceFn;
use ingraft::kernel::softmax::exp_table;
use ingraft::tensor::DType;

use super::{Case, Random, Tensor};

pub(crate) fn cases(op: OpCode, random: &mut Random) -> Vec<Case> {
    match op {
        OpCode::Reduce => reductions(random),
        OpCode::ArgReduce => positions(random),
        OpCode::Softmax => softmaxes(random),
        OpCode::QSoftmax => integer_softmaxes(random),
        OpCode::Norm => norms(random),
        _ => dynamic(random),
    }
}

fn reductions(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    let small = [2usize, 7, 5, 17];
    // More elements than a run of a sum, more results than a block.
    let large = ([1usize, 9, 8, 70], 0b0110u32);
    let wanted = [0b0110, 0b1000, 0b0001, 0b1111, 0].map(|axes| (small, axes)).into_iter().chain([large]);
    for (function, (dims, axes)) in
        wanted.flat_map(|wanted| ReduceFn::ALL.iter().map(move |function| (*function, wanted)))
    {
        let out: Vec<usize> =
            dims.iter().enumerate().map(|(i, d)| if axes >> i & 1 == 1 { 1 } else { *d }).collect();
        let count: usize =
            dims.iter().enumerate().filter(|(i, _)| axes >> i & 1 == 1).map(|(_, d)| *d).product();
        for dtype in [DType::F32, DType::I8, DType::I32, DType::I64] {
            let real_only = matches!(function, ReduceFn::L2 | ReduceFn::LogSum | ReduceFn::LogSumExp);
            let int8 = matches!(function, ReduceFn::Sum | ReduceFn::Mean | ReduceFn::Max | ReduceFn::Min);
            if dtype != DType::F32 && real_only || dtype == DType::I8 && !int8 {
                continue;
            }
            let ratio = if function == ReduceFn::Sum { 2.0 / (count as f32).sqrt() } else { 0.7 };
            let (in_zero_point, out_zero_point) =
                (random.pick(&[-128, 0, 127]), random.pick(&[-128, 5, 127]));
            let (lo, hi) = ((-128 - out_zero_point) as f32, (127 - out_zero_point) as f32);
            let function_code = function.code();
            let attrs =
                ReduceAttrs { function: function_code, axes, in_zero_point, out_zero_point, ratio, lo, hi };
            let name = format!("Reduce {} {dtype} {dims:?} axes {axes:#06b}", function.name());
            // A product of many values leaves the range of f32, a sum of mixed signs that of the logarithm.
            let input = match (dtype, function) {
                (DType::F32, ReduceFn::Prod) => {
                    Tensor::new(&dims, &random.floats(dims.iter().product(), 0.9, 1.1))
                }
                (DType::F32, ReduceFn::LogSum) => {
                    Tensor::new(&dims, &random.floats(dims.iter().product(), 0.1, 2.0))
                }
                _ => Tensor::random(dtype, &dims, random),
            };
            let case = Case::new(OpCode::Reduce, name, &attrs).input(input).output(dtype, &out);
            if dtype == DType::I8 {
                cases.push(case.clone().exact());
            }
            cases.push(match dtype {
                DType::F32 => case,
                DType::I8 => case.mask().exact(),
                _ => case.exact(),
            });
        }
    }
    cases
}

fn positions(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in [DType::F32, DType::I8, DType::I32, DType::I64] {
        for (axis, smallest, last) in [(0, 0, 0), (1, 1, 0), (2, 0, 1), (2, 1, 1)] {
            let mut out = vec![3, 4, 37];
            out.remove(axis as usize);
            let attrs = ArgReduceAttrs { axis, smallest, last };
            cases.push(
                Case::new(OpCode::ArgReduce, format!("ArgReduce {dtype} {attrs:?}"), &attrs)
                    .input(Tensor::random(dtype, &[3, 4, 37], random))
                    .output(DType::I64, &out)
                    .exact(),
            );
        }
    }
    cases
}

fn softmaxes(random: &mut Random) -> Vec<Case> {
    let shapes: [&[usize]; 4] = [&[1, 1], &[3, 8], &[2, 3, 17], &[1, 521]];
    let case = |(dims, log): (&[usize], u32)| {
        let elements = dims.iter().product();
        Case::new(OpCode::Softmax, format!("Softmax {dims:?} log {log}"), &SoftmaxAttrs { log })
            .input(Tensor::new(dims, &random.floats(elements, -30.0, 30.0)))
            .output(DType::F32, dims)
    };
    shapes.into_iter().flat_map(|dims| [(dims, 0), (dims, 1)]).map(case).collect()
}

fn integer_softmaxes(random: &mut Random) -> Vec<Case> {
    let shapes: [&[usize]; 4] = [&[1, 1], &[3, 8], &[2, 3, 17], &[1, 521]];
    let case = |dims: &[usize]| {
        let attrs = QSoftmaxAttrs { out_zero_point: random.pick(&[-128, 0]), inv_scale: 256.0 };
        Case::new(OpCode::QSoftmax, format!("QSoftmax {dims:?}"), &attrs)
            .input(Tensor::random(DType::I8, dims, random))
            .input(Tensor::new(&[256], &exp_table(0.05)))
            .output(DType::I8, dims)
            .exact()
    };
    shapes.into_iter().map(case).collect()
}

fn norms(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    for (kind, axes, parameters) in
        [(0, 1, 2), (0, 2, 1), (1, 1, 1), (1, 1, 0), (0, 1, 0), (2, 1, 2), (2, 1, 1)]
    {
        let dims = [3usize, 5, 33];
        let len: usize = dims[3 - axes as usize..].iter().product();
        let attrs = NormAttrs { kind, axes, epsilon: 1e-5 };
        let case = Case::new(OpCode::Norm, format!("Norm {attrs:?}"), &attrs)
            .input(Tensor::random(DType::F32, &dims, random))
            .output(DType::F32, &dims);
        let case =
            (0..parameters).fold(case, |case, _| case.input(Tensor::random(DType::F32, &[len], random)));
        let mut adapted = Case { name: format!("{} adapted", case.name), ..case.clone() };
        adapted.terms.affine = Some([0; 2].map(|_| random.floats(len, -2.0, 2.0)));
        cases.extend([case, adapted]);
    }
    cases
}

fn dynamic(random: &mut Random) -> Vec<Case> {
    let ranges = [(-3.0, 5.0), (0.5, 2.0), (-2.0, -0.5), (0.0, 0.0), (-1e30, 1e30)];
    let case = |(lo, hi): (f32, f32)| {
        Case::plain(OpCode::DynamicQuantize, format!("DynamicQuantize {lo}..{hi}"))
            .input(Tensor::new(&[5, 13], &random.floats(65, lo, hi)))
            .output(DType::I8, &[5, 13])
            .output(DType::F32, &[1])
            .output(DType::I8, &[1])
            .exact()
    };
    ranges.into_iter().map(case).collect()
}
