//! Binary functions against f64 and i128.

extern crate std;

use std::vec::Vec;

use super::*;
use crate::test_case::{Random, Tensor, assert_close, indices, position, run};

const SHAPES: [[&[u32]; 3]; 5] = [
    [&[3, 5, 7], &[3, 5, 7], &[3, 5, 7]],
    [&[2, 3, 1, 33], &[2, 1, 4, 33], &[2, 3, 4, 33]],
    [&[130], &[], &[130]],
    [&[1], &[4, 5], &[4, 5]],
    [&[6, 1], &[5], &[6, 5]],
];

fn attrs(function: u32) -> BinaryAttrs {
    BinaryAttrs { function, lo: f32::NEG_INFINITY, hi: f32::INFINITY }
}

fn elements(dims: &[u32]) -> usize {
    dims.iter().product::<u32>() as usize
}

fn naive(function: BinaryFn, a: f64, b: f64) -> f64 {
    match function {
        BinaryFn::Add => a + b,
        BinaryFn::Sub => a - b,
        BinaryFn::Mul => a * b,
        BinaryFn::Div => a / b,
        BinaryFn::Max => a.max(b),
        BinaryFn::Min => a.min(b),
        BinaryFn::Pow => a.powf(b),
        BinaryFn::Mod => a - b * (a / b).floor(),
        BinaryFn::Fmod => a - b * (a / b).trunc(),
        BinaryFn::Prelu => {
            if a < 0.0 {
                a * b
            } else {
                a
            }
        }
    }
}

#[test]
fn f32_agrees_with_naive_under_broadcasting() {
    let mut random = Random(111);
    for [a, b, c] in SHAPES {
        for &function in BinaryFn::ALL {
            // A negative base has no real power.
            let lowest = if function == BinaryFn::Pow { 0.1 } else { -3.0 };
            let x = random.floats(elements(a), lowest, 3.0);
            let y = random.floats(elements(b), -3.0, 3.0);
            let mut out = Tensor::zeros(DType::F32, c);
            let inputs = [&Tensor::new(a, &x), &Tensor::new(b, &y)];
            run(&KERNEL_F32, &attrs(function.code()), &inputs, &mut [&mut out]).unwrap();
            let want: Vec<f64> = indices(c)
                .iter()
                .map(|i| naive(function, x[position(a, i)] as f64, y[position(b, i)] as f64))
                .collect();
            assert_close(&out.values(), &want, 1e-4);
        }
    }
}

#[test]
fn fused_clip_and_special_values() {
    let eval = |function: BinaryFn, lo, hi, a: f32, b: f32| {
        let mut out = Tensor::zeros(DType::F32, &[1]);
        let attrs = BinaryAttrs { function: function.code(), lo, hi };
        run(&KERNEL_F32, &attrs, &[&Tensor::new(&[1], &[a]), &Tensor::new(&[1], &[b])], &mut [&mut out])
            .unwrap();
        out.values::<f32>()[0]
    };
    let open = (f32::NEG_INFINITY, f32::INFINITY);
    assert_eq!(eval(BinaryFn::Add, 0.0, 6.0, 5.0, 4.0), 6.0);
    assert_eq!(eval(BinaryFn::Sub, 0.0, 6.0, 4.0, 5.0), 0.0);
    assert_eq!(eval(BinaryFn::Div, open.0, open.1, 1.0, 0.0), f32::INFINITY);
    for function in [BinaryFn::Max, BinaryFn::Min, BinaryFn::Add] {
        assert!(eval(function, open.0, open.1, f32::NAN, 1.0).is_nan());
        assert!(eval(function, open.0, open.1, 1.0, f32::NAN).is_nan());
    }
    assert_eq!(eval(BinaryFn::Fmod, open.0, open.1, -5.5, 2.0), -1.5);
    assert_eq!(eval(BinaryFn::Mod, open.0, open.1, -5.5, 2.0), 0.5);
}

#[test]
fn integers_wrap_and_never_panic() {
    let edges = [i32::MIN, i32::MIN + 1, -7, -1, 0, 1, 2, 31, i32::MAX];
    let pairs: Vec<(i32, i32)> = edges.iter().flat_map(|&a| edges.map(|b| (a, b))).collect();
    let (a, b): (Vec<i32>, Vec<i32>) = pairs.iter().copied().unzip();
    let long = |v: &[i32]| Tensor::new(&[81], &v.iter().map(|&v| v as i64).collect::<Vec<_>>());
    for &function in BinaryFn::ALL {
        let mut out = Tensor::zeros(DType::I32, &[81]);
        let inputs = [&Tensor::new(&[81], &a), &Tensor::new(&[81], &b)];
        run(&KERNEL_I32, &attrs(function.code()), &inputs, &mut [&mut out]).unwrap();
        for (&(a, b), y) in pairs.iter().zip(out.values::<i32>()) {
            let (x, w) = (a as i128, b as i128);
            let want = match function {
                BinaryFn::Add => x + w,
                BinaryFn::Sub => x - w,
                BinaryFn::Mul => x * w,
                BinaryFn::Div => x.checked_div(w).unwrap_or(0),
                BinaryFn::Max => x.max(w),
                BinaryFn::Min => x.min(w),
                BinaryFn::Pow if w >= 0 => (0..w.min(64)).fold(1i128, |p, _| (p * x) as i32 as i128),
                BinaryFn::Mod if w != 0 => (x % w + w) % w,
                BinaryFn::Fmod => x.checked_rem(w).unwrap_or(0),
                BinaryFn::Prelu => {
                    if a < 0 {
                        x * w
                    } else {
                        x
                    }
                }
                BinaryFn::Mod => 0,
                BinaryFn::Pow => continue,
            };
            // Powers beyond 64 are checked where they are 0 or ±1.
            if function == BinaryFn::Pow && b > 64 && !(-1..=1).contains(&a) && a % 2 != 0 {
                continue;
            }
            let want = if function == BinaryFn::Pow && a == -1 && b > 64 { 1 - 2 * (w & 1) } else { want };
            assert_eq!(y, want as i32, "{function:?} {a} {b}");
        }
        let mut out = Tensor::zeros(DType::I64, &[81]);
        run(&KERNEL_I64, &attrs(function.code()), &[&long(&a), &long(&b)], &mut [&mut out]).unwrap();
    }
}

#[test]
fn comparisons_and_logic() {
    let x = [1.0f32, 2.0, 2.0, 3.0, f32::NAN, 1.0];
    let y = [2.0f32, 2.0, 1.0, 3.0, 1.0, f32::NAN];
    for &function in CompareFn::ALL {
        let want: Vec<u8> = x
            .iter()
            .zip(&y)
            .map(|(a, b)| match function {
                CompareFn::Equal => a == b,
                CompareFn::Less => a < b,
                CompareFn::LessOrEqual => a <= b,
                CompareFn::Greater => a > b,
                CompareFn::GreaterOrEqual => a >= b,
            })
            .map(u8::from)
            .collect();
        let mut out = Tensor::zeros(DType::Bool, &[6]);
        let inputs = [&Tensor::new(&[6], &x), &Tensor::new(&[6], &y)];
        run(&KERNEL_COMPARE_F32, &attrs(function.code()), &inputs, &mut [&mut out]).unwrap();
        assert_eq!(out.bytes(), want);
        let inputs = [x, y].map(|v| Tensor::new(&[4], &[v[0] as i32, v[1] as i32, v[2] as i32, v[3] as i32]));
        let mut out = Tensor::zeros(DType::Bool, &[4]);
        run(&KERNEL_COMPARE_I32, &attrs(function.code()), &[&inputs[0], &inputs[1]], &mut [&mut out])
            .unwrap();
        assert_eq!(out.bytes(), &want[..4]);
        let inputs = [x, y].map(|v| Tensor::new(&[4], &[v[0] as i64, v[1] as i64, v[2] as i64, v[3] as i64]));
        run(&KERNEL_COMPARE_I64, &attrs(function.code()), &[&inputs[0], &inputs[1]], &mut [&mut out])
            .unwrap();
        assert_eq!(out.bytes(), &want[..4]);
    }
    let a = Tensor::new(&[2, 1], &[0u8, 1]).cast(DType::Bool);
    let b = Tensor::new(&[2], &[0u8, 1]).cast(DType::Bool);
    for (kernel, function, want) in [
        (&KERNEL_BOOL, LogicFn::And.code(), [0, 0, 0, 1]),
        (&KERNEL_BOOL, LogicFn::Or.code(), [0, 1, 1, 1]),
        (&KERNEL_BOOL, LogicFn::Xor.code(), [0, 1, 1, 0]),
        (&KERNEL_COMPARE_BOOL, CompareFn::Equal.code(), [1, 0, 0, 1]),
    ] {
        let mut out = Tensor::zeros(DType::Bool, &[2, 2]);
        run(kernel, &attrs(function), &[&a, &b], &mut [&mut out]).unwrap();
        assert_eq!(out.bytes(), want);
    }
}

#[test]
fn codes_are_disjoint_and_round_trip() {
    for code in 0..64 {
        let known = [
            BinaryFn::from_code(code).map(BinaryFn::code),
            CompareFn::from_code(code).map(CompareFn::code),
            LogicFn::from_code(code).map(LogicFn::code),
        ];
        assert!(known.iter().flatten().count() <= 1);
        assert!(known.iter().flatten().all(|&back| back == code));
    }
}

#[test]
fn refuses_a_function_of_another_family() {
    let x = Tensor::zeros(DType::F32, &[2]);
    let mut out = Tensor::zeros(DType::F32, &[2]);
    assert!(run(&KERNEL_F32, &attrs(CompareFn::Equal.code()), &[&x, &x], &mut [&mut out]).is_err());
    let crossed = BinaryAttrs { lo: 1.0, hi: 0.0, ..attrs(0) };
    assert!(run(&KERNEL_F32, &crossed, &[&x, &x], &mut [&mut out]).is_err());
}
