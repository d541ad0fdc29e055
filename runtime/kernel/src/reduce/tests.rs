//! Reductions against f64.

extern crate std;

use std::vec::Vec;

use super::*;
use crate::test_case::{Random, Tensor, assert_close, indices, requantized, run};

const DIMS: [u32; 4] = [3, 5, 2, 70];

fn attrs(function: ReduceFn, axes: u32) -> ReduceAttrs {
    ReduceAttrs {
        function: function.code(),
        axes,
        in_zero_point: 0,
        out_zero_point: 0,
        ratio: 1.0,
        lo: -128.0,
        hi: 127.0,
    }
}

/// The elements of each result, with the reduced axes kept as 1.
fn groups(x: &[f64], axes: u32) -> (Vec<u32>, Vec<Vec<f64>>) {
    let dims: Vec<u32> = (0..4).map(|i| if axes >> i & 1 == 1 { 1 } else { DIMS[i] }).collect();
    let mut groups = std::vec![Vec::new(); dims.iter().product::<u32>() as usize];
    for (index, &v) in indices(&DIMS).iter().zip(x) {
        groups[crate::test_case::position(&dims, index)].push(v);
    }
    (dims, groups)
}

fn naive(function: ReduceFn, x: &[f64]) -> f64 {
    let sum = |f: fn(f64) -> f64| x.iter().map(|&v| f(v)).sum::<f64>();
    match function {
        ReduceFn::Sum => sum(|v| v),
        ReduceFn::Mean => sum(|v| v) / x.len() as f64,
        ReduceFn::Max => x.iter().fold(f64::NEG_INFINITY, |m, &v| m.max(v)),
        ReduceFn::Min => x.iter().fold(f64::INFINITY, |m, &v| m.min(v)),
        ReduceFn::Prod => x.iter().product(),
        ReduceFn::L1 => sum(f64::abs),
        ReduceFn::L2 => sum(|v| v * v).sqrt(),
        ReduceFn::SumSquare => sum(|v| v * v),
        ReduceFn::LogSum => sum(|v| v).ln(),
        ReduceFn::LogSumExp => sum(f64::exp).ln(),
    }
}

#[test]
fn f32_agrees_with_naive_over_every_set_of_axes() {
    let mut random = Random(101);
    let x = random.floats(2100, 0.5, 1.5);
    let wide: Vec<f64> = x.iter().map(|&v| v as f64).collect();
    for axes in 0..16 {
        let (dims, groups) = groups(&wide, axes);
        for &function in ReduceFn::ALL {
            let mut out = Tensor::zeros(DType::F32, &dims);
            run(&KERNEL_F32, &attrs(function, axes), &[&Tensor::new(&DIMS, &x)], &mut [&mut out]).unwrap();
            let want: Vec<f64> = groups.iter().map(|g| naive(function, g)).collect();
            // The product's error grows with the number of factors.
            let tolerance = if function == ReduceFn::Prod { 2e-4 } else { 1e-5 };
            let want: Vec<f64> = want.into_iter().map(|w| if w.abs() < 1e-37 { 0.0 } else { w }).collect();
            assert_close(&out.values(), &want, tolerance);
        }
    }
}

#[test]
fn integers_agree_with_naive() {
    let mut random = Random(102);
    let x: Vec<i32> = (0..2100).map(|_| random.int(-9, 9)).collect();
    let wide: Vec<f64> = x.iter().map(|&v| v as f64).collect();
    let long: Vec<i64> = x.iter().map(|&v| v as i64).collect();
    for axes in [0, 1, 4, 8, 10, 15] {
        let (dims, groups) = groups(&wide, axes);
        for function in
            [ReduceFn::Sum, ReduceFn::Mean, ReduceFn::Max, ReduceFn::Min, ReduceFn::L1, ReduceFn::SumSquare]
        {
            let want: Vec<i64> = groups.iter().map(|g| naive(function, g) as i64).collect();
            let attrs = attrs(function, axes);
            let mut out = Tensor::zeros(DType::I64, &dims);
            run(&KERNEL_I64, &attrs, &[&Tensor::new(&DIMS, &long)], &mut [&mut out]).unwrap();
            assert_eq!(out.values::<i64>(), want);
            let mut out = Tensor::zeros(DType::I32, &dims);
            run(&KERNEL_I32, &attrs, &[&Tensor::new(&DIMS, &x)], &mut [&mut out]).unwrap();
            assert!(out.values::<i32>().into_iter().map(i64::from).eq(want));
        }
    }
}

#[test]
fn int8_agrees_with_naive() {
    let mut random = Random(103);
    let x = random.codes(2100);
    for (zx, zy, ratio) in [(-128, 127, 0.9), (127, -128, 0.4), (3, -5, 2.0)] {
        let wide: Vec<f64> = x.iter().map(|&v| v as f64 - zx as f64).collect();
        for axes in [2, 8, 14, 15] {
            let (dims, groups) = groups(&wide, axes);
            for function in [ReduceFn::Mean, ReduceFn::Sum, ReduceFn::Max, ReduceFn::Min] {
                let (lo, hi) = ((-128 - zy) as f32, (127 - zy) as f32);
                let attrs = ReduceAttrs {
                    in_zero_point: zx,
                    out_zero_point: zy,
                    ratio,
                    lo,
                    hi,
                    ..attrs(function, axes)
                };
                let mut out = Tensor::zeros(DType::I8, &dims);
                let mut mask = Tensor::zeros(DType::U8, &[(groups.len() as u32).div_ceil(8)]);
                run(&KERNEL_Q, &attrs, &[&Tensor::new(&DIMS, &x)], &mut [&mut out, &mut mask]).unwrap();
                for (i, (group, y)) in groups.iter().zip(out.values::<i8>()).enumerate() {
                    let (exact, factor) = match function {
                        ReduceFn::Mean => (naive(ReduceFn::Sum, group), ratio / group.len() as f32),
                        _ => (naive(function, group), ratio),
                    };
                    // The f32 product of the contract, so that ties fall the same way.
                    let v = (exact as f32 * factor) as f64;
                    assert_eq!(y, requantized(v, lo, hi, zy));
                    let inside = v > lo as f64 && v < hi as f64;
                    assert_eq!(crate::requantize::bit(mask.bytes(), i), inside);
                }
            }
        }
    }
}

#[test]
fn special_values() {
    let reduce = |function, x: &[f32]| {
        let mut out = Tensor::zeros(DType::F32, &[]);
        run(&KERNEL_F32, &attrs(function, 1), &[&Tensor::new(&[x.len() as u32], x)], &mut [&mut out])
            .unwrap();
        out.values::<f32>()[0]
    };
    assert!(reduce(ReduceFn::Max, &[1.0, f32::NAN, 2.0]).is_nan());
    assert!(reduce(ReduceFn::Min, &[1.0, f32::NAN, 2.0]).is_nan());
    assert_eq!(reduce(ReduceFn::LogSumExp, &[f32::NEG_INFINITY; 2]), f32::NEG_INFINITY);
    assert_eq!(reduce(ReduceFn::LogSumExp, &[f32::INFINITY, 0.0]), f32::INFINITY);
    assert_eq!(reduce(ReduceFn::LogSumExp, &[1000.0]), 1000.0);
    assert_eq!(reduce(ReduceFn::Sum, &[]), 0.0);
    let mut out = Tensor::zeros(DType::I32, &[]);
    let empty = Tensor::zeros(DType::I32, &[0]);
    run(&KERNEL_I32, &attrs(ReduceFn::Mean, 1), &[&empty], &mut [&mut out]).unwrap();
    assert_eq!(out.values::<i32>(), [0]);
}

#[test]
fn refuses_unknown_axes_and_functions() {
    let x = Tensor::zeros(DType::F32, &[2, 3]);
    let mut out = Tensor::zeros(DType::F32, &[3]);
    assert!(run(&KERNEL_F32, &attrs(ReduceFn::Sum, 1), &[&x], &mut [&mut out]).is_ok());
    assert!(run(&KERNEL_F32, &attrs(ReduceFn::Sum, 2), &[&x], &mut [&mut out]).is_err());
    assert!(run(&KERNEL_F32, &attrs(ReduceFn::Sum, 5), &[&x], &mut [&mut out]).is_err());
    let unknown = ReduceAttrs { function: 99, ..attrs(ReduceFn::Sum, 1) };
    assert!(run(&KERNEL_F32, &unknown, &[&x], &mut [&mut out]).is_err());
    let x = Tensor::zeros(DType::I32, &[2, 3]);
    let mut out = Tensor::zeros(DType::I32, &[3]);
    assert!(run(&KERNEL_I32, &attrs(ReduceFn::L2, 1), &[&x], &mut [&mut out]).is_err());
}
