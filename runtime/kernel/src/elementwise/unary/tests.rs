//! Unary functions against f64.

extern crate std;

use std::vec::Vec;

use super::*;
use crate::test_case::{Random, Tensor, assert_close, run};

fn naive(function: UnaryFn, alpha: f64, beta: f64, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let softplus = |x: f64| x.exp().ln_1p();
    match function {
        UnaryFn::Clip => x.max(alpha).min(beta),
        UnaryFn::Sigmoid => sigmoid(x),
        UnaryFn::Tanh => x.tanh(),
        UnaryFn::Exp => x.exp(),
        UnaryFn::Log => x.ln(),
        UnaryFn::Sqrt => x.sqrt(),
        UnaryFn::Erf => libm::erf(x),
        UnaryFn::Abs => x.abs(),
        UnaryFn::Neg => -x,
        UnaryFn::Reciprocal => 1.0 / x,
        UnaryFn::Floor => x.floor(),
        UnaryFn::Ceil => x.ceil(),
        UnaryFn::Round => x.round_ties_even(),
        UnaryFn::Sign => (x > 0.0) as i32 as f64 - (x < 0.0) as i32 as f64,
        UnaryFn::Sin => x.sin(),
        UnaryFn::Cos => x.cos(),
        UnaryFn::HardSigmoid => (alpha * x + beta).clamp(0.0, 1.0),
        UnaryFn::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        UnaryFn::LeakyRelu => x.max(0.0) + alpha * x.min(0.0),
        UnaryFn::Elu => x.max(0.0) + alpha * x.min(0.0).exp_m1(),
        UnaryFn::Selu => beta * (x.max(0.0) + alpha * x.min(0.0).exp_m1()),
        UnaryFn::Gelu => 0.5 * x * (1.0 + libm::erf(x / 2f64.sqrt())),
        UnaryFn::GeluTanh => {
            let inner = (2.0 / core::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        }
        UnaryFn::Mish => x * softplus(x).tanh(),
        UnaryFn::Softplus => softplus(x),
        UnaryFn::Softsign => x / (1.0 + x.abs()),
        UnaryFn::Celu => x.max(0.0) + (alpha * (x / alpha).exp_m1()).min(0.0),
        UnaryFn::ThresholdedRelu => x * (x > alpha) as i32 as f64,
        UnaryFn::Swish => x * sigmoid(alpha * x),
    }
}

#[test]
fn every_function_agrees_with_naive() {
    let mut random = Random(121);
    for &function in UnaryFn::ALL {
        let positive = matches!(function, UnaryFn::Log | UnaryFn::Sqrt | UnaryFn::Reciprocal);
        let mut x = random.floats(333, if positive { 1e-3 } else { -8.0 }, 8.0);
        x.extend(if positive { [0.5, 1.5, 2.5] } else { [0.0, -1.5, 2.5] });
        let (alpha, beta) = (0.3f32, 1.7f32);
        let attrs = UnaryAttrs { function: function.code(), alpha, beta };
        let n = x.len() as u32;
        let mut out = Tensor::zeros(DType::F32, &[n]);
        run(&KERNEL_UNARY, &attrs, &[&Tensor::new(&[n], &x)], &mut [&mut out]).unwrap();
        let want: Vec<f64> =
            x.iter().map(|&x| naive(function, alpha as f64, beta as f64, x as f64)).collect();
        assert_close(&out.values(), &want, 2e-6);
    }
}

#[test]
fn extremes_do_not_make_nan() {
    for x in [f32::MAX, f32::MIN, f32::INFINITY, f32::NEG_INFINITY, -100.0, 100.0] {
        for function in [
            UnaryFn::Sigmoid,
            UnaryFn::Tanh,
            UnaryFn::Softplus,
            UnaryFn::Elu,
            UnaryFn::Erf,
            UnaryFn::HardSigmoid,
            UnaryFn::Clip,
        ] {
            assert!(!function.eval(0.2, 0.5, x).is_nan(), "{function:?} {x}");
        }
    }
    // Relu passes NaN on, as in ONNX Runtime.
    assert!(UnaryFn::Clip.eval(0.0, f32::INFINITY, f32::NAN).is_nan());
}

#[test]
fn not_inverts_and_codes_round_trip() {
    let input = Tensor::new(&[3], &[0u8, 1, 0]).cast(DType::Bool);
    let mut out = Tensor::zeros(DType::Bool, &[3]);
    let attrs = UnaryAttrs { function: 0, alpha: 0.0, beta: 0.0 };
    run(&KERNEL_NOT, &attrs, &[&input], &mut [&mut out]).unwrap();
    assert_eq!(out.bytes(), [1, 0, 1]);
    for &function in UnaryFn::ALL {
        assert_eq!(UnaryFn::from_code(function.code()), Some(function));
    }
    assert_eq!(UnaryFn::from_code(999), None);
}
