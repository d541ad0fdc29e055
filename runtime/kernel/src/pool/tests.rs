//! Pooling against f64 over explicit taps.

extern crate std;

use std::vec::Vec;

use super::*;
use crate::test_case::{Random, Tensor, assert_close, requantized, run};

struct Case {
    input: [u32; 4],
    output: [u32; 2],
    window: Window,
}

/// Odd extents, asymmetric padding, dilation, windows past the end (ceiling mode).
fn cases() -> Vec<Case> {
    let window = |kernel, stride, dilation, pad| Window { kernel, stride, dilation, pad };
    std::vec![
        Case { input: [1, 5, 7, 3], output: [2, 3], window: window([2, 3], [2, 2], [1, 1], [0; 4]) },
        Case { input: [2, 7, 5, 65], output: [7, 5], window: window([3, 3], [1, 1], [1, 1], [1; 4]) },
        Case { input: [1, 6, 6, 1], output: [3, 4], window: window([3, 3], [2, 2], [1, 1], [0, 1, 1, 1]) },
        Case { input: [1, 9, 8, 4], output: [5, 4], window: window([2, 2], [2, 2], [1, 1], [0; 4]) },
        Case { input: [1, 8, 9, 2], output: [6, 7], window: window([2, 2], [1, 1], [3, 2], [1, 0, 0, 0]) },
        Case { input: [1, 7, 9, 2], output: [5, 4], window: window([3, 3], [2, 3], [2, 3], [3, 4, 3, 3]) },
        Case { input: [3, 4, 11, 130], output: [1, 1], window: window([4, 11], [1, 1], [1, 1], [0; 4]) },
    ]
}

fn attrs(window: Window, kind: u32) -> PoolAttrs {
    let (lo, hi) = (f32::NEG_INFINITY, f32::INFINITY);
    PoolAttrs { window, kind, in_zero_point: 0, out_zero_point: 0, ratio: 1.0, lo, hi }
}

/// The pooled value and its count of taps, tap by tap.
fn naive(case: &Case, kind: u32, x: &[f64], [n, oy, ox, c]: [usize; 4]) -> (f64, f64) {
    let [_, h, w, channels] = case.input.map(|d| d as i64);
    let Window { kernel, stride, dilation, pad } = case.window;
    let (mut max, mut sum, mut inside, mut padded) = (f64::NEG_INFINITY, 0.0, 0.0, 0.0);
    for ky in 0..kernel[0] as i64 {
        for kx in 0..kernel[1] as i64 {
            let y = oy as i64 * stride[0] as i64 - pad[0] as i64 + ky * dilation[0] as i64;
            let x_at = ox as i64 * stride[1] as i64 - pad[1] as i64 + kx * dilation[1] as i64;
            if y < h + pad[2] as i64 && x_at < w + pad[3] as i64 {
                padded += 1.0;
            }
            if (0..h).contains(&y) && (0..w).contains(&x_at) {
                let v = x[(((n as i64 * h + y) * w + x_at) * channels) as usize + c];
                (max, sum, inside) = (f64::max(max, v), sum + v, inside + 1.0);
            }
        }
    }
    match kind {
        MAX => (max, 1.0),
        AVERAGE => (sum, inside),
        _ => (sum, padded),
    }
}

fn expected(case: &Case, kind: u32, x: &[f64]) -> Vec<(f64, f64)> {
    let dims = [case.input[0], case.output[0], case.output[1], case.input[3]];
    let all = crate::test_case::indices(&dims);
    all.iter().map(|i| naive(case, kind, x, [i[0], i[1], i[2], i[3]])).collect()
}

#[test]
fn f32_pools_agree_with_naive() {
    let mut random = Random(3);
    for case in cases() {
        let [n, h, w, c] = case.input;
        let x = random.floats((n * h * w * c) as usize, -2.0, 2.0);
        let wide: Vec<f64> = x.iter().map(|&v| v as f64).collect();
        for kind in [MAX, AVERAGE, AVERAGE_PADDED] {
            let mut out = Tensor::zeros(DType::F32, &[n, case.output[0], case.output[1], c]);
            let input = Tensor::new(&case.input, &x);
            run(&KERNEL, &attrs(case.window, kind), &[&input], &mut [&mut out]).unwrap();
            let want: Vec<f64> = expected(&case, kind, &wide).iter().map(|(v, n)| v / n).collect();
            assert_close(&out.values(), &want, 1e-5);
        }
    }
}

#[test]
fn int8_pools_agree_with_naive() {
    let mut random = Random(4);
    for case in cases() {
        let [n, h, w, c] = case.input;
        let x = random.codes((n * h * w * c) as usize);
        for (kind, zx, zy, ratio) in [
            (MAX, -128, -128, 1.0),
            (MAX, 127, -5, 0.7),
            (AVERAGE, -128, 127, 0.5),
            (AVERAGE, 3, -128, 1.9),
            (AVERAGE_PADDED, 127, 0, 1.0),
        ] {
            let (lo, hi) = ((-128 - zy) as f32, (100 - zy) as f32);
            let attrs = PoolAttrs {
                in_zero_point: zx,
                out_zero_point: zy,
                ratio,
                lo,
                hi,
                ..attrs(case.window, kind)
            };
            let dims = [n, case.output[0], case.output[1], c];
            let mut out = Tensor::zeros(DType::I8, &dims);
            let mut mask = Tensor::zeros(DType::U8, &[(out.shape.elements() as u32).div_ceil(8)]);
            run(&KERNEL_Q, &attrs, &[&Tensor::new(&case.input, &x)], &mut [&mut out, &mut mask]).unwrap();
            let wide: Vec<f64> = x.iter().map(|&v| v as f64 - zx as f64).collect();
            let want = expected(&case, kind, &wide);
            for (i, ((sum, count), y)) in want.into_iter().zip(out.values::<i8>()).enumerate() {
                // The f32 product of the contract, so that ties fall the same way.
                let v = (sum as f32 * (ratio / count as f32)) as f64;
                assert!((v - sum * ratio as f64 / count).abs() < 1e-3);
                assert_eq!(y, requantized(v, lo, hi, zy));
                let inside = v > lo as f64 && v < hi as f64;
                assert_eq!(crate::requantize::bit(mask.bytes(), i), inside);
            }
        }
    }
}

#[test]
fn hostile_geometry_ends_with_an_error_or_a_bounded_loop() {
    let input = Tensor::zeros(DType::F32, &[1, 4, 4, 1]);
    let mut out = Tensor::zeros(DType::F32, &[1, 2, 2, 1]);
    let huge = u32::MAX;
    for (kernel, stride, dilation, pad) in [
        ([0, 1], [1, 1], [1, 1], [0; 4]),
        ([2, 2], [1, 1], [0, 1], [0; 4]),
        ([huge, huge], [huge, huge], [huge, huge], [huge; 4]),
        ([huge, huge], [1, 1], [1, 1], [huge; 4]),
        ([1, 1], [huge, 1], [1, 1], [0; 4]),
    ] {
        let window = Window { kernel, stride, dilation, pad };
        let _ = run(&KERNEL, &attrs(window, AVERAGE_PADDED), &[&input], &mut [&mut out]);
        let _ = crate::test_case::run_unchecked(&KERNEL, &attrs(window, 9), &[&input], &mut [&mut out], 0);
    }
    let window = Window { kernel: [0, 1], ..Window::UNIT };
    assert!(run(&KERNEL, &attrs(window, MAX), &[&input], &mut [&mut out]).is_err());
    assert!(run(&KERNEL, &attrs(Window::UNIT, 3), &[&input], &mut [&mut out]).is_err());
    let mut other = Tensor::zeros(DType::F32, &[1, 4, 4, 2]);
    assert!(run(&KERNEL, &attrs(Window::UNIT, MAX), &[&input], &mut [&mut other]).is_err());
}
