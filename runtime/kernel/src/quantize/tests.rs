//! Quantization against f64.

extern crate std;

use std::vec::Vec;

use super::*;
use crate::test_case::{Random, Tensor, requantized, run};

fn attrs(in_scale: f32, in_zero_point: i32, out_scale: f32, out_zero_point: i32) -> QuantizeAttrs {
    let (lo, hi) = ((-128 - out_zero_point) as f32, (127 - out_zero_point) as f32);
    QuantizeAttrs { in_scale, in_zero_point, out_scale, out_zero_point, lo, hi }
}

#[test]
fn quantize_rounds_half_to_even_and_saturates() {
    let mut random = Random(1);
    for zero_point in [-128, -3, 0, 127] {
        // A power of two makes x / scale exact, so f64 agrees in every tie.
        let attrs = attrs(1.0, 0, 0.25, zero_point);
        let mut x: Vec<f32> = (-300..300).map(|i| i as f32 * 0.125).collect();
        x.extend(random.floats(99, -40.0, 40.0));
        x.extend([f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1e-40]);
        let n = x.len() as u32;
        let mut out = Tensor::zeros(DType::I8, &[n]);
        let mut mask = Tensor::zeros(DType::U8, &[n.div_ceil(8)]);
        run(&KERNEL, &attrs, &[&Tensor::new(&[n], &x)], &mut [&mut out, &mut mask]).unwrap();
        for (i, (&x, y)) in x.iter().zip(out.values::<i8>()).enumerate() {
            let v = x as f64 / 0.25;
            assert_eq!(y, requantized(v, attrs.lo, attrs.hi, zero_point), "{x}");
            let inside = v > attrs.lo as f64 && v < attrs.hi as f64;
            assert_eq!(crate::requantize::bit(mask.bytes(), i), inside, "{x}");
        }
    }
}

#[test]
fn nan_becomes_the_zero_point() {
    let mut out = Tensor::zeros(DType::I8, &[1]);
    run(&KERNEL, &attrs(1.0, 0, 0.1, -77), &[&Tensor::new(&[1], &[f32::NAN])], &mut [&mut out]).unwrap();
    assert_eq!(out.values::<i8>(), [-77]);
}

#[test]
fn dequantize_all_codes() {
    let codes: Vec<i8> = (-128..=127).map(|c| c as i8).collect();
    let mut out = Tensor::zeros(DType::F32, &[16, 16]);
    let attrs = attrs(0.3, 127, 1.0, 0);
    run(&KERNEL_DEQUANTIZE, &attrs, &[&Tensor::new(&[16, 16], &codes)], &mut [&mut out]).unwrap();
    for (&c, y) in codes.iter().zip(out.values::<f32>()) {
        assert_eq!(y, (c as f32 - 127.0) * 0.3);
    }
    let mut out = Tensor::zeros(DType::F32, &[2]);
    let words = Tensor::new(&[2], &[i32::MIN, 1 << 20]);
    run(&KERNEL_DEQUANTIZE_I32, &attrs, &[&words], &mut [&mut out]).unwrap();
    assert_eq!(out.values::<f32>(), [(i32::MAX - 126) as f32 * 0.3, ((1 << 20) - 127) as f32 * 0.3]);
}

#[test]
fn requantize_is_dequantize_then_quantize() {
    let codes: Vec<i8> = (-128..=127).map(|c| c as i8).collect();
    for (in_zero_point, out_zero_point) in [(-128, 127), (5, -9), (127, -128)] {
        let attrs = attrs(0.047, in_zero_point, 0.031, out_zero_point);
        let (mut direct, mut real, mut pair) = (
            Tensor::zeros(DType::I8, &[256]),
            Tensor::zeros(DType::F32, &[256]),
            Tensor::zeros(DType::I8, &[256]),
        );
        let input = Tensor::new(&[256], &codes);
        run(&KERNEL_REQUANTIZE, &attrs, &[&input], &mut [&mut direct]).unwrap();
        run(&KERNEL_DEQUANTIZE, &attrs, &[&input], &mut [&mut real]).unwrap();
        run(&KERNEL, &attrs, &[&real], &mut [&mut pair]).unwrap();
        assert_eq!(direct.values::<i8>(), pair.values::<i8>());
    }
}

#[test]
fn refuses_what_would_not_fit() {
    let input = Tensor::zeros(DType::F32, &[3]);
    let (mut short, mut out) = (Tensor::zeros(DType::I8, &[2]), Tensor::zeros(DType::I8, &[3]));
    let good = attrs(1.0, 0, 0.1, 0);
    assert!(run(&KERNEL, &good, &[&input], &mut [&mut short]).is_err());
    for bad in [
        QuantizeAttrs { out_scale: 0.0, ..good },
        QuantizeAttrs { out_scale: f32::NAN, ..good },
        QuantizeAttrs { out_zero_point: 200, ..good },
        QuantizeAttrs { hi: 128.0, ..good },
        QuantizeAttrs { lo: f32::NAN, ..good },
    ] {
        assert_eq!(
            run(&KERNEL, &bad, &[&input], &mut [&mut out]),
            Err(KernelError::Operands(OpCode::Quantize)),
            "{bad:?}"
        );
    }
}
