//! Operators of activations alone, against slopes of their f64 definitions.

use std::vec::Vec;

use ingraft_tensor::{DType, Shape};

use super::*;
use crate::attrs::{
    BinaryBackwardAttrs, MatMulBackwardAttrs, NormAttrs, QSoftmaxAttrs, ReduceAttrs, SoftmaxAttrs,
};
use crate::elementwise::BinaryFn;
use crate::norm::{LAYER, RMS};
use crate::reduce::ReduceFn;
use crate::test_case::{Random, indices, position};
use crate::{Affine, OpCode};

/// `dy·∂f/∂x` for every element of `x`, by five-point differences in f64.
fn slopes(x: &[f32], dy: &[f32], f: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    const H: f64 = 1e-3;
    let x: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
    let at = |i: usize, step: f64| {
        let mut moved = x.clone();
        moved[i] += step;
        f(&moved).iter().zip(dy).map(|(y, dy)| y * f64::from(*dy)).sum::<f64>()
    };
    (0..x.len())
        .map(|i| (8.0 * (at(i, H) - at(i, -H)) - (at(i, 2.0 * H) - at(i, -2.0 * H))) / (12.0 * H))
        .collect()
}

#[track_caller]
fn assert_slopes(found: &[f32], wanted: &[f64], what: &str) {
    let size = wanted.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
    assert_eq!(found.len(), wanted.len(), "{what}");
    for (i, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        let error = (f64::from(*found) - wanted).abs() / size;
        assert!(error < 1e-5, "{what}, element {i}: {found} is not {wanted}");
    }
}

fn binary_f64(function: BinaryFn, a: f64, b: f64) -> f64 {
    match function {
        BinaryFn::Add => a + b,
        BinaryFn::Sub => a - b,
        BinaryFn::Mul => a * b,
        BinaryFn::Div => a / b,
        BinaryFn::Max => a.max(b),
        BinaryFn::Min => a.min(b),
        BinaryFn::Pow => a.powf(b),
        BinaryFn::Mod => a - b * (a / b).floor(),
        BinaryFn::Fmod => a % b,
        BinaryFn::Prelu if a < 0.0 => a * b,
        BinaryFn::Prelu => a,
    }
}

const SHAPES: [[&[u32]; 3]; 5] = [
    [&[2, 3, 4], &[2, 3, 4], &[2, 3, 4]],
    [&[2, 3, 4], &[4], &[2, 3, 4]],
    [&[2, 1, 5], &[3, 1], &[2, 3, 5]],
    [&[1, 2, 2, 70], &[1, 1, 1, 70], &[1, 2, 2, 70]],
    [&[], &[7], &[7]],
];

fn elements(dims: &[u32]) -> usize {
    Shape::new(dims).unwrap().elements()
}

fn attrs(function: BinaryFn, operand: u32, [lo, hi]: [f32; 2]) -> BinaryBackwardAttrs {
    let function = function.code();
    BinaryBackwardAttrs { function, operand, lo, hi, scales: [0.5, 0.25], zero_points: [3, -7] }
}

#[test]
fn both_operands_of_every_function() {
    let mut random = Random(71);
    for (&function, operand) in BinaryFn::ALL.iter().flat_map(|f| [(f, 0u32), (f, 1)]) {
        if operand == 1 && matches!(function, BinaryFn::Mod | BinaryFn::Fmod) {
            continue;
        }
        let mut judged = 0;
        for ([a_dims, b_dims, dims], clip) in SHAPES.iter().flat_map(|s| [(s, false), (s, true)]) {
            let positive = matches!(function, BinaryFn::Pow | BinaryFn::Div | BinaryFn::Mod | BinaryFn::Fmod);
            let lowest = if positive { 0.6 } else { -2.0 };
            let a = random.floats(elements(a_dims), lowest, 2.0);
            let b = random.floats(elements(b_dims), if positive { 0.7 } else { -1.9 }, 2.1);
            let dy = random.floats(elements(dims), -1.0, 1.0);
            let [lo, hi] = if clip { [0.05, 1.3] } else { [f32::NEG_INFINITY, f32::INFINITY] };
            let forward = |a: &[f64], b: &[f64]| -> Vec<f64> {
                let value = |index: &Vec<usize>| {
                    let v = binary_f64(function, a[position(a_dims, index)], b[position(b_dims, index)]);
                    if clip { v.clamp(f64::from(lo), f64::from(hi)) } else { v }
                };
                indices(dims).iter().map(value).collect()
            };
            let wide = |v: &[f32]| -> Vec<f64> { v.iter().map(|v| f64::from(*v)).collect() };
            let (moved, still, wanted_dims) =
                if operand == 0 { (&a, wide(&b), *a_dims) } else { (&b, wide(&a), *b_dims) };
            let wanted =
                slopes(moved, &dy, |x| if operand == 0 { forward(x, &still) } else { forward(&still, x) });
            let mut dx = Tensor::zeros(DType::F32, wanted_dims);
            let inputs = [&Tensor::new(dims, &dy), &Tensor::new(a_dims, &a), &Tensor::new(b_dims, &b)];
            run(
                &binary::KERNEL,
                &attrs(function, operand, [lo, hi]),
                &inputs,
                &mut [&mut dx],
                Site::default(),
            )
            .unwrap();
            // A difference that steps over a kink says nothing.
            let y = forward(&wide(&a), &wide(&b));
            if is_smooth(function, &y, (&a, a_dims), (&b, b_dims), dims, clip) {
                judged += 1;
                let what = std::format!("{} {operand} {dims:?}", function.name());
                assert_slopes(&dx.values::<f32>(), &wanted, &what);
            }
        }
        assert!(judged >= 3, "{} {operand}: {judged} cases away from kinks", function.name());
    }
}

/// Whether no element is within reach of a kink of `function` or of the clip.
fn is_smooth(
    function: BinaryFn,
    y: &[f64],
    (a, a_dims): (&[f32], &[u32]),
    (b, b_dims): (&[f32], &[u32]),
    dims: &[u32],
    clip: bool,
) -> bool {
    let near = |v: f64, kink: f64| (v - kink).abs() < 0.01;
    let pairs = indices(dims);
    let pairs = pairs.iter().map(|i| (f64::from(a[position(a_dims, i)]), f64::from(b[position(b_dims, i)])));
    let kink = |(a, b): (f64, f64)| match function {
        BinaryFn::Max | BinaryFn::Min => near(a, b),
        BinaryFn::Prelu => near(a, 0.0),
        BinaryFn::Mod | BinaryFn::Fmod => near(a / b, (a / b).round()),
        _ => false,
    };
    let reach = 0.02;
    !(pairs.into_iter().any(kink)
        || clip && y.iter().any(|y| (y - 0.05).abs() < reach || (y - 1.3).abs() < reach))
}

#[test]
fn a_product_of_codes_is_one_of_reals() {
    let mut random = Random(72);
    let (a, b) = (random.codes(24), random.codes(4));
    let dy = random.floats(24, -1.0, 1.0);
    let open = mask(24, |i| i % 5 != 0);
    let inputs = [&Tensor::new(&[6, 4], &dy), &open, &Tensor::new(&[6, 4], &a), &Tensor::new(&[4], &b)];
    let mut da = Tensor::zeros(DType::F32, &[6, 4]);
    let mut db = Tensor::zeros(DType::F32, &[4]);
    let free = [f32::NEG_INFINITY, f32::INFINITY];
    run(&binary::KERNEL, &attrs(BinaryFn::Mul, 0, free), &inputs, &mut [&mut da], Site::default()).unwrap();
    run(&binary::KERNEL, &attrs(BinaryFn::Mul, 1, free), &inputs, &mut [&mut db], Site::default()).unwrap();
    let passed = |i: usize| if i.is_multiple_of(5) { 0.0 } else { dy[i] };
    for (i, found) in da.values::<f32>().iter().enumerate() {
        assert_eq!(*found, passed(i) * (i32::from(b[i % 4]) + 7) as f32 * 0.25);
    }
    for (j, found) in db.values::<f32>().iter().enumerate() {
        let real = |i: usize| (i32::from(a[i]) - 3) as f64 * 0.5 * f64::from(passed(i));
        let wanted: f64 = (0..6).map(|row| real(row * 4 + j)).sum();
        assert!((f64::from(*found) - wanted).abs() < 1e-3, "{found} is not {wanted}");
    }
}

#[test]
fn products_of_matrices() {
    let mut random = Random(73);
    for (lhs, rhs, out) in [
        (&[3u32, 4][..], &[4u32, 5][..], &[3u32, 5][..]),
        (&[2, 3, 4], &[2, 4, 5], &[2, 3, 5]),
        (&[2, 3, 1, 9], &[3, 9, 11], &[2, 3, 1, 11]),
        (&[7, 2], &[3, 2, 1], &[3, 7, 1]),
    ] {
        let (a, b) = (random.floats(elements(lhs), -1.0, 1.0), random.floats(elements(rhs), -1.0, 1.0));
        let dy = random.floats(elements(out), -1.0, 1.0);
        for (operand, dims) in [(0, lhs), (1, rhs)] {
            let v = random.floats(elements(dims), -1.0, 1.0);
            let (left, right) = if operand == 0 { (&v, &b) } else { (&a, &v) };
            let mut jv = Tensor::zeros(DType::F32, out);
            let moved = [&Tensor::new(lhs, left), &Tensor::new(rhs, right)];
            crate::test_case::run(
                &crate::matmul::KERNEL,
                &crate::attrs::Window::UNIT,
                &moved,
                &mut [&mut jv],
            )
            .unwrap();
            let other = if operand == 0 { Tensor::new(rhs, &b) } else { Tensor::new(lhs, &a) };
            let mut dx = Tensor::zeros(DType::F32, dims);
            let inputs = [&Tensor::new(out, &dy), &other];
            run(&matmul::KERNEL, &MatMulBackwardAttrs { operand }, &inputs, &mut [&mut dx], Site::default())
                .unwrap();
            let (left, right) = (inner(&dy, &jv.values()), inner(&dx.values(), &v));
            assert!((left - right).abs() < 1e-4, "{lhs:?}·{rhs:?} {operand}: {left} is not {right}");
        }
    }
}

#[test]
fn softmax_and_its_logarithm() {
    let mut random = Random(74);
    for (log, dims) in [(0, &[3u32, 7][..]), (1, &[3, 7]), (0, &[1]), (1, &[2, 2, 33])] {
        let len = *dims.last().unwrap() as usize;
        let x = random.floats(elements(dims), -3.0, 3.0);
        let dy = random.floats(x.len(), -1.0, 1.0);
        let forward = |x: &[f64]| -> Vec<f64> {
            let row = |row: &[f64]| -> Vec<f64> {
                let sum: f64 = row.iter().map(|x| x.exp()).sum();
                row.iter().map(|x| if log == 1 { x - sum.ln() } else { x.exp() / sum }).collect()
            };
            x.chunks(len).flat_map(row).collect()
        };
        let wide: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        let y: Vec<f32> = forward(&wide).iter().map(|y| *y as f32).collect();
        let mut dx = Tensor::zeros(DType::F32, dims);
        let inputs = [&Tensor::new(dims, &dy), &Tensor::new(dims, &y)];
        run(&softmax::KERNEL, &SoftmaxAttrs { log }, &inputs, &mut [&mut dx], Site::default()).unwrap();
        assert_slopes(&dx.values::<f32>(), &slopes(&x, &dy, forward), &std::format!("log {log} {dims:?}"));
    }
}

#[test]
fn normalizations() {
    let mut random = Random(75);
    for (kind, axes, dims, scaled) in [
        (LAYER, 1, &[3u32, 7][..], true),
        (LAYER, 2, &[2, 3, 5], false),
        (RMS, 1, &[3, 9], true),
        (LAYER, 1, &[2, 1], false),
    ] {
        let len: usize = dims.iter().rev().take(axes).map(|d| *d as usize).product();
        let x = random.floats(elements(dims), -1.0, 3.0);
        let scale = random.floats(len, -2.0, 2.0);
        let dy = random.floats(x.len(), -1.0, 1.0);
        let attrs = NormAttrs { kind, axes: axes as u32, epsilon: 1e-3 };
        let forward = |x: &[f64]| -> Vec<f64> {
            let row = |row: &[f64]| -> Vec<f64> {
                let mean = if kind == RMS { 0.0 } else { row.iter().sum::<f64>() / len as f64 };
                let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / len as f64;
                let deviation = (variance + f64::from(attrs.epsilon)).sqrt();
                let factor = |i: usize| if scaled { f64::from(scale[i]) } else { 1.0 };
                row.iter().enumerate().map(|(i, x)| (x - mean) / deviation * factor(i)).collect()
            };
            x.chunks(len).flat_map(row).collect()
        };
        let mut dx = Tensor::zeros(DType::F32, dims);
        let (dy_t, x_t, scale_t) =
            (Tensor::new(dims, &dy), Tensor::new(dims, &x), Tensor::new(&[len as u32], &scale));
        let inputs = [&dy_t, &x_t, &scale_t];
        let inputs = &inputs[..if scaled { 3 } else { 2 }];
        run(&norm::KERNEL, &attrs, inputs, &mut [&mut dx], Site::default()).unwrap();
        assert_slopes(&dx.values::<f32>(), &slopes(&x, &dy, forward), &std::format!("{kind} {dims:?}"));
    }
}

/// The scale and shift of a site's terms stand in for the step's own, and have gradients of their own.
#[test]
fn normalizations_at_a_site() {
    let mut random = Random(79);
    for (kind, axes, dims) in
        [(LAYER, 1, &[3u32, 7][..]), (LAYER, 2, &[2, 3, 5]), (RMS, 1, &[4, 9]), (LAYER, 1, &[2, 1])]
    {
        let len: usize = dims.iter().rev().take(axes).map(|d| *d as usize).product();
        let x = random.floats(elements(dims), -1.0, 3.0);
        let [own, scale, shift] = [0; 3].map(|_| random.floats(len, -2.0, 2.0));
        let dy = random.floats(x.len(), -1.0, 1.0);
        let attrs = NormAttrs { kind, axes: axes as u32, epsilon: 1e-3 };
        let affine = |x: &[f64], scale: &[f64], shift: &[f64]| -> Vec<f64> {
            let row = |row: &[f64]| -> Vec<f64> {
                let mean = if kind == RMS { 0.0 } else { row.iter().sum::<f64>() / len as f64 };
                let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / len as f64;
                let deviation = (variance + f64::from(attrs.epsilon)).sqrt();
                let hat = row.iter().map(|x| (x - mean) / deviation);
                hat.zip(scale).zip(shift).map(|((hat, scale), shift)| hat * scale + shift).collect()
            };
            x.chunks(len).flat_map(row).collect()
        };
        let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
        let what = std::format!("{kind} {dims:?}");
        let (dy_t, x_t, own_t) =
            (Tensor::new(dims, &dy), Tensor::new(dims, &x), Tensor::new(&[len as u32], &own));
        let terms = SiteTerms { affine: Some(Affine { scale: &scale, shift: &shift }), ..SiteTerms::NONE };
        let mut y = Tensor::zeros(DType::F32, dims);
        let site = Site { terms, ..Site::default() };
        run(&crate::norm::KERNEL, &attrs, &[&x_t, &own_t], &mut [&mut y], site).unwrap();
        let wanted = affine(&wide(&x), &wide(&scale), &wide(&shift));
        assert_slopes(&y.values::<f32>(), &wanted, &what);
        for outputs in [1, 0] {
            // Gradients of parameters are added to what is there.
            let (mut dscale, mut dshift) = (std::vec![0.5f32; len], std::vec![-0.25f32; len]);
            let mut dx = Tensor::zeros(DType::F32, dims);
            let grads =
                SiteGrads { scale: Some(&mut dscale), shift: Some(&mut dshift), ..SiteGrads::default() };
            let site = Site { terms, grads, accumulate: 0 };
            run(&norm::KERNEL, &attrs, &[&dy_t, &x_t, &own_t], &mut [&mut dx][..outputs], site).unwrap();
            let by_scale = slopes(&scale, &dy, |scale| affine(&wide(&x), scale, &wide(&shift)));
            let by_shift = slopes(&shift, &dy, |shift| affine(&wide(&x), &wide(&scale), shift));
            let moved = |slopes: Vec<f64>, from: f64| slopes.iter().map(|v| v + from).collect::<Vec<f64>>();
            assert_slopes(&dscale, &moved(by_scale, 0.5), &what);
            assert_slopes(&dshift, &moved(by_shift, -0.25), &what);
            if outputs == 1 {
                let by_x = slopes(&x, &dy, |x| affine(x, &wide(&scale), &wide(&shift)));
                assert_slopes(&dx.values::<f32>(), &by_x, &what);
            }
        }
        // Nothing else acts there, and no pair of another length.
        let short = Affine { scale: &scale[1..], shift: &shift[1..] };
        let dense = SiteTerms { dense: Some(&own), ..SiteTerms::NONE };
        for terms in [dense, SiteTerms { affine: Some(short), ..SiteTerms::NONE }] {
            let mut run = |kernel, inputs: &[&Tensor]| {
                run(kernel, &attrs, inputs, &mut [&mut y], Site { terms, ..Site::default() })
            };
            assert_eq!(run(&crate::norm::KERNEL, &[&x_t]), Err(KernelError::Terms(OpCode::Norm)));
            assert_eq!(run(&norm::KERNEL, &[&dy_t, &x_t]), Err(KernelError::Terms(OpCode::NormBackward)));
        }
    }
}

fn reduced(function: ReduceFn, values: &[f64]) -> f64 {
    let sum = |f: fn(f64) -> f64| values.iter().map(|v| f(*v)).sum::<f64>();
    match function {
        ReduceFn::Sum => sum(|v| v),
        ReduceFn::Mean => sum(|v| v) / values.len() as f64,
        ReduceFn::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        ReduceFn::Min => values.iter().copied().fold(f64::INFINITY, f64::min),
        ReduceFn::Prod => values.iter().product(),
        ReduceFn::L1 => sum(f64::abs),
        ReduceFn::L2 => sum(|v| v * v).sqrt(),
        ReduceFn::SumSquare => sum(|v| v * v),
        ReduceFn::LogSum => sum(|v| v).ln(),
        ReduceFn::LogSumExp => sum(f64::exp).ln(),
    }
}

fn reduce_attrs(function: ReduceFn, axes: u32) -> ReduceAttrs {
    let (lo, hi) = (f32::NEG_INFINITY, f32::INFINITY);
    ReduceAttrs { function: function.code(), axes, in_zero_point: 0, out_zero_point: 0, ratio: 1.0, lo, hi }
}

#[test]
fn every_reduction() {
    let mut random = Random(76);
    let dims = [2u32, 3, 4];
    for (&function, axes) in
        ReduceFn::ALL.iter().flat_map(|f| [(f, 0b110u32), (f, 0b001), (f, 0b111), (f, 0)])
    {
        let results: Vec<u32> = (0..3).map(|a| if axes >> a & 1 == 1 { 1 } else { dims[a] }).collect();
        let attrs = reduce_attrs(function, axes);
        let x = random.floats(24, 0.3, 2.0);
        let dy = random.floats(elements(&results), -1.0, 1.0);
        let mut dx = Tensor::zeros(DType::F32, &dims);
        let (dy_t, x_t) = (Tensor::new(&results, &dy), Tensor::new(&dims, &x));
        let inputs = [&dy_t, &x_t];
        let inputs = &inputs[..1 + usize::from(reduce::needs_input(function))];
        run(&reduce::KERNEL, &attrs, inputs, &mut [&mut dx], Site::default()).unwrap();
        let forward = |x: &[f64]| -> Vec<f64> {
            let mut groups = std::vec![Vec::new(); dy.len()];
            for (index, x) in indices(&dims).iter().zip(x) {
                groups[position(&results, index)].push(*x);
            }
            groups.iter().map(|group| reduced(function, group)).collect()
        };
        assert_slopes(
            &dx.values::<f32>(),
            &slopes(&x, &dy, forward),
            &std::format!("{} {axes:b}", function.name()),
        );
    }
}

#[test]
fn a_product_with_zeros_gives_each_element_that_of_the_others() {
    let x = [2.0f32, 0.0, 3.0, 0.0, 5.0, 0.0, 4.0, 0.5, 2.0];
    let mut dx = Tensor::zeros(DType::F32, &[3, 3]);
    let inputs = [&Tensor::new(&[3], &[1.0f32, 1.0, 10.0]), &Tensor::new(&[3, 3], &x)];
    run(&reduce::KERNEL, &reduce_attrs(ReduceFn::Prod, 0b10), &inputs, &mut [&mut dx], Site::default())
        .unwrap();
    assert_eq!(dx.values::<f32>(), [0.0, 6.0, 0.0, 0.0, 0.0, 0.0, 10.0, 80.0, 20.0]);
}

#[test]
fn a_softmax_of_codes_is_one_of_reals_within_its_range() {
    let mut random = Random(77);
    for (scale, dims) in [(0.05f32, [3u32, 7]), (0.2, [2, 33]), (0.11, [4, 1])] {
        let len = dims[1] as usize;
        let codes = random.codes(elements(&dims));
        let dy = random.floats(codes.len(), -1.0, 1.0);
        let attrs = QSoftmaxAttrs { out_zero_point: -128, inv_scale: 256.0 };
        let mut dx = Tensor::zeros(DType::F32, &dims);
        let table = Tensor::new(&[256], &crate::softmax::exp_table(scale));
        let inputs = [&Tensor::new(&dims, &dy), &Tensor::new(&dims, &codes), &table];
        run(&softmax::KERNEL_Q, &attrs, &inputs, &mut [&mut dx], Site::default()).unwrap();
        let reals: Vec<f32> = codes.iter().map(|c| f32::from(*c) * scale).collect();
        let forward = |x: &[f64]| -> Vec<f64> {
            let row = |row: &[f64]| -> Vec<f64> {
                let sum: f64 = row.iter().map(|x| x.exp()).sum();
                row.iter().map(|x| x.exp() / sum).collect()
            };
            x.chunks(len).flat_map(row).collect()
        };
        let wide: Vec<f64> = reals.iter().map(|x| f64::from(*x)).collect();
        // Of 256 steps the last is out of range, and nothing is below the first.
        let open = forward(&wide).into_iter().map(|p| p > 0.0 && p * 256.0 < 255.0);
        let masked: Vec<f32> = dy.iter().zip(open).map(|(dy, open)| if open { *dy } else { 0.0 }).collect();
        assert_slopes(&dx.values::<f32>(), &slopes(&reals, &masked, forward), "softmax of codes");
    }
}

#[test]
fn equal_extremes_of_codes_give_the_first() {
    let x: Vec<i8> = std::vec![3, 9, 9, -4, -4, 2];
    let mut dx = Tensor::zeros(DType::F32, &[2, 3]);
    let inputs = [&Tensor::new(&[2], &[1.0f32, 2.0]), &Tensor::new(&[2, 3], &x)];
    run(&reduce::KERNEL, &reduce_attrs(ReduceFn::Max, 0b10), &inputs, &mut [&mut dx], Site::default())
        .unwrap();
    assert_eq!(dx.values::<f32>(), [0.0, 1.0, 0.0, 0.0, 0.0, 2.0]);
    run(&reduce::KERNEL, &reduce_attrs(ReduceFn::Min, 0b10), &inputs, &mut [&mut dx], Site::default())
        .unwrap();
    assert_eq!(dx.values::<f32>(), [1.0, 0.0, 0.0, 2.0, 0.0, 0.0]);
}
