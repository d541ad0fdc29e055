//! Softmax against f64.

extern crate std;

use std::vec::Vec;

use super::*;
use crate::test_case::{Random, Tensor, assert_close, run};

fn naive(x: &[f64]) -> Vec<f64> {
    let max = x.iter().fold(f64::NEG_INFINITY, |m, &v| m.max(v));
    let sum: f64 = x.iter().map(|v| (v - max).exp()).sum();
    x.iter().map(|v| (v - max).exp() / sum).collect()
}

#[test]
fn f32_rows_agree_with_naive() {
    let mut random = Random(11);
    for (rows, n) in [(1, 1), (3, 7), (5, 100)] {
        let x = random.floats((rows * n) as usize, -30.0, 30.0);
        let wide: Vec<f64> = x.iter().map(|&v| v as f64).collect();
        let want: Vec<f64> = wide.chunks(n as usize).flat_map(naive).collect();
        let mut out = Tensor::zeros(DType::F32, &[rows, n]);
        let input = Tensor::new(&[rows, n], &x);
        run(&KERNEL, &SoftmaxAttrs { log: 0 }, &[&input], &mut [&mut out]).unwrap();
        assert_close(&out.values(), &want, 1e-6);
        run(&KERNEL, &SoftmaxAttrs { log: 1 }, &[&input], &mut [&mut out]).unwrap();
        let want: Vec<f64> = want.iter().map(|p| p.ln()).collect();
        assert_close(&out.values(), &want, 1e-5);
    }
}

#[test]
fn int8_rows_agree_with_quantized_softmax() {
    let mut random = Random(12);
    for (n, rows, scale) in
        [(2, 1500, 0.05), (10, 500, 0.1), (12, 500, 0.5), (521, 20, 0.02), (1000, 20, 0.11)]
    {
        for (inv_scale, zero_point) in [(256.0, -128), (300.0, -128), (127.0, 0), (256.0, 127)] {
            let attrs = QSoftmaxAttrs { out_zero_point: zero_point, inv_scale };
            let codes = random.codes(n * rows);
            let dims = [rows as u32, n as u32];
            let mut out = Tensor::zeros(DType::I8, &dims);
            let table = Tensor::new(&[256], &exp_table(scale));
            run(&KERNEL_Q, &attrs, &[&Tensor::new(&dims, &codes), &table], &mut [&mut out]).unwrap();
            let real: Vec<f64> = codes.iter().map(|&c| c as f64 * scale as f64).collect();
            // The pair of operators this replaces passes an f32 between them, which decides near ties.
            let want = real.chunks(n).flat_map(naive).map(|p| {
                ((p as f32 as f64 * inv_scale as f64).round_ties_even() + zero_point as f64)
                    .clamp(-128.0, 127.0) as i32
            });
            let mut different = 0;
            for (y, w) in out.values::<i8>().into_iter().zip(want) {
                assert!((y as i32 - w).abs() <= 1, "{y} {w}");
                different += usize::from(y as i32 != w);
            }
            assert!(different * 1000 <= codes.len(), "{different} of {} differ", codes.len());
        }
    }
}

#[test]
fn hostile_table_does_not_panic() {
    let attrs = QSoftmaxAttrs { out_zero_point: 0, inv_scale: 256.0 };
    let (input, mut out) = (Tensor::zeros(DType::I8, &[2, 3]), Tensor::zeros(DType::I8, &[2, 3]));
    for value in [0, i32::MIN, i32::MAX] {
        run(&KERNEL_Q, &attrs, &[&input, &Tensor::new(&[256], &[value; 256])], &mut [&mut out]).unwrap();
    }
    let short = Tensor::zeros(DType::I32, &[255]);
    assert!(run(&KERNEL_Q, &attrs, &[&input, &short], &mut [&mut out]).is_err());
}
